"""Which axis of which weight is divided over which axis of the mesh.

Over "model" the products of a layer are divided, as tensor parallelism does it: the first of two products by its
columns, the second by its rows, so that one exchange between the devices follows. Over "data", along which the batch
is divided, the other axis of each matrix is divided too, as full sharding does it. The layouts that Keras has for Gemma
do the same; here they cover PaliGemma's vision tower, Llama, adapters and quantised weights.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

Axes = tuple[str | None, ...]
Units = tuple[int | None, ...]


class Rule(NamedTuple):
    """Where the weights lie whose whole path a pattern matches.

    Attributes:
        pattern: A regular expression of the path.
        axes: For each axis of the weight the mesh's axis that divides it, None: none does; empty: the weight is whole
            on every device.
    """

    pattern: str
    axes: Axes


WHOLE: Axes = ()
_DECODER = r"(.*/)?decoder_block_\d+"
_LLAMA = r"(.*/)?transformer_layer_\d+"
_TOWER = r"(.*/)?encoder_block_\d+"
_FEW = r"quantized/.*"
_LORA = r"(.*/)?lora/.*"
_BY_COLUMNS = "([qkv]_proj|gate_proj|up_proj|fc1)"

RULES: tuple[Rule, ...] = (
    # Embeddings by vocabulary; Llama's untied head by its columns, which are the vocabulary.
    Rule(r"(.*/)?token_embedding/embeddings", ("model", "data")),
    Rule(r"(.*/)?token_embedding/reverse_embeddings", ("data", "model")),
    # Gemma and PaliGemma: kernels of attention are (heads, width, head) and (heads, head, width).
    Rule(rf"{_DECODER}/attention/(query|key|value)/kernel", ("model", "data", None)),
    Rule(rf"{_DECODER}/attention/attention_output/kernel", ("model", None, "data")),
    Rule(rf"{_DECODER}/ffw_gating(_2)?/kernel", ("data", "model")),
    Rule(rf"{_DECODER}/ffw_linear/kernel", ("model", "data")),
    # Llama: (width, heads, head) and (heads, head, width).
    Rule(rf"{_LLAMA}/self_attention/(query|key|value)/kernel", ("data", "model", None)),
    Rule(rf"{_LLAMA}/self_attention/attention_output/kernel", ("model", None, "data")),
    Rule(rf"{_LLAMA}/feedforward_(intermediate|gate)_dense/kernel", ("data", "model")),
    Rule(rf"{_LLAMA}/feedforward_output_dense/kernel", ("model", "data")),
    # The vision tower: plain matrices with biases.
    Rule(rf"{_TOWER}/multi_head_attention/(query|key|value)_proj/kernel", ("data", "model")),
    Rule(rf"{_TOWER}/multi_head_attention/(query|key|value)_proj/bias", ("model",)),
    Rule(rf"{_TOWER}/multi_head_attention/out_proj/kernel", ("model", "data")),
    Rule(rf"{_TOWER}/mlp_dense_1/kernel", ("data", "model")),
    Rule(rf"{_TOWER}/mlp_dense_1/bias", ("model",)),
    Rule(rf"{_TOWER}/mlp_dense_2/kernel", ("model", "data")),
    Rule(rf"{_TOWER}/(multi_head_attention/out_proj|mlp_dense_2)/bias", WHOLE),
    Rule(r"(.*/)?image_classifier/kernel", ("data", None)),
    Rule(r"(.*/)?(image_classifier|embedding_conv)/bias", WHOLE),
    Rule(r"(.*/)?embedding_conv/kernel", (None, None, None, "data")),
    Rule(r"(.*/)?position_embedding/embeddings", (None, "data")),
    # Norms are small and needed everywhere.
    Rule(r"(.*/)?[a-z_]*(norm|normalization|layernorm)(_\d+)?/(scale|gamma|beta)", WHOLE),
    # Adapters follow what they stand on: columns where it is divided by columns, rows where by rows.
    Rule(rf"{_LORA}_{_BY_COLUMNS}_b", (None, "model")),
    Rule(rf"{_LORA}_{_BY_COLUMNS}_magnitude", ("model",)),
    Rule(rf"{_LORA}_(o_proj|down_proj|out_proj|fc2)_a", ("model", None)),
    Rule(rf"{_LORA}_(a|b|magnitude)", WHOLE),
    # Quantised weights are matrices (inputs, outputs) under names of our own; a scale stands for a group of inputs.
    Rule(rf"{_FEW}/embedding/(values|scale)", ("model", "data")),
    Rule(rf"{_FEW}/head/(values|scale)", ("data", "model")),
    Rule(rf"{_FEW}/{_BY_COLUMNS}/(values|scale)", ("data", "model")),
    Rule(rf"{_FEW}/(o_proj|down_proj|out_proj|fc2)/(values|scale)", ("model", "data")),
    Rule(rf"{_FEW}/(values|scale)", ("data", None)),
    # What a trainer has beside the model.
    Rule(r"(.*/)?(dense_head_[a-z]+|seed_generator_state)", WHOLE),
)
"""Ours, for every family; a weight takes the first rule that matches."""


def find(path: str, rules: Iterable[Rule]) -> Rule | None:
    """Returns the first rule that matches a whole path, None where none does."""
    return next((rule for rule in rules if re.fullmatch(rule.pattern, path)), None)


class Fitted(NamedTuple):
    """Axes that divide a weight without rest, and no attention head.

    Attributes:
        axes: For each axis of the weight the mesh's axis, or None.
        whole: The mesh's axes that were wished for and do not divide it.
    """

    axes: Axes
    whole: tuple[str, ...]


def fit(axes: Axes, shape: tuple[int, ...], mesh: Mapping[str, int], units: Units = ()) -> Fitted:
    """Returns the axes of a rule that divide a weight of this shape on a mesh; the others are left whole.

    >>> fit(("model", "data", None), (1, 160, 40), {"data": 2, "model": 4})
    Fitted(axes=(None, 'data', None), whole=('model',))
    >>> fit((None, "model"), (8, 512), {"model": 4}, (None, 2))
    Fitted(axes=(None, None), whole=('model',))

    Args:
        axes: Of the rule.
        shape: Of the weight.
        mesh: Devices along each axis.
        units: As of `in_units`; empty: nothing is kept together.

    Raises:
        ValueError: When the rule is for a weight with another number of axes.
    """
    wished = axes or (None,) * len(shape)
    if len(wished) != len(shape):
        raise ValueError(f"expected {len(shape)} axes for a weight of shape {shape}, got {axes}")
    kept: list[str | None] = []
    for axis, size, unit in zip(wished, shape, units or (None,) * len(shape), strict=True):
        devices = mesh.get(axis or "", 1)
        kept.append(None if size % devices or (unit or devices) % devices else axis)
    whole = tuple(axis for axis, found in zip(wished, kept, strict=True) if axis and found is None)
    return Fitted(tuple(kept), whole)


_units: ContextVar[Units] = ContextVar("units", default=())


@contextmanager
def in_units(units: Units) -> Iterator[None]:
    """Marks weights that are made in this block: devices get whole units of their axes.

    An axis of a matrix may hold several attention heads, one after the other. As the kernels that have an axis for
    heads, it is divided between heads and not within one.

    Args:
        units: For each axis of the weights the number of units in it; None: each place is one.
    """
    token = _units.set(units)
    try:
        yield
    finally:
        _units.reset(token)


def units_of(variable: Any) -> Units:
    """Returns the units of a variable, which it keeps from the block that it is made in; empty for one without."""
    if not hasattr(variable, "units"):
        variable.units = _units.get()
    return variable.units
