"""Small whole models in every form that is loaded, and the tools to break a copy of one."""

import json
import struct

import gguf
import numpy as np
from backbones import make
from safetensors.numpy import load_file, save_file
from test_gguf import write as write_gguf
from test_json_tokenizer import MADE, NAMES

from mmtune.files import write_json
from mmtune.models.folder_files import INDEX
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import LoRA
from mmtune.models.peft_files import save_adapter
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables

SMALL = {"num_layers": 1, "hidden_dim": 16, "intermediate_dim": 48, "num_query_heads": 2, "num_key_value_heads": 1}
PROCESSOR = {"do_resize": True, "size": {"height": 28, "width": 28}, "resample": 2, "image_mean": [0.5, 0.5, 0.5]}


def write_llama(folder, largest=20_000):
    """Two shards with their index, and a tokenizer.json."""
    folder.mkdir()
    backbone = make("llama3", vocabulary_size=450, **SMALL)
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32", largest=largest)
    (folder / "tokenizer.json").write_text(MADE["bytewise"].to_str(), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", NAMES)
    return backbone


def write_paligemma(folder):
    """One file, a tokenizer.model and a preprocessor_config.json."""
    folder.mkdir()
    backbone = make("paligemma", vocabulary_size=2176, vit_num_layers=1, **SMALL)
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32")
    tiny_tokenizer().save(folder)
    write_json(folder / "preprocessor_config.json", PROCESSOR)


def write_adapter(folder):
    """A PEFT adapter of rank 3 and its base, which lies in a folder within."""
    folder.mkdir()
    backbone = write_llama(folder / "base")
    lora = LoraWeights(LoRA(rank=3, targets=("q_proj",)), read_spec(backbone), model_variables(backbone))
    save_adapter(lora, folder / "adapter_model.safetensors", "base")


def write_preset(folder):
    """A Keras preset."""
    from keras_hub.models import PaliGemmaTokenizer

    backbone = make("paligemma", vocabulary_size=2176, vit_num_layers=1, **SMALL)
    backbone.save_to_preset(str(folder))
    PaliGemmaTokenizer(tiny_tokenizer().proto).save_to_preset(str(folder))


def write_gguf_file(folder):
    """A folder with one GGUF file in it."""
    folder.mkdir()
    write_gguf(folder / "m.gguf", "llama3", make("llama3", vocabulary_size=450, **SMALL))


WRITERS = {
    "llama": write_llama,
    "paligemma": write_paligemma,
    "adapter": write_adapter,
    "preset": write_preset,
    "gguf": write_gguf_file,
}


def write_all(root):
    """Writes each form into a folder of its name, and the tokenizer.json of another kind into `spaced`."""
    for name, write in WRITERS.items():
        write(root / name)
    config({"base_model_name_or_path": str(root / "llama")}, "adapter_config.json")(root / "adapter")
    (root / "spaced").mkdir()
    (root / "spaced" / "tokenizer.json").write_text(MADE["spaced"].to_str(), encoding="utf-8")


def config(changes, file="config.json", inner=None):
    """Changes fields of a JSON file; None takes one out."""

    def change(folder):
        content = json.loads((folder / file).read_text())
        at = content[inner] if inner else content
        at |= changes
        for key in [key for key, value in at.items() if value is None]:
            del at[key]
        (folder / file).write_text(json.dumps(content))

    return change


def content(file, data):
    """Writes other bytes into a file."""
    return lambda folder: (folder / file).write_bytes(data)


def cut(file, keep=0.5):
    """Cuts a file off."""
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[: _length(folder / file, keep)])


def _length(file, keep):
    return int(file.stat().st_size * keep)


def gone(*files):
    """Removes files."""
    return lambda folder: [(folder / file).unlink() for file in files]


def into_folder(file):
    """Puts a folder in a file's place."""

    def change(folder):
        (folder / file).unlink()
        (folder / file).mkdir()

    return change


def tensors(change, file="model.safetensors"):
    """Changes the tensors of a safetensors file."""

    def rewrite(folder):
        held = load_file(folder / file)
        change(held)
        save_file({name: np.ascontiguousarray(value) for name, value in held.items()}, folder / file)

    return rewrite


def header(change, file="model.safetensors", data=b""):
    """Changes the header of a safetensors file, whatever becomes of the numbers behind it."""

    def rewrite(folder):
        raw = (folder / file).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        held = json.loads(raw[8 : 8 + length])
        changed = change(held)
        new = changed if isinstance(changed, bytes) else json.dumps(held).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :] + data)

    return rewrite


def index(change):
    """Changes the weight map of an index."""

    def rewrite(folder):
        held = json.loads((folder / INDEX).read_text())
        change(held["weight_map"], folder)
        (folder / INDEX).write_text(json.dumps(held))

    return rewrite


def gguf_with(architecture="llama", **changes):
    """Writes a GGUF file of a few fields and no tensors."""

    def change(folder):
        writer = gguf.GGUFWriter(folder / "m.gguf", architecture)
        fields = {"block_count": 1, "embedding_length": 16, "feed_forward_length": 16, "head_count": 2} | changes
        for name, value in fields.items():
            if value is not None:
                getattr(writer, f"add_{name}")(value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return change
