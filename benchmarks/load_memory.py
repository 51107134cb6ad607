"""How much memory loading takes: `python -m benchmarks.load_memory`, the peak as a ratio to the size of the checkpoint.

A Llama of random weights is written as bfloat16 shards of half a gigabyte, then loaded by a process of its own, in
bfloat16 and quantised. The ratio counts what the process holds at most beyond what it held before it began to load.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

_SHARD = 500_000_000
_PROGRAM = """
import json, sys
import jax.numpy as jnp
import mmtune
from mmtune.models.load import load
from mmtune.models.quantized_tree import nbytes

def held(name):
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(name))

load("tiny")  # imports and compilers are not what is measured
jnp.zeros(3).block_until_ready()
before = held("VmRSS")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # the peak begins anew
model = load(sys.argv[1], precision="bfloat16", quantize=sys.argv[2] or None)
print(json.dumps({"weights": nbytes(model.variables), "peak": held("VmHWM") - before, "process": held("VmHWM")}))
"""


def write_checkpoint(folder: Path, layers: int) -> int:
    """Writes a Llama of random weights in shards; returns its size in bytes."""
    from safetensors.numpy import save_file

    from mmtune.models.tiny import tiny_tokenizer

    hidden, mlp, heads, kv_heads, vocabulary = 2048, 5632, 32, 4, 32_000
    config = {"model_type": "llama", "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary}
    config |= {"rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": False, "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config))
    tiny_tokenizer().save(folder)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    narrow = hidden // heads * kv_heads
    for layer in range(layers):
        for name, shape in (
            ("self_attn.q_proj", (hidden, hidden)),
            ("self_attn.k_proj", (narrow, hidden)),
            ("self_attn.v_proj", (narrow, hidden)),
            ("self_attn.o_proj", (hidden, hidden)),
            ("mlp.gate_proj", (mlp, hidden)),
            ("mlp.up_proj", (mlp, hidden)),
            ("mlp.down_proj", (hidden, mlp)),
            ("input_layernorm", (hidden,)),
            ("post_attention_layernorm", (hidden,)),
        ):
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    noise = np.random.default_rng(0).normal(0, 0.02, 2**20).astype(ml_dtypes.bfloat16)
    places: dict[str, str] = {}
    waiting: dict[str, np.ndarray] = {}
    total = written = 0
    for number, (name, shape) in enumerate(shapes.items(), start=1):
        waiting[name] = np.resize(noise, shape)
        total += waiting[name].nbytes
        if total - written > _SHARD or number == len(shapes):
            file = f"model-{len(set(places.values())) + 1:05d}.safetensors"
            save_file(waiting, folder / file)
            places |= dict.fromkeys(waiting, file)
            waiting, written = {}, total
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return total


def main() -> None:
    """Writes the checkpoint, loads it in each form and prints what that took."""
    parser = argparse.ArgumentParser(description="Measure the memory of loading.")
    parser.add_argument("--layers", type=int, default=21, help="of the model; 21 make two gigabytes")
    layers = parser.parse_args().layers
    with tempfile.TemporaryDirectory() as place:
        size = write_checkpoint(Path(place), layers)
        print(f"checkpoint: {size / 1e9:.3f} GB in {len(list(Path(place).glob('*.safetensors')))} shards")
        for form in ("", "int8", "int4"):
            said = subprocess.run(
                [sys.executable, "-c", _PROGRAM, place, form], capture_output=True, text=True, check=True
            )
            found = json.loads(said.stdout.splitlines()[-1])
            print(
                f"{form or 'bfloat16'}: weights {found['weights'] / size:.3f} of the checkpoint, peak while loading "
                f"{found['peak'] / size:.3f}, whole process {found['process'] / size:.3f}"
            )


if __name__ == "__main__":
    main()
