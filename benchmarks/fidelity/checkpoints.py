"""Checkpoints of transformers read by KerasHub, and KerasHub's read by transformers."""

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.fidelity.finding import NATS, Finding, attempt, versioned
from benchmarks.fidelity.models import (
    LLAMA_3_1_ROPE,
    by_kerashub,
    by_transformers,
    by_us,
    made,
    question,
    saved,
)

# 16 image tokens: as many as a head is wide, as at the published 224 pixels (256 and 256); and four times as many.
_SMALL, _LARGE = 56, 112


def gemma2_27b_scale() -> Finding:
    """KerasHub's decoder block overlooks the flag by which queries are scaled by hidden size over heads."""
    model = made("gemma2", {"query_pre_attn_scalar": 12})
    return _read(model, "GemmaBackbone", "Gemma 2 whose `query_pre_attn_scalar` is not the width of a head, as in 27B")


def llama_epsilon() -> Finding:
    """KerasHub's converter does not read `rms_norm_eps`; its own default is 1e-6."""
    model = made("llama3", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5})
    return _read(model, "Llama3Backbone", "Llama 3 with its `rms_norm_eps` of 1e-5")


def llama_3_1_rope() -> Finding:
    """The stretching of positions stands in `rope_parameters` now, of which KerasHub reads the base only."""
    model = made("llama3", {"tie_word_embeddings": False, "rope_parameters": LLAMA_3_1_ROPE})
    return _read(model, "Llama3Backbone", "Llama 3.1, its `rope_parameters` written by transformers 5")


def gemma_rope() -> Finding:
    """KerasHub's converter does not read Gemma's rotary base."""
    model = made("gemma", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}})
    return _read(model, "GemmaBackbone", "Gemma fine-tuned with a rotary base of 50,000")


def paligemma2() -> Finding:
    """KerasHub's converter takes the text model for Gemma 1: no norms behind attention and MLP, no caps, no windows."""
    model = made("paligemma2", {"sliding_window": 99}, {"image_size": _SMALL})
    return _read(model, "PaliGemmaBackbone", "PaliGemma 2 at 224 pixels", _SMALL, _former_names)


def paligemma_448() -> Finding:
    """KerasHub's converter takes the number of image tokens for the width of a head: the same at 224 pixels only."""
    model = made("paligemma", None, {"image_size": _LARGE})
    return _read(model, "PaliGemmaBackbone", "PaliGemma at 448 pixels", _LARGE, _former_names)


def paligemma_names() -> Finding:
    """KerasHub's converter knows the names that transformers wrote up to version 4."""
    model = made("paligemma", None, {"image_size": _SMALL})
    return _read(model, "PaliGemmaBackbone", "PaliGemma at 224 pixels, saved by transformers 5", _SMALL)


def llama_untold_head() -> Finding:
    """KerasHub's converter needs the key; configurations without it mean an own head."""
    model = made("llama3", {"tie_word_embeddings": False})
    what = "Llama 3 whose `config.json` leaves `tie_word_embeddings` to its default"
    return _read(model, "Llama3Backbone", what, change=partial(_without, "tie_word_embeddings"))


def export_gemma2() -> Finding:
    """KerasHub's exporter calls Gemma 2 "gemma", drops two norms a layer and keeps one key and value head."""
    import keras_hub
    from transformers import AutoModelForCausalLM

    from mmtune.models.hf_export import write_checkpoint
    from mmtune.models.hf_load import load_checkpoint
    from mmtune.models.weights import model_variables

    model, asked = made("gemma2"), question()

    def again(folder: str) -> float:
        read = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        return by_transformers(read.eval(), asked)

    with saved(model) as folder, TemporaryDirectory() as out, TemporaryDirectory() as ours:
        theirs: Any = keras_hub.models.GemmaBackbone.from_preset(str(folder))
        theirs.export_to_transformers(out)
        backbone, spec, _ = load_checkpoint(folder, "float32")
        write_checkpoint(Path(ours), spec, model_variables(backbone), "float32")
        return _finding(
            "How likely is an answer by a Gemma 2 exported for transformers?",
            attempt(lambda: again(out)),
            by_transformers(model, asked),
            again(ours),
        )


def _read(
    model: Any, cls: str, what: str, side: int | None = None, change: Callable[[Path], None] | None = None
) -> Finding:
    """Returns how likely an answer is by a checkpoint as each library reads it.

    Args:
        model: The transformers model.
        cls: KerasHub's class.
        what: The checkpoint, in words.
        side: Of the picture in pixels; None: a text model.
        change: What is done to the folder first.
    """
    import keras_hub

    from mmtune.models.hf_load import load_checkpoint

    asked = question(side)
    with saved(model) as folder:
        if change is not None:
            change(folder)
        read: Any = getattr(keras_hub.models, cls).from_preset
        theirs = attempt(lambda: by_kerashub(read(str(folder)), asked))
        loaded = load_checkpoint(folder, "float32")
        ours = by_us(loaded.backbone, asked, loaded.spec)
    return _finding(f"How likely is an answer by {what}?", theirs, by_transformers(model, asked), ours)


def _finding(sentence: str, theirs: Any, truth: float, ours: float) -> Finding:
    peer, reference = version("keras-hub"), versioned("transformers")
    return Finding(sentence, "KerasHub", peer, theirs, reference, truth, ours, tolerance=NATS, places=4)


def _former_names(folder: Path) -> None:
    """Gives the tensors of a PaliGemma the names that KerasHub looks for, those of transformers 4."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    former = {}
    for name, value in load_file(file).items():
        plain = name.removeprefix("model.")
        for now, then in (
            ("language_model.", "language_model.model."),
            ("vision_tower.", "vision_tower.vision_model."),
        ):
            if plain.startswith(now) and not plain.startswith(then):
                plain = then + plain.removeprefix(now)
        former[plain] = value
    save_file(former, file, metadata={"format": "pt"})


def _without(key: str, folder: Path) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config[key]
    file.write_text(json.dumps(config))
