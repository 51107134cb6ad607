"""Checks that all readers of boxes share: what is a number, and which boxes can be used on a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.records import Box

ROUNDING = 0.5
"""Pixels by which a box may stand out of its picture without being reported; it is clipped all the same."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a fault is about: the file (and line), the record's id, and words for the object, such as "object 3"."""

    file: object
    record: str | None
    what: str


def number(value: Any) -> float | None:
    """Returns a finite int or float as float; None for anything else, strings and booleans included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """Returns a list of `count` finite numbers as floats; None for anything else."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return None
    found = [number(value) for value in values]
    return None if None in found else tuple(value for value in found if value is not None)


def whole(value: Any) -> int | None:
    """Returns an int, a whole float or a string of digits as int; None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.removeprefix("-").isdigit() else None
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def usable_box(
    label: str,
    edges: Sequence[float],
    size: tuple[int, int] | None,
    where: Where,
    log: FaultLog,
    *,
    crowd: bool = False,
    difficult: bool = False,
    area: float | None = None,
) -> Box | None:
    """Returns the box clipped to its picture, or None when nothing of it is left; either way what was odd is logged.

    Args:
        label: The class name.
        edges: (x0, y0, x1, y1), pixels.
        size: (width, height) of the picture in pixels; None where not known: nothing is clipped.
        where: What to name in a fault.
        log: Takes the faults "box without area", "box outside the picture" and "box beyond the picture".
        crowd: As in `Box`.
        difficult: As in `Box`.
        area: As in `Box`.
    """
    x0, y0, x1, y1 = edges
    if x1 <= x0 or y1 <= y0:
        problem = f"expected a box with a width and a height, but {_shown(where, label, edges)}; it was left out"
        log.add(where.file, where.record, "box without area", problem)
        return None
    if size is not None:
        width, height = size
        over = max(-x0, -y0, x1 - width, y1 - height)
        x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        outside = x1 <= x0 or y1 <= y0
        if outside or over > ROUNDING:
            kind = "box outside the picture" if outside else "box beyond the picture"
            expected = f"expected a box within the picture of {width} x {height} pixels"
            done = "left out" if outside else "clipped"
            log.add(where.file, where.record, kind, f"{expected}, but {_shown(where, label, edges)}; it was {done}")
        if outside:
            return None
    return Box(label, x0, y0, x1, y1, crowd=crowd, difficult=difficult, area=area)


def _shown(where: Where, label: str, edges: Sequence[float]) -> str:
    x0, y0, x1, y1 = edges
    return f"{where.what} ({label}) spans x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
