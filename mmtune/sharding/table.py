"""The layout of every weight and optimizer variable: a row each, and what is wrong with them."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.sharding.layout import Layouts
from mmtune.sharding.rules import Axes, Units, units_of

_NUMBER = re.compile(r"(?<=[_/])\d+(?=[_/])")


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
        of_optimizer: Whether it is the optimizer's.
        units: Of the variable's axes, as of `mmtune.sharding.rules.in_units`.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    bytes: int
    weight: str | None = None
    of_optimizer: bool = False
    units: Units = ()

    @property
    def whole_bytes(self) -> int:
        """Bytes of the whole variable."""
        return math.prod(self.shape) * itemsize(self.dtype)

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
    units = {variable.path: units_of(variable) for variable in weights}
    for variable in optimizer.variables:
        weight = _weight_of(variable.path, paths)
        rows.append(_row(variable, weight, True, units.get(weight or "", ())))
    return rows


def checked_rows(variables: Iterable[Any], optimizer: Any) -> list[Row]:
    """Returns `layout_rows`.

    Raises:
        RuntimeError: When a slot of the optimizer does not lie where its weight does.
    """
    rows = layout_rows(variables, optimizer)
    if faults := slot_faults(rows):
        raise RuntimeError(f"layout: {'; '.join(faults)}")
    return rows


def slot_faults(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence for each optimizer slot that does not lie where its weight does."""
    weights = {row.path: row for row in rows if row.weight is None}
    return [
        f"{row.path} of shape {row.shape} lies {row.spec}, its weight {row.weight} {weights[row.weight].spec}"
        for row in rows
        if row.weight is not None and row.shape == weights[row.weight].shape and row.axes != weights[row.weight].axes
    ]


def table_text(rows: Sequence[Row]) -> str:
    """Returns the table: path, shape, dtype, layout and bytes a device of every variable, a line each."""
    cells = [("variable", "shape", "dtype", "layout", "bytes a device")]
    cells += [(row.path, "x".join(map(str, row.shape)) or "-", row.dtype, row.spec, f"{row.bytes:,}") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line[:-1], widths[:-1], strict=True))
        + f"  {line[-1]:>{widths[-1]}}"
        for line in cells
    ]
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row], layouts: Any) -> list[str]:
    """Returns what a person should know of the layouts, a line each.

    Args:
        rows: Of weights and optimizer variables.
        layouts: Keras' distribution; of ours the lines tell too what was left whole against its rule, and which weights
            and rules found none.
    """
    mesh = layouts.device_mesh
    named = " x ".join(f"{axis}={size}" for axis, size in zip(mesh.axis_names, mesh.shape, strict=True))
    weights = [row for row in rows if not row.of_optimizer]
    slots = [row for row in rows if row.of_optimizer]
    whole = sum(row.whole_bytes for row in weights)
    here = f"{size_text(sum(row.bytes for row in weights))} of {size_text(whole)} of weights"
    here += f" and {size_text(sum(row.bytes for row in slots))} of the optimizer" if slots else ""
    lines = [f"mesh {named}: {here} on each of {mesh.devices.size} devices"]
    return lines + (_remarks(weights, layouts) if isinstance(layouts, Layouts) else [])


def _remarks(weights: Sequence[Row], layouts: Layouts) -> list[str]:
    """Returns what did not go by the rules."""
    undivided = Counter(
        (axis, _NUMBER.sub("*", row.path), row.shape)
        for row in weights
        if row.path in layouts.decided
        for axis in layouts.decided[row.path].whole
    )
    lines = [
        f"whole along {axis}={layouts.sizes[axis]}, which does not divide it: {path} {shape}, {count} of them"
        for (axis, path, shape), count in undivided.items()
    ]
    if layouts.unmatched:
        unmatched = ", ".join(sorted(layouts.unmatched))
        lines.append(f"no rule says where these weights lie, so they are whole: {unmatched}")
    if layouts.unused:
        lines.append(f"rules that matched no weight: {', '.join(layouts.unused)}")
    return lines


def size_text(count: int) -> str:
    """Returns a number of bytes for people, such as "3.5 MiB"."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:{'.3g' if count < 1000 * size else '.0f'}} {unit}"
    return f"{count} bytes"


def _row(variable: Any, weight: str | None = None, of_optimizer: bool = False, units: Units | None = None) -> Row:
    shape = tuple(variable.shape)
    sharding = sharding_of(variable)
    axes: Axes = (None,) * len(shape)
    here = shape
    if sharding is not None:
        given = tuple(getattr(sharding, "spec", ()))
        axes = tuple(given) + (None,) * (len(shape) - len(given))
        here = sharding.shard_shape(shape)
    size = math.prod(here) * itemsize(variable.dtype)
    units = units_of(variable) if units is None else units
    return Row(variable.path, shape, str(variable.dtype), axes, size, weight, of_optimizer, units)


def sharding_of(variable: Any) -> Any:
    """Returns JAX's sharding of a variable: of its value where it has one, else the one that it will get, or None."""
    value = getattr(variable, "_value", None)
    if value is not None and getattr(value, "sharding", None) is not None:
        return value.sharding
    layout = getattr(variable, "_layout", None)
    return getattr(layout, "backend_layout", layout)


def itemsize(dtype: str) -> int:
    """Returns the bytes of a number of a dtype."""
    import ml_dtypes
    import numpy as np

    return np.dtype(getattr(ml_dtypes, str(dtype), dtype)).itemsize


def _weight_of(slot: str, paths: dict[str, str]) -> str | None:
    name = slot.rsplit("/", 1)[-1]
    close = [flat for flat in paths if name.startswith(f"{flat}_")]
    return paths[max(close, key=len)] if close else None
