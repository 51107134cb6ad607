"""The objects in a row of a hub data set, and how their boxes are written: sides or corners, pixels or fractions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.data.hub_columns import Objects
from mmtune.data.json_lines import short
from mmtune.data.objects import number, numbers

Size = tuple[int, int]
"""(width, height) of a picture in pixels."""

BOX_FORMATS = {
    "xywh": "xywh", "coco": "xywh", "xyxy": "xyxy", "pascal_voc": "xyxy", "voc": "xyxy", "albumentations": "xyxy",
}  # fmt: skip
"""What a column `bbox_format` or the option `boxes` may say: left upper corner and sides, or two corners."""

_MARGIN = 2.0  # pixels by which sound boxes leave their picture by rounding and counting from 1
_SHARE = 0.05  # of the boxes of a set that may be careless without the whole set being read another way


@dataclass(frozen=True)
class Item:
    """One object as it stands in the row.

    Attributes:
        values: The four numbers of its box.
        category: A name, or a number that may have one.
        area: In square pixels, or None.
        crowd: COCO's `iscrowd`.
    """

    values: tuple[float, ...]
    category: str | int
    area: float | None
    crowd: bool


@dataclass(frozen=True)
class Form:
    """How boxes are written.

    Attributes:
        corners: Whether as x0, y0, x1, y1, instead of x, y, width, height.
        fractions: Whether in fractions of the picture's width and height, instead of pixels.
    """

    corners: bool = False
    fractions: bool = False

    def edges(self, values: Sequence[float], size: Size | None) -> tuple[float, float, float, float]:
        """Returns x0, y0, x1, y1 in pixels."""
        width, height = size if size is not None and self.fractions else (1, 1)
        x, y, a, b = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return (x, y, a, b) if self.corners else (x, y, x + a, y + b)


def items_of(row: Mapping[str, Any], objects: Objects) -> tuple[list[Item], list[str]]:
    """Returns the objects of a row, and one sentence for each that cannot be read."""
    cell = row if objects.container is None else row.get(objects.container)
    if cell is None:
        return [], []
    if isinstance(cell, list):
        entries: list[Any] = cell
    else:
        entries, problem = _entries(cell, objects)
        if problem:
            return [], [problem]
    items, problems = [], []
    for index, entry in enumerate(entries, 1):
        values = numbers(entry.get(objects.bbox), 4) if isinstance(entry, Mapping) else None
        category = entry.get(objects.category) if isinstance(entry, Mapping) else None
        if values is None or isinstance(category, bool) or not isinstance(category, (str, int)) or category == "":
            expected = f"expected four numbers as {objects.bbox} and a class as {objects.category}"
            problems.append(f"{expected}, received {short(entry)} as object {index}")
            continue
        area = number(entry.get(objects.area)) if objects.area else None
        items.append(Item(values, category, area, bool(entry.get(objects.crowd)) if objects.crowd else False))
    return items, problems


def _entries(cell: Any, objects: Objects) -> tuple[list[Mapping[str, Any]], str]:
    """Returns a struct of lists as a list of structs, and what is wrong with it."""
    used = [name for name in (objects.bbox, objects.category, objects.area, objects.crowd) if name]
    lists = {name: cell.get(name) for name in used} if isinstance(cell, Mapping) else {}
    if lists and all(value is None for value in lists.values()):
        return [], ""
    needed = [lists.get(objects.bbox), lists.get(objects.category)]
    if not all(isinstance(value, list) for value in needed):
        return [], f"expected lists as {objects.bbox} and {objects.category}, received {short(needed)}"
    lengths = {name: len(value) for name, value in lists.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1:
        return [], f"expected lists of the same length, received {lengths}"
    count = lengths[objects.bbox]
    columns = {name: value if isinstance(value, list) else [None] * count for name, value in lists.items()}
    return [{name: value[index] for name, value in columns.items()} for index in range(count)], ""


def form_of(boxes: Sequence[tuple[Sequence[float], Size]]) -> Form:
    """Returns how the boxes of a data set are written, judged by all of them.

    The hub's detection sets use COCO's x, y, width, height in pixels. Where no value is above 1 they are fractions;
    where many boxes would leave their pictures, and as corners all are sound, they are corners.

    Args:
        boxes: Four numbers each, and the size of the picture.
    """
    fractions = bool(boxes) and max(max(values) for values, _ in boxes) <= 1
    sides, corners = Form(False, fractions), Form(True, fractions)
    beyond = sum(not _is_sound(sides.edges(values, size), size) for values, size in boxes)
    if beyond > _SHARE * len(boxes) and all(_is_sound(corners.edges(values, size), size) for values, size in boxes):
        return corners
    return sides


def _is_sound(edges: Sequence[float], size: Size) -> bool:
    x0, y0, x1, y1 = edges
    return x0 < x1 <= size[0] + _MARGIN and y0 < y1 <= size[1] + _MARGIN
