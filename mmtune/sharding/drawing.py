"""How each kind of weight is cut over the devices of a mesh, as a picture: a small grid a kind."""

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmtune.sharding.canvas import Drawing, Label, Rectangle
from mmtune.sharding.kinds import Kind, kinds
from mmtune.sharding.table import Row, size_text

_COLUMNS = 4
_MARGIN, _GAP = 24, 22
_WIDE, _HIGH, _STRIP = 176, 88, 30  # of a grid; of one that has a single axis the height
_LEFT = 22  # room for the name of the axis that goes down
_TILE = _LEFT + _WIDE
_INK, _FAINT, _EDGE, _EVERYWHERE = "#1f2430", "#6b7280", "#ffffff", "#e5e7eb"
_DIGIT = 0.62  # of the font's size: how wide a digit is at most
_KEY_WIDE, _KEY_HIGH = 480, 320  # of the picture of the mesh, at most


def draw_layout(title: str, rows: Iterable[Row], mesh: Mapping[str, int]) -> Drawing:
    """Returns the picture of a layout.

    Devices are numbered as the mesh holds them: the last axis of the mesh counts fastest. Their colour says which: the
    hue stands for the place along "model", the brightness for that along "data". A cell is a part of the weight, with
    the numbers and in the stripes of the devices that hold it; what every device holds is grey.

    Args:
        title: What it is a picture of.
        rows: Of the layout; those of the optimizer do not count.
        mesh: Devices along each axis.
    """
    marks: list[Rectangle | Label] = [Label(_MARGIN, _MARGIN + 4, title, 16, fill=_INK, bold=True)]
    marks += _key(mesh, _MARGIN, _MARGIN + 30)
    y = _MARGIN + 30 + _key_height(mesh) + 14
    found = kinds(rows)
    for part in dict.fromkeys(kind.part for kind in found):
        marks.append(Label(_MARGIN, y + 8, part, 13, fill=_INK, bold=True))
        marks.append(Rectangle(_MARGIN, y + 20, _COLUMNS * (_TILE + _GAP) - _GAP, 1, "#d1d5db"))
        y += 32
        members = [kind for kind in found if kind.part == part]
        for start in range(0, len(members), _COLUMNS):
            line = members[start : start + _COLUMNS]
            for place, kind in enumerate(line):
                marks += _tile(kind, mesh, _MARGIN + place * (_TILE + _GAP), y)
            y += 58 + max(_grid_height(kind) for kind in line) + 22
        y += 2
    return Drawing(2 * _MARGIN + _COLUMNS * (_TILE + _GAP) - _GAP, y + 4, tuple(marks))


def holders(kind: Kind, mesh: Mapping[str, int]) -> np.ndarray:
    """Returns which devices hold which part of a weight.

    Returns:
        An array of bool, an axis for each of the weight's with as many places as it is cut into, and a last one of the
        devices, numbered as the mesh holds them.
    """
    sizes = tuple(mesh.values())
    places = np.indices(sizes).reshape(len(sizes), -1)  # of each device, along each axis of the mesh
    along = dict(zip(mesh, places, strict=True))
    cuts = tuple(mesh[axis] if axis else 1 for axis in kind.axes)
    held = np.ones((*cuts, places.shape[1]), bool)
    for index, axis in enumerate(kind.axes):
        if axis is not None:
            shape = [1] * len(cuts) + [places.shape[1]]
            shape[index] = cuts[index]
            held &= (np.arange(cuts[index])[:, None] == along[axis]).reshape(shape)
    return held


def numbers(devices: Sequence[int]) -> str:
    """Returns numbers in short, runs as their ends.

    >>> numbers([0, 1, 2, 5, 7, 8])
    '0-2 5 7 8'
    """
    runs: list[list[int]] = []
    for device in devices:
        if runs and device == runs[-1][-1] + 1:
            runs[-1].append(device)
        else:
            runs.append([device])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs)


