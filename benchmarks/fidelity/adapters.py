"""Low-rank adapters: what trains, what is saved, what is exported."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fidelity.finding import NATS, Finding, versioned
from benchmarks.fidelity.models import SIDE, by_kerashub, by_transformers, by_us, made, question, saved

_RANK = 4
_QUERY_VALUE = ("q_proj", "v_proj")


def adapter_reloaded() -> Finding:
    """KerasHub trains biases of the vision tower too and saves A and B alone (here all got random values)."""
    from mmtune.models.peft_files import WEIGHTS, load_adapter, save_adapter

    model, asked = made("paligemma"), question(SIDE)
    with saved(model) as folder, TemporaryDirectory() as out:
        first, again, ours = (_backbone(folder) for _ in range(3))
        for backbone in (first, again):
            backbone.enable_lora(_RANK)
        _move(first.trainable_variables)
        first.save_lora_weights(f"{out}/adapter.lora.h5")
        again.load_lora_weights(f"{out}/adapter.lora.h5")
        theirs = abs(by_kerashub(again, asked) - by_kerashub(first, asked))

        adapter, fresh = (_lora(ours, vision=True) for _ in range(2))
        _move(adapter.trainable_variables)
        save_adapter(adapter, Path(out) / WEIGHTS[0], "base")
        load_adapter(fresh, Path(out) / WEIGHTS[0])
        mine = abs(by_us(ours, asked, lora=fresh) - by_us(ours, asked, lora=adapter))
    return Finding(
        "An adapter on queries and values of PaliGemma is trained, saved and loaded: by how much does that change how "
        "likely an answer is?",
        "KerasHub",
        version("keras-hub"),
        theirs,
        "not at all",
        0.0,
        mine,
        tolerance=NATS,
        places=4,
    )


def adapter_exported() -> Finding:
    """KerasHub's exporter writes the kernels without the adapter that is on them."""
    from transformers import AutoModelForCausalLM

    from mmtune.model import Model
    from mmtune.models.tiny import tiny_tokenizer

    # A vocabulary that there is, and heads that together are as wide as the hidden states: KerasHub's exporter asks it.
    changes = {"vocab_size": tiny_tokenizer().vocabulary_size, "hidden_size": 64, "num_key_value_heads": 1}
    model, asked = made("gemma", changes), question()

    def exported(folder: str | Path) -> float:
        read = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        return by_transformers(read.eval(), asked)

    with saved(model) as folder, TemporaryDirectory() as out:
        backbone = _backbone(folder)
        backbone.enable_lora(_RANK)
        _move(backbone.trainable_variables)
        backbone.export_to_transformers(f"{out}/theirs")
        theirs = abs(exported(f"{out}/theirs") - by_kerashub(backbone, asked))

        ours = Model(_backbone(folder), tiny_tokenizer(), name="ours")
        _move(ours.add_lora(_config()).trainable_variables)
        mine = abs(exported(ours.export(f"{out}/ours")) - by_us(ours.backbone, asked, lora=ours.lora))
    return Finding(
        "A Gemma with an adapter is exported for transformers: by how much does that change how likely an answer is?",
        "KerasHub",
        version("keras-hub"),
        theirs,
        "not at all",
        0.0,
        mine,
        tolerance=NATS,
        places=4,
    )


