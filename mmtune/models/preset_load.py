"""A Keras preset into a KerasHub backbone: what it computes is known before its weights are fetched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.models.build import build_backbone, without_values
from mmtune.models.preset_files import check_weights, preset_class, preset_dtype, tied_embeddings
from mmtune.models.preset_images import read_converter
from mmtune.models.spec import ModelSpec, check_class, read_spec


def read_preset(place: str) -> ModelSpec:
    """Returns the description of a preset; of a remote one, only the small files are fetched.

    Args:
        place: Folder, name or address of the preset.

    Raises:
        ModelError: When it is of no supported family, or a file of it is broken; names the file.
    """
    import keras_hub

    with _sentences(place):
        check_class(preset_class(place))
        preset_dtype(place)
        with without_values():
            spec = read_spec(keras_hub.models.Backbone.from_preset(place, load_weights=False))
        return spec if spec.vision is None else replace(spec, vision=read_converter(place, spec.vision))


def load_preset(place: str, spec: ModelSpec) -> tuple[Any, ModelSpec]:
    """Returns the backbone of a preset with its weights, and the description that they bear out.

    Weights in int8 are dequantized to float32.

    Args:
        place: Folder, name or address of the preset.
        spec: What `read_preset` returned.

    Raises:
        ModelError: When the weights are broken, or those of another model; names the file where KerasHub does.
    """
    import keras_hub

    with _sentences(place):
        if Path(place).is_dir():
            check_weights(Path(place))
        dtype, options = preset_dtype(place), {}
        # KerasHub writes a Llama with tied embeddings, but not that they are.
        if spec.family == "llama" and dtype is None and tied_embeddings(place):
            options, spec = {"tie_word_embeddings": True}, replace(spec, text=replace(spec.text, tied=True))
        backbone = keras_hub.models.Backbone.from_preset(place, dtype=dtype, **options)
        return (backbone if dtype is None else _dequantized(backbone, spec)), spec


def _dequantized(backbone: Any, spec: ModelSpec) -> Any:
    """Returns a float32 backbone of what int8 weights stand for."""
    wide = build_backbone(spec, "float32", name=backbone.name)
    held = {variable.path: variable for variable in backbone.weights}
    for variable in wide.weights:
        values = np.asarray(held[variable.path])
        scale = held.get(f"{variable.path}_scale")
        if scale is not None:
            # An embedding has a scale a row, anything else one an output, with axes of length 1 in front.
            scale = np.asarray(scale, np.float32)
            rows = variable.name == "embeddings"
            values = values / (scale[:, None] if rows else scale.reshape(scale.shape[-min(scale.ndim, values.ndim) :]))
        variable.assign(values.astype(np.float32))
    return wide


@contextmanager
def _sentences(place: str) -> Iterator[None]:
    """Turns what KerasHub raises into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{place}: the preset cannot be loaded: {reason}") from error
