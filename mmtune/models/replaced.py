"""Whole weights that a PEFT adapter brings in place of the base's: its `modules_to_save`, and trained biases."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.models.hf_names import HEAD, Link, canonical, links
from mmtune.models.peft_fields import merging
from mmtune.models.peft_files import CONFIG, PREFIX, adapter_file, is_low_rank
from mmtune.models.quantized_tree import fill
from mmtune.models.safetensor_files import TensorFiles, contiguous

if TYPE_CHECKING:
    from mmtune.model import Model

# What PEFT puts between the name of a module that it adapted and the module's own weights.
_WRAPPED = ".base_layer."


def replace_weights(model: "Model", folder: Path) -> None:
    """Puts an adapter's whole weights into a model; where they do not fit, no weight is touched.

    Args:
        model: The base; `Model.replaced` has the names afterwards.
        folder: PEFT's.

    Raises:
        ModelError: When a tensor belongs to no weight of the model, or has another shape.
    """
    file = adapter_file(folder)
    tensors = TensorFiles(file)
    names = {_weight(name): name for name in tensors if not is_low_rank(name)}
    if not names:
        return
    known = {link.name: link.shape for link in links(model.spec, model.variables)}
    table = "language_model.embed_tokens.weight" if model.spec.vision else "embed_tokens.weight"
    if model.spec.text.tied:
        known[HEAD] = known[table]
    for weight, name in names.items():
        if weight not in known:
            raise ModelError(f"{file}: the tensor {name} belongs to no weight of this model: {merging(folder)}")
        if tensors[name].shape != known[weight]:
            raise ModelError(
                f"{file}: the tensor {name} has shape {list(tensors[name].shape)}, the base's {list(known[weight])} (a "
                f"vocabulary that has grown?): {merging(folder)}"
            )
    arrays = {weight: tensors.read(name) for weight, name in names.items()}
    if model.spec.text.tied and _own_head(arrays, table, folder):
        if model.spec.family != "llama":
            raise ModelError(
                f"{file}: the adapter's output head is not its embeddings, and this model has one table for both: "
                "train it with PEFT's ensure_weight_tying, or without embed_tokens and lm_head in modules_to_save"
            )
        model.untie()
    elif model.spec.text.tied:
        arrays.pop(HEAD, None)
    found: dict[str, Link] = {link.name: link for link in links(model.spec, model.variables)}
    for weight, array in arrays.items():
        fill(found[weight].leaf, contiguous(found[weight].read(array)))
    model.replaced = tuple(sorted(names))


def _weight(name: str) -> str:
    """Returns a tensor's name in a checkpoint, in one spelling."""
    return canonical(name.removeprefix(PREFIX).replace(_WRAPPED, "."))


def _own_head(arrays: Mapping[str, np.ndarray], table: str, folder: Path) -> bool:
    """Whether an adapter's output head differs from its embeddings, which are one tensor in the base.

    PEFT trains a module of `modules_to_save` apart from what it is tied to. Embeddings that stand in the file for
    another reason are still both.
    """
    if HEAD in arrays:
        return table not in arrays or not np.array_equal(arrays[HEAD], arrays[table])
    config: Any = json.loads((folder / CONFIG).read_bytes())
    saved = config.get("modules_to_save") or []
    return table in arrays and any("embed_tokens".endswith(str(name).rsplit(".", 1)[-1]) for name in saved)
