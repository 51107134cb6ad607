"""The layout of every weight and optimizer variable: a row each, and what is wrong with them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.sharding.rules import Axes


@dataclass(frozen=True)
class Row:
    """Where one variable lies.

    Attributes:
        path: Of the variable.
        shape: Of the whole variable.
        dtype: Its dtype's name.
        axes: For each axis of the variable the mesh's axis that divides it, or None.
        bytes: On each device.
        weight: For an optimizer's slot the path of its weight, else None.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    bytes: int
    weight: str | None = None

    @property
    def spec(self) -> str:
        """The layout as the table shows it, such as "(model, data, -)"; "whole" for one that nothing divides."""
        return f"({', '.join(axis or '-' for axis in self.axes)})" if any(self.axes) else "whole"


def layout_rows(variables: Iterable[Any], optimizer: Any = None) -> list[Row]:
    """Returns a row a variable: weights first, then the optimizer's.

    Args:
        variables: Keras variables, with or without values.
        optimizer: A built optimizer, or None.
    """
    weights = list(variables)
    rows = [_row(variable) for variable in weights]
    if optimizer is None:
        return rows
    # A slot is named after the path of its weight: "adam_w/decoder_block_0_attention_query_kernel_momentum".
    paths = {variable.path.replace("/", "_"): variable.path for variable in weights}
    return rows + [_row(variable, _weight_of(variable.path, paths)) for variable in optimizer.variables]


def slot_faults(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence for each optimizer slot that does not lie where its weight does."""
    weights = {row.path: row for row in rows if row.weight is None}
    return [
        f"{row.path} of shape {row.shape} lies {row.spec}, its weight {row.weight} {weights[row.weight].spec}"
        for row in rows
        if row.weight is not None and row.shape == weights[row.weight].shape and row.axes != weights[row.weight].axes
    ]


def _row(variable: Any, weight: str | None = None) -> Row:
    shape = tuple(variable.shape)
    sharding = _sharding(variable)
    axes: Axes = (None,) * len(shape)
    here = shape
    if sharding is not None:
        given = tuple(getattr(sharding, "spec", ()))
        axes = tuple(given) + (None,) * (len(shape) - len(given))
        here = sharding.shard_shape(shape)
    size = math.prod(here) * _width(variable.dtype)
    return Row(variable.path, shape, str(variable.dtype), axes, size, weight)


def _sharding(variable: Any) -> Any:
    """Returns JAX's sharding of a variable: of its value where it has one, else the one that it will get."""
    value = getattr(variable, "_value", None)
    if value is not None and getattr(value, "sharding", None) is not None:
        return value.sharding
    layout = getattr(variable, "_layout", None)
    return getattr(layout, "backend_layout", layout)


def _width(dtype: str) -> int:
    import ml_dtypes
    import numpy as np

    return np.dtype(getattr(ml_dtypes, str(dtype), dtype)).itemsize


def _weight_of(slot: str, paths: dict[str, str]) -> str | None:
    name = slot.rsplit("/", 1)[-1]
    close = [flat for flat in paths if name.startswith(f"{flat}_")]
    return paths[max(close, key=len)] if close else None
