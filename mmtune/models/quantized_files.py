"""Quantised weights in a file of their own, which only mmtune reads: small on disk, and loaded without any widening."""

from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.files import save_tensors
from mmtune.models.build import build_backbone
from mmtune.models.folder_files import QUANTIZED
from mmtune.models.hf_config import read_config
from mmtune.models.hf_load import Loaded
from mmtune.models.hf_names import links
from mmtune.models.quantized_tree import check_scheme, members, quantized_tree, scheme_of
from mmtune.models.safetensor_files import numpy_dtype, read_header
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree, model_variables

_SCHEME = "quantize"
_PARTS = ("values", "scale")


def write_quantized(folder: Path, spec: ModelSpec, variables: Tree) -> None:
    """Writes the weights of a quantised model."""
    tensors = {name: np.asarray(variable) for name, variable in _named(spec, variables).items()}
    save_tensors(tensors, folder / QUANTIZED, _metadata(variables))


def load_quantized(folder: Path, dtype: str) -> Loaded:
    """Returns a quantised model's weights.

    Args:
        folder: With `config.json` and what `write_quantized` wrote.
        dtype: In memory, of the weights that are not quantised.

    Raises:
        ModelError: When the file is broken, or not of the model that `config.json` describes.
    """
    from safetensors import SafetensorError, safe_open

    file = folder / QUANTIZED
    places = read_header(file)
    try:
        with safe_open(file, "numpy") as tensors:
            scheme = (tensors.metadata() or {}).get(_SCHEME, "")
            check_scheme(scheme)
            spec = read_config(folder, has_head="lm_head.weight.values" in places)
            backbone = build_backbone(spec, dtype)
            variables = quantized_tree(spec, model_variables(backbone), scheme)
            for name, variable in _named(spec, variables).items():
                if name not in places:
                    raise ModelError(f"{file}: expected the tensor {name}, found none")
                found = places[name]
                if found.shape != tuple(variable.shape):
                    raise ModelError(
                        f"{file}: the tensor {name} has shape {list(found.shape)}, config.json makes it "
                        f"{list(variable.shape)}"
                    )
                variable.assign(tensors.get_tensor(name).astype(numpy_dtype(str(variable.dtype))))
    except SafetensorError as error:
        raise ModelError(f"{file}: no readable safetensors file: {error}") from error
    return Loaded(backbone, spec, variables)


def _named(spec: ModelSpec, variables: Tree) -> dict[str, Any]:
    """Returns each variable by the checkpoint's name of its weight, values and scale apart."""
    named: dict[str, Any] = {}
    for link in links(spec, variables):
        held = members(link.leaf)
        names = [link.name] if len(held) == 1 else [f"{link.name}.{part}" for part in _PARTS]
        named |= dict(zip(names, held, strict=True))
    return named


def _metadata(variables: Tree) -> dict[str, str]:
    return {_SCHEME: scheme_of(variables) or ""}
