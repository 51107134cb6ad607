"""Names and shapes of weights in Hugging Face's checkpoints, beside ours: one table for reading and for writing.

Every spelling that transformers has written is understood: PaliGemma's with the decoder's layers under
`language_model.model` (up to version 4) or `language_model` (from 5 on), the tower with and without `vision_model`, all
of it with and without "model." in front.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtune.models.modules import text_path, to_kernel, to_matrix
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Link:
    """One weight in both worlds.

    Attributes:
        name: In the checkpoint, as `canonical` spells it.
        leaf: Our variable or array, from `model_variables`.
        read: Maps the checkpoint's array to ours.
        write: Maps ours to the checkpoint's.
        shape: In the checkpoint.
        rows: The axis of ours that the checkpoint's rows lie along, where rows can be read a few at a time.
    """

    name: str
    leaf: Any
    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]
    rows: int | None = None


def canonical(name: str) -> str:
    """Returns a tensor's name in one spelling: without "model." in front, without doubled parents.

    >>> canonical("model.vision_tower.vision_model.post_layernorm.bias")
    'vision_tower.post_layernorm.bias'
    >>> canonical("language_model.model.norm.weight"), canonical("model.norm.weight")
    ('language_model.norm.weight', 'norm.weight')
    >>> canonical("language_model.lm_head.weight")
    'lm_head.weight'
    """
    name = name.removeprefix("model.")
    for former, now in (
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "language_model."),
        ("vision_tower.vision_model.", "vision_tower."),
    ):
        if name.startswith(former):
            return now + name.removeprefix(former)
    return name


def links(spec: ModelSpec, variables: Tree) -> list[Link]:
    """Returns all weights of a model, in the order of its layers.

    Args:
        spec: The model's description.
        variables: `model_variables`: Keras variables or arrays.
    """
    found = [*_text_links(spec, variables["text"])]
    if variables["vision"] is not None:
        found += _vision_links(spec, variables["vision"])
    return found


def _text_links(spec: ModelSpec, text: Tree) -> Iterator[Link]:
    front = "language_model." if spec.vision else ""
    yield _plain(f"{front}embed_tokens.weight", text["embedding"])
    for index, layer in enumerate(text["layers"]):
        at = f"{front}layers.{index}"
        for module, names in (("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")), ("mlp", _MLP)):
            for name in names:
                yield _linear(spec, f"{at}.{module}.{name}", f"{text_path(spec)}.layers.{index}", name, layer[name])
        for ours, theirs in _norms(spec).items():
            yield _plain(f"{at}.{theirs}.weight", layer[ours])
    yield _plain(f"{front}norm.weight", text["norm"])
    if text["head"] is not None:
        yield _turned(HEAD, text["head"])


_MLP = ("gate_proj", "up_proj", "down_proj")


def _norms(spec: ModelSpec) -> dict[str, str]:
    """Returns the layer's norms: Gemma 2 has one after attention, where the others name so the one before the MLP."""
    if spec.text.post_norms:
        return {
            "attention_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "post_mlp_norm": "post_feedforward_layernorm",
        }
    return {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def _vision_links(spec: ModelSpec, vision: Tree) -> Iterator[Link]:
    assert spec.vision is not None
    yield _patches("vision_tower.embeddings.patch_embedding.weight", vision["patch"]["kernel"])
    yield _plain("vision_tower.embeddings.patch_embedding.bias", vision["patch"]["bias"])
    yield _plain("vision_tower.embeddings.position_embedding.weight", vision["positions"])
    for index, layer in enumerate(vision["layers"]):
        at = f"vision_tower.encoder.layers.{index}"
        for ours, theirs in (("attention_norm", "layer_norm1"), ("mlp_norm", "layer_norm2")):
            yield from _norm(f"{at}.{theirs}", layer[ours])
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _dense(f"{at}.self_attn.{name}", layer[name])
        for name in ("fc1", "fc2"):
            yield from _dense(f"{at}.mlp.{name}", layer[name])
    yield from _norm("vision_tower.post_layernorm", vision["norm"])
    yield from _dense("multi_modal_projector.linear", vision["projector"])


def _linear(spec: ModelSpec, name: str, layer: str, module: str, leaf: Any) -> Link:
    """A decoder's projection: (outputs, inputs) there, (inputs, outputs) with the heads apart here."""
    path, shape = f"{layer}.{module}", tuple(leaf.shape)

    def read(array: np.ndarray) -> np.ndarray:
        return to_kernel(spec, path, array.T, shape)

    def write(array: np.ndarray) -> np.ndarray:
        return to_matrix(spec, path, array).T

    return Link(f"{name}.weight", leaf, read, write, write(np.broadcast_to(np.int8(0), shape)).shape)


def _plain(name: str, leaf: Any) -> Link:
    return Link(name, leaf, _same, _same, tuple(leaf.shape), rows=0)


def _turned(name: str, leaf: Any) -> Link:
    return Link(name, leaf, np.transpose, np.transpose, tuple(reversed(leaf.shape)), rows=1)


def _patches(name: str, leaf: Any) -> Link:
    """The patch convolution: (outputs, channels, rows, columns) there, (rows, columns, channels, outputs) here."""
    rows, columns, channels, outputs = leaf.shape
    return Link(
        name,
        leaf,
        lambda array: array.transpose(2, 3, 1, 0),
        lambda array: array.transpose(3, 2, 0, 1),
        (outputs, channels, rows, columns),
    )


def _dense(name: str, leaf: Tree) -> Iterator[Link]:
    yield _turned(f"{name}.weight", leaf["kernel"])
    yield _plain(f"{name}.bias", leaf["bias"])


def _norm(name: str, leaf: Tree) -> Iterator[Link]:
    yield _plain(f"{name}.weight", leaf["scale"])
    yield _plain(f"{name}.bias", leaf["bias"])


def _same(array: np.ndarray) -> np.ndarray:
    return array
