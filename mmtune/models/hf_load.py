"""A checkpoint or a GGUF file into a KerasHub backbone, tensor by tensor straight to its place, device and dtype."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.errors import ModelError
from mmtune.models.build import build_backbone
from mmtune.models.gguf_files import GgufFile
from mmtune.models.gguf_tokenizer import gguf_tokenizer
from mmtune.models.hf_config import read_config, spec_of
from mmtune.models.hf_names import HEAD, Link, canonical, links
from mmtune.models.quantized_tree import encoded, fill, members, quantized_tree
from mmtune.models.safetensor_files import Place, TensorFiles, contiguous
from mmtune.models.spec import ModelSpec
from mmtune.models.tokenizer import Tokenizer
from mmtune.models.weights import Tree, model_variables

# Larger tensors are copied a few rows at a time: the peak is then the model and this much more.
_PIECE = 16 * 2**20
# Tables that other libraries computed and stored; and a pooling head that PaliGemma never asks.
_COMPUTED, _UNUSED = ("rotary_emb.inv_freq", "position_ids"), "vision_tower.head."


class Loaded(NamedTuple):
    """A model without its vocabulary.

    Attributes:
        backbone: The backbone.
        spec: The description by which it computes.
        variables: Its weights under the names of the forward pass; those that are quantised are not the backbone's.
    """

    backbone: Any
    spec: ModelSpec
    variables: Tree


def load_checkpoint(folder: Path, dtype: str, quantize: str | None = None) -> Loaded:
    """Returns a model's weights.

    Args:
        folder: With `config.json` and safetensors files.
        dtype: Of the weights in memory.
        quantize: "int8" or "int4": keep them in so few bits; None: all in `dtype`.

    Raises:
        ModelError: When the checkpoint is broken or not of a supported family; names file and tensor.
    """
    files = TensorFiles(folder)
    names = _canonical_names(files)
    spec = read_config(folder, has_head=HEAD in names)
    return _filled(spec, files, names, dtype, quantize)


def load_gguf(file: Path, dtype: str, quantize: str | None = None) -> tuple[Loaded, Tokenizer]:
    """Returns weights and vocabulary of a GGUF file, its weights made wide again.

    Args:
        file: llama.cpp's file of a Llama, Gemma or Gemma 2.
        dtype, quantize: As for `load_checkpoint`.

    Raises:
        ModelError: When the file is broken or not of a supported family; names file and tensor.
        UsageError: When the package gguf is not installed.
    """
    files = GgufFile(file)
    spec = spec_of(files.config(), file, has_head=HEAD in files)
    tokenizer = gguf_tokenizer(files)
    return _filled(spec, files, {name: name for name in files}, dtype, quantize), tokenizer


class _Files(Protocol):
    path: Path

    def __getitem__(self, name: str) -> Place: ...

    def read(self, name: str, rows: slice = ...) -> np.ndarray: ...


def _filled(spec: ModelSpec, files: _Files, names: Mapping[str, str], dtype: str, quantize: str | None) -> Loaded:
    """Returns a backbone with the weights of files; `names` are the tensors' by their canonical ones."""
    # Before anything is built: numbers that the tensors bear out are of a size that can be.
    _check_shapes(_telling(spec), files, names)
    backbone = build_backbone(spec, dtype)
    variables = model_variables(backbone)
    if quantize is not None:
        variables = quantized_tree(spec, variables, quantize)
    weights = links(spec, variables)
    _check_shapes({link.name: link.shape for link in weights}, files, names)
    _check_left(weights, files, names, spec)
    for link in weights:
        _fill(link, files, names[link.name])
    return Loaded(backbone, spec, variables)


def _canonical_names(files: TensorFiles) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in files:
        if name.endswith(_COMPUTED) or canonical(name).startswith(_UNUSED):
            continue
        former = names.setdefault(canonical(name), name)
        if former != name:
            raise ModelError(f"{files.path}: the tensors {former} and {name} are the same weight under two names")
    return names


def _telling(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of those tensors that show a model's whole size, by canonical name."""
    text, vision = spec.text, spec.vision
    front = "language_model." if vision else ""
    shapes: dict[str, tuple[int, ...]] = {f"{front}embed_tokens.weight": (text.vocabulary_size, text.hidden_dim)}
    for index in range(text.num_layers):
        at = f"{front}layers.{index}"
        shapes[f"{at}.self_attn.q_proj.weight"] = (text.num_heads * text.head_dim, text.hidden_dim)
        shapes[f"{at}.self_attn.k_proj.weight"] = (text.num_kv_heads * text.head_dim, text.hidden_dim)
        shapes[f"{at}.mlp.gate_proj.weight"] = (text.mlp_dim, text.hidden_dim)
    if vision is not None:
        front, patch = "vision_tower.embeddings", (3, vision.patch_size, vision.patch_size)
        shapes[f"{front}.patch_embedding.weight"] = (vision.hidden_dim, *patch)
        shapes[f"{front}.position_embedding.weight"] = (vision.num_tokens, vision.hidden_dim)
        for index in range(vision.num_layers):
            shapes[f"vision_tower.encoder.layers.{index}.mlp.fc1.weight"] = (vision.mlp_dim, vision.hidden_dim)
    return shapes


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], files: _Files, names: Mapping[str, str]) -> None:
    """Raises an error unless each tensor, by its canonical name, is there in its shape."""
    missing = [name for name in shapes if name not in names]
    if missing:
        raise ModelError(f"{files.path}: expected the tensor {missing[0]}, found none{_more(missing)}")
    for name, shape in shapes.items():
        found = files[names[name]]
        if found.shape != shape:
            raise ModelError(
                f"{found.file}: the tensor {names[name]} has shape {list(found.shape)}, the configuration makes it "
                f"{list(shape)}"
            )


def _check_left(weights: Iterable[Link], files: _Files, names: Mapping[str, str], spec: ModelSpec) -> None:
    """Raises an error where there are tensors that no weight takes."""
    left = set(names) - {link.name for link in weights}
    if spec.text.tied:
        left.discard(HEAD)
    if left:
        unknown = sorted(names[name] for name in left)
        raise ModelError(
            f"{files[unknown[0]].file}: the tensor {unknown[0]} belongs to no weight of this model{_more(unknown)}: "
            "the checkpoint is of another architecture than its configuration says, or holds an adapter that is not "
            "merged"
        )


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _fill(link: Link, files: _Files, name: str) -> None:
    leaf, place = link.leaf, files[name]
    if place.size <= _PIECE or link.rows is None:
        fill(leaf, contiguous(link.read(files.read(name))))
        return
    step = max(1, _PIECE * place.shape[0] // place.size)
    variables = members(leaf)
    held = [_zeros(variable) for variable in variables]
    for row in range(0, place.shape[0], step):
        piece = encoded(leaf, contiguous(link.read(files.read(name, slice(row, row + step)))))
        held = [_put(v, jnp.asarray(p, v.dtype), row, link.rows) for v, p in zip(held, piece, strict=True)]
    for variable, value in zip(variables, held, strict=True):
        variable.assign(value)


def _zeros(variable: Any) -> jax.Array:
    """Returns zeros that lie where the variable's values will."""
    make = partial(jnp.zeros, tuple(variable.shape), variable.dtype)
    layout = getattr(variable, "_layout", None)
    layout = getattr(layout, "backend_layout", layout)
    return make() if layout is None else jax.jit(make, out_shardings=layout)()


@partial(jax.jit, donate_argnums=0, static_argnums=3)
def _put(value: jax.Array, piece: jax.Array, start: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(value, piece, start, axis)