def colour(device: int, mesh: Mapping[str, int]) -> str:
    """Returns the colour of a device: hue by its place along the last axis, brightness by the others."""
    last = list(mesh.values())[-1]
    row, column = divmod(device, last)
    others = max(1, math.prod(mesh.values()) // last)
    if last == 1:  # one axis alone has the hues to itself
        row, column, last, others = 0, row, others, 1
    hue = (0.58 + 0.86 * column / max(last, 1)) % 1
    light = 0.82 - 0.23 * (row / max(1, others - 1) if others > 1 else 0.35)
    red, green, blue = colorsys.hls_to_rgb(hue, light, 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _key_height(mesh: Mapping[str, int]) -> float:
    rows = math.prod(mesh.values()) // list(mesh.values())[-1]
    return min(rows * 20, _KEY_HIGH) + 30


def _key(mesh: Mapping[str, int], x: float, y: float) -> list[Rectangle | Label]:
    """Draws the mesh itself: a cell a device."""
    *others, (last, columns) = mesh.items()
    rows = math.prod(size for _, size in others)
    left, top = x + _LEFT + 60, y + 18
    wide, high = min(30.0, _KEY_WIDE / columns), min(20.0, _KEY_HIGH / rows)
    down = " x ".join(f"{name} = {size}" for name, size in others)
    marks: list[Rectangle | Label] = [Label(left, y + 7, f"{last} = {columns}", 11, fill=_FAINT)]
    marks.append(Label(left - 10, top + rows * high / 2, down, 11, "end", _FAINT))
    for device in range(rows * columns):
        row, column = divmod(device, columns)
        box = (left + column * wide, top + row * high, wide, high)
        marks.append(Rectangle(*box, colour(device, mesh), _EDGE))
        marks += _text_in(box, str(device))
    told = [
        "Each cell is a part of a weight. Stripes within a cell: these devices hold the same part.",
        "Grey: every device holds all of it.",
    ]
    right = left + max(columns * wide, 60) + 24
    return marks + [Label(right, top + 6 + 16 * n, text, 11, fill=_FAINT) for n, text in enumerate(told)]


def _text_in(box: tuple[float, float, float, float], text: str) -> list[Rectangle | Label]:
    """Returns a text in the middle of a box, none where it could not be read."""
    x, y, width, height = box
    size = min(10.0, 0.7 * height, (width - 2) / max(1, len(text)) / _DIGIT)
    return [Label(x + width / 2, y + height / 2, text, round(size, 1), "middle", _INK)] if size >= 5 else []


def _shown_axes(kind: Kind) -> list[int]:
    """Returns the axes of a weight that are drawn, at most two: those that are divided, then the longest."""
    order = sorted(range(len(kind.shape)), key=lambda axis: (kind.axes[axis] is None, -kind.shape[axis]))
    return sorted(order[:2])


def _grid_height(kind: Kind) -> int:
    return _HIGH if len(kind.shape) > 1 else _STRIP


def _tile(kind: Kind, mesh: Mapping[str, int], x: float, y: float) -> list[Rectangle | Label]:
    """Draws one kind: its name, its size, and the grid with the names of its axes."""
    of = f"{kind.count} of " if kind.count > 1 else ""
    shape = " x ".join(str(size) for size in kind.shape)
    held = size_text(kind.bytes) if kind.bytes == kind.whole else f"{size_text(kind.bytes)} of {size_text(kind.whole)}"
    marks: list[Rectangle | Label] = [
        Label(x, y + 6, _clipped(kind.name, 30), 12, fill=_INK, bold=True),
        Label(x, y + 22, f"{of}{shape} {kind.dtype}", 10, fill=_FAINT),
        Label(x, y + 36, f"{held} on each device", 10, fill=_FAINT),
    ]
    shown = _shown_axes(kind)
    across, down = shown[-1], shown[0] if len(shown) > 1 else None
    left, top, high = x + _LEFT, y + 60, _grid_height(kind)
    marks.append(Label(left + _WIDE / 2, y + 51, _axis_text(kind, across, mesh), 9.5, "middle", _FAINT))
    if down is not None:
        marks.append(Label(x + 9, top + high / 2, _axis_text(kind, down, mesh), 9.5, "middle", _FAINT, upright=True))
    return marks + _grid(kind, mesh, (left, top, _WIDE, high), down, across)


def _axis_text(kind: Kind, axis: int, mesh: Mapping[str, int]) -> str:
    by = kind.axes[axis]
    cut = f" / {mesh[by]}" if by and mesh[by] > 1 else ""
    return f"{kind.names[axis]} {kind.shape[axis]}{cut}"


def _grid(
    kind: Kind, mesh: Mapping[str, int], box: tuple[float, float, float, float], down: int | None, across: int
) -> list[Rectangle | Label]:
    held = holders(kind, mesh)
    rows, columns = 1 if down is None else held.shape[down], held.shape[across]
    cells = held.reshape(rows, columns, -1)  # the axes that are not drawn are not divided
    left, top, wide, high = box
    width, height = wide / columns, high / rows
    marks: list[Rectangle | Label] = []
    for row in range(rows):
        for column in range(columns):
            devices = np.flatnonzero(cells[row, column]).tolist()
            x, y = left + column * width, top + row * height
            marks += _cell(devices, mesh, (x, y, width, height))
    return marks


def _cell(
    devices: list[int], mesh: Mapping[str, int], box: tuple[float, float, float, float]
) -> list[Rectangle | Label]:
    x, y, width, height = box
    count = math.prod(mesh.values())
    if len(devices) == count and count > 1:
        return [Rectangle(*box, _EVERYWHERE, _EDGE), *_text_in(box, f"whole on all {count}")]
    stripe = width / len(devices)
    boxes = [(x + place * stripe, y, stripe, height) for place in range(len(devices))]
    texts = [_text_in(part, str(device)) for part, device in zip(boxes, devices, strict=True)]
    marks: list[Rectangle | Label] = [
        Rectangle(*part, colour(device, mesh)) for part, device in zip(boxes, devices, strict=True)
    ]
    marks += [Rectangle(x + width - 1, y, 1, height, _EDGE), Rectangle(x, y + height - 1, width, 1, _EDGE)]
    each = [text for found in texts for text in found]
    return marks + (each if len(each) == len(devices) else _text_in(box, numbers(devices)))


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
