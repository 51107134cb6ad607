"""The linear modules of a model by path: the names that adapters, PEFT files and patterns speak in."""

import re
from typing import Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.models.linear import as_matrix
from mmtune.models.lora_config import LoRA
from mmtune.models.spec import ModelSpec
from mmtune.models.vision import PATH as TOWER
from mmtune.models.vision import PROJECTOR
from mmtune.models.weights import Tree

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_PLAIN_NAME = re.compile(r"\w+")
# Beginnings of module paths before transformers 5 (and before 4.52, which had no "model." in front).
_FORMER = {
    "language_model.model.layers.": "model.language_model.layers.",
    "vision_tower.vision_model.": "model.vision_tower.",
    "model.vision_tower.vision_model.": "model.vision_tower.",
    "multi_modal_projector.": "model.multi_modal_projector.",
}


def text_path(spec: ModelSpec) -> str:
    """Returns the decoder's path, as in transformers' module tree."""
    return "model.language_model" if spec.vision else "model"


def current_path(path: str) -> str:
    """Returns a module path as transformers 5 spells it; earlier versions spelled PaliGemma's otherwise.

    >>> current_path("vision_tower.vision_model.encoder.layers.0.mlp.fc1")
    'model.vision_tower.encoder.layers.0.mlp.fc1'
    """
    for former, now in _FORMER.items():
        if path.startswith(former):
            return now + path.removeprefix(former)
    return path


def linear_kernels(spec: ModelSpec, variables: Tree) -> dict[str, Any]:
    """Returns the kernel of each linear module by path, decoder first, in layer order.

    Args:
        spec: The model's description.
        variables: `model_variables`: Keras variables or arrays.
    """
    kernels = {}
    for index, layer in enumerate(variables["text"]["layers"]):
        path = f"{text_path(spec)}.layers.{index}"
        kernels |= {f"{path}.self_attn.{name}": layer[name] for name in _ATTENTION}
        kernels |= {f"{path}.mlp.{name}": layer[name] for name in _MLP}
    if variables["vision"] is None:
        return kernels
    for index, layer in enumerate(variables["vision"]["layers"]):
        path = f"{TOWER}.layers.{index}"
        kernels |= {f"{path}.self_attn.{n}": layer[n]["kernel"] for n in ("q_proj", "k_proj", "v_proj", "out_proj")}
        kernels |= {f"{path}.mlp.{n}": layer[n]["kernel"] for n in ("fc1", "fc2")}
    kernels[PROJECTOR] = variables["vision"]["projector"]["kernel"]
    return kernels


def matrix_shape(spec: ModelSpec, path: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns (inputs, outputs) of a module whose kernel has `shape` (KerasHub stores attention with three axes)."""
    if len(shape) == 2:
        return shape[0], shape[1]
    if path.endswith("o_proj"):
        return shape[0] * shape[1], shape[2]
    return (shape[1], shape[0] * shape[2]) if spec.text.head_first else (shape[0], shape[1] * shape[2])


def head_units(spec: ModelSpec, path: str) -> tuple[int | None, int | None]:
    """Returns how many attention heads lie side by side in a module's inputs and in its outputs; None: none.

    The vision tower's modules are divided without regard to heads, whatever they are stored as.
    """
    if not path.startswith(f"{text_path(spec)}.layers."):
        return None, None
    heads = {"q_proj": spec.text.num_heads, "k_proj": spec.text.num_kv_heads, "v_proj": spec.text.num_kv_heads}
    name = path.rsplit(".", 1)[-1]
    return (spec.text.num_heads if name == "o_proj" else None), heads.get(name)


def to_kernel(spec: ModelSpec, path: str, matrix: Any, shape: tuple[int, ...]) -> Any:
    """Returns an (inputs, outputs) matrix in the kernel's own shape; the inverse of `to_matrix`."""
    if _heads_lead(spec, path, shape):
        heads, inputs, width = shape
        return matrix.reshape(inputs, heads, width).transpose(1, 0, 2)
    return matrix.reshape(shape)


def to_matrix(spec: ModelSpec, path: str, kernel: Any) -> Any:
    """Returns a kernel as an (inputs, outputs) matrix."""
    shape = tuple(kernel.shape)
    return as_matrix(kernel) if _heads_lead(spec, path, shape) else kernel.reshape(matrix_shape(spec, path, shape))


def kernel_index(
    spec: ModelSpec, path: str, shape: tuple[int, ...], rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns where elements of `to_matrix` lie in a kernel of `shape`, an array of indices an axis."""
    if _heads_lead(spec, path, shape):
        return columns // shape[2], rows, columns % shape[2]
    return np.unravel_index(rows * matrix_shape(spec, path, shape)[1] + columns, shape)


def _heads_lead(spec: ModelSpec, path: str, shape: tuple[int, ...]) -> bool:
    """Whether a kernel is (heads, inputs, head_dim), which a reshape alone does not make a matrix."""
    return len(shape) == 3 and spec.text.head_first and not path.endswith("o_proj")


def select(paths: list[str], config: LoRA) -> list[str]:
    """Returns the paths that an adapter's targets name, in order.

    Raises:
        ModelError: When a target is no regular expression, or matches no module; the message lists the names there are.
    """
    chosen: set[str] = set()
    for target in config.targets:
        if _PLAIN_NAME.fullmatch(target):
            found = {p for p in paths if p.rsplit(".", 1)[-1] == target and (config.vision or not in_vision(p))}
        else:
            found = {p for p in paths if _pattern(target).fullmatch(p)}
        if not found:
            names = sorted({p.rsplit(".", 1)[-1] for p in paths})
            raise ModelError(
                f"lora.targets: '{target}' matches no linear module of this model. Names: {', '.join(names)}; "
                f"patterns are matched against whole paths such as {paths[0]}"
            )
        chosen |= found
    return [path for path in paths if path in chosen]


def _pattern(target: str) -> re.Pattern[str]:
    try:
        return re.compile(target)
    except re.error as error:
        raise ModelError(f"lora.targets: '{target}' is no regular expression: {error}") from error


def in_vision(path: str) -> bool:
    """Whether a module belongs to the vision tower or the projector behind it."""
    return path.startswith((TOWER, PROJECTOR))