def adapter_rank() -> Finding:
    """KerasHub gives each head of a query an A of its own: the sum of all has the rank of heads times rank."""
    import peft

    from mmtune.models.modules import to_matrix

    model = made("gemma")
    with saved(model) as folder:
        theirs, ours = _backbone(folder), _backbone(folder)
    theirs.enable_lora(_RANK)
    _move(theirs.trainable_variables)
    query = theirs.transformer_layers[0].attention.query_dense
    change = np.asarray(query.kernel) - np.asarray(query._kernel)  # (heads, hidden, head_dim)
    lora = _lora(ours)
    _move(lora.trainable_variables)
    path = "model.layers.0.self_attn.q_proj"
    kernel = np.asarray(ours.transformer_layers[0].attention.query_dense.kernel)
    merged = to_matrix(lora.spec, path, lora.merged({p: _kernel(ours, p) for p in lora.table})[path])
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=_RANK, target_modules=list(_QUERY_VALUE)))
    _move_torch(adapted)
    delta = adapted.base_model.model.model.layers[0].self_attn.q_proj.get_delta_weight("default").detach().numpy()
    return Finding(
        f"An adapter of rank {_RANK} changes the query matrix of a Gemma with 4 heads: what rank has the change?",
        "KerasHub",
        version("keras-hub"),
        _rank(change.transpose(1, 0, 2).reshape(change.shape[1], -1)),
        versioned("peft", "PEFT"),
        _rank(delta),
        _rank(merged - to_matrix(lora.spec, path, kernel)),
    )


def adapter_size() -> Finding:
    """An A for each head again, here on the sizes of Gemma 2 9B (no memory is taken for its weights)."""
    import peft
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from mmtune.models.build import build_backbone
    from mmtune.models.hf_config import spec_of

    config = Gemma2Config(
        hidden_size=3584,
        intermediate_size=14336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
    )
    with torch.device("meta"):
        adapted = peft.get_peft_model(
            Gemma2ForCausalLM(config), peft.LoraConfig(r=_RANK, target_modules=list(_QUERY_VALUE))
        )
    spec = spec_of(config.to_dict(), Path("config.json"), has_head=False)
    lora, theirs = _lora(build_backbone(spec, "bfloat16")), build_backbone(spec, "bfloat16")
    theirs.enable_lora(_RANK)
    return Finding(
        f"How many parameters has an adapter of rank {_RANK} on queries and values of Gemma 2 9B?",
        "KerasHub",
        version("keras-hub"),
        sum(int(np.prod(variable.shape)) for variable in theirs.trainable_variables),
        versioned("peft", "PEFT"),
        adapted.get_nb_trainable_parameters()[0],
        lora.count,
    )


def adapter_places() -> Finding:
    """PEFT adapts every module of a name; the vision tower of PaliGemma has modules of the decoder's names."""
    import peft

    model = made("paligemma")
    layers = model.config.text_config.num_hidden_layers
    with saved(model) as folder:
        lora = _lora(_backbone(folder))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=_RANK, target_modules=list(_QUERY_VALUE)))
    return Finding(
        'An adapter is put on "q_proj" and "v_proj" of a PaliGemma with 4 decoder layers: how many modules change?',
        "PEFT",
        version("peft"),
        sum(name.endswith("lora_A.default") for name, _ in adapted.named_modules()),
        "two a decoder layer, the vision tower as it was",
        2 * layers,
        len(lora.table),
    )


def _backbone(folder: Path) -> Any:
    from mmtune.models.hf_load import load_checkpoint

    return load_checkpoint(folder, "float32")[0]


def _config(vision: bool = False) -> Any:
    from mmtune.models.lora_config import LoRA

    return LoRA(rank=_RANK, targets=_QUERY_VALUE, vision=vision)


def _lora(backbone: Any, vision: bool = False) -> Any:
    from mmtune.models.lora import LoraWeights
    from mmtune.models.spec import read_spec
    from mmtune.models.weights import model_variables

    return LoraWeights(_config(vision), read_spec(backbone), model_variables(backbone))


def _kernel(backbone: Any, path: str) -> Any:
    from mmtune.models.modules import linear_kernels
    from mmtune.models.spec import read_spec
    from mmtune.models.weights import model_variables

    return linear_kernels(read_spec(backbone), model_variables(backbone))[path]


def _move(variables: Any) -> None:
    """Gives everything that trains another value, as training does."""
    rng = np.random.default_rng(3)
    for variable in variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))


def _move_torch(model: Any) -> None:
    import torch

    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(0, 0.1)


def _rank(matrix: np.ndarray) -> int:
    """Returns the rank; float32's noise counts as nothing."""
    return int(np.linalg.matrix_rank(np.asarray(matrix, np.float64), tol=1e-4))
