"""Whose detections they are: finding the record, the meaning of the four numbers and the class of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.images import size_of
from mmtune.data.json_files import load_json
from mmtune.errors import DataError, unknown_name
from mmtune.metrics.coco import id_key
from mmtune.metrics.result_files import Row, Rows
from mmtune.records import Box, Record

FORM_GUESSED = "form guessed"
CLASSES_GUESSED = "class list guessed"
REMARKS = frozenset([FORM_GUESSED, CLASSES_GUESSED])
"""Kinds of faults that are remarks: no detection is left out for them."""

_BEYOND = 2
"""Pixels by which a detection may stand out of its picture before its form is doubted: tools round."""

_MATCH = 0.5
"""Intersection over union from which a detection speaks for the class of a true box."""

Edges = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row with its record, and its edges x0, y0, x1, y1 in pixels."""

    row: Row
    record: Record
    edges: Edges


class RecordIndex:
    """Finds the records of a data set by `image_id`, record id, path, file name or stem."""

    def __init__(self, truth: Dataset):
        self._numbers = {id_key(record.image_id): record for record in truth if record.image_id is not None}
        self._exact: dict[str, Record] = {record.id: record for record in truth}
        self._loose: dict[str, Record | None] = {}
        for record in truth:
            full = {record.id} if record.picture is None else {record.id, record.picture.name}
            for name in {part for text in full for part in _parts(text)}:
                # Two records of one name: neither, rather than the wrong one.
                self._loose[name] = record if self._loose.get(name, record) is record else None

    def find(self, image: Any, numbered: bool) -> Record | None:
        """Returns the record of a picture, None where there is none or more than one."""
        key = id_key(image)
        name, stem = _parts(key)
        by_name = self._exact.get(key) or self._loose.get(name) or self._loose.get(stem)
        by_number = self._numbers.get(key)
        return (by_number or by_name) if numbered else (by_name or by_number)


def _parts(name: str) -> tuple[str, str]:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.name, path.stem


def told_form(rows: Sequence[tuple[Row, Record]], path: Path, log: FaultLog) -> str:
    """Returns which of `FORMS` the values are in: the one under which the fewest detections are impossible.

    Where nothing tells corners from sizes, corners are taken, and "form guessed" is logged.
    """
    fractions = sum(all(-0.01 <= value <= 1.01 for value in row.values) for row, _ in rows)
    if rows and 2 * fractions > len(rows):
        return "rel_xywh"
    no_corners = sum(row.values[2] <= row.values[0] or row.values[3] <= row.values[1] for row, _ in rows)
    no_sizes = 0
    for row, record in rows:
        x, y, width, height = row.values
        limits = record.size or (float("inf"), float("inf"))
        no_sizes += width <= 0 or height <= 0 or x + width > limits[0] + _BEYOND or y + height > limits[1] + _BEYOND
    if rows and no_corners == no_sizes:
        problem = "the numbers may be two corners or a corner and a size; corners were taken: name the format if not so"
        log.add(path, None, FORM_GUESSED, problem)
    return "abs_xywh" if no_corners > no_sizes else "abs_xyx2y2"


def placed(row: Row, record: Record, form: str, log: FaultLog) -> Placed | None:
    """Returns a row with its edges in pixels; None, and a fault, where they are no box."""
    a, b, c, d = row.values
    if form == "rel_xywh":
        try:
            size = record.size or (size_of(record.picture) if record.picture else None)
        except DataError:
            size = None
        if size is None:
            problem = (
                "the size of the picture is not known, so fractions of it mean nothing; the detection was left out"
            )
            log.add(row.where, record.id, "no picture size", problem)
            return None
        (width, height), edges = size, (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
        edges = (edges[0] * width, edges[1] * height, edges[2] * width, edges[3] * height)
    else:
        edges = (a, b, a + c, b + d) if form == "abs_xywh" else (a, b, c, d)
    if edges[2] < edges[0] or edges[3] < edges[1]:
        shown = ", ".join(f"{value:g}" for value in row.values)
        problem = f"expected a box in the form {form}, found {shown}, which has a negative size; it was left out"
        log.add(row.where, record.id, "box of negative size", problem)
        return None
    return Placed(row, record, edges)


def labelled(items: Sequence[Placed], rows: Rows, truth: Dataset, path: Path, log: FaultLog) -> list[Box | None]:
    """Returns a box for each item, None for those of unknown classes, which are logged.

    Args:
        items: All that could be placed.
        rows: The content of the files, with the class names that they bring.
        truth: The data set, whose class names count.
        path: The file or folder of detections, for the log.
        log: Takes "unknown class" and "class list guessed".
    """
    labels = tuple(truth.classes) or tuple(sorted({box.label for record in truth for box in record.boxes}))
    lists = _class_lists(rows, truth, labels)
    names = lists[next(iter(lists))]
    if len(lists) > 1:
        near = [(id_key(item.row.label), _near_labels(item)) for item in items if item.row.label not in labels]
        agreement = {how: sum(given.get(key) in around for key, around in near) for how, given in lists.items()}
        first, best = next(iter(lists)), max(agreement, key=lambda how: agreement[how])
        if agreement[best] > agreement[first]:
            names = lists[best]
            problem = (
                f"classes are given by number and no list of names lies with them: the {best} was taken, as it agrees "
                f"with {agreement[best]} of {len(near)} detections, the {first} with {agreement[first]}; put a file "
                "classes.txt beside them if another is meant"
            )
            log.add(path, None, CLASSES_GUESSED, problem)
    boxes: list[Box | None] = []
    for item in items:
        label = item.row.label if item.row.label in labels else names.get(id_key(item.row.label))
        if label is None or label not in labels:
            problem = unknown_name("class", str(label if label is not None else item.row.label), labels)
            log.add(item.row.where, item.record.id, "unknown class", f"{problem}; the detection was left out")
            boxes.append(None)
        else:
            boxes.append(Box(label, *item.edges, score=item.row.score))
    return boxes


def _class_lists(rows: Rows, truth: Dataset, labels: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """Returns the lists of classes by which numbers may be meant, the likeliest first."""
    if rows.names is not None:
        return {"list that lies with them": rows.names}
    if rows.coco and truth.format == "coco":
        return {"list of the truth's file": _coco_names(truth)}
    orders = {"truth's own order": labels, "alphabetical order": sorted(labels)}
    # COCO's own categories count from 1, everything else from 0.
    starts = (1, 0) if rows.coco else (0,)
    return {
        f"{how}, counted from {start}": {str(number): label for number, label in enumerate(order, start)}
        for start in starts
        for how, order in orders.items()
    }


def _coco_names(truth: Dataset) -> dict[str, str]:
    names: dict[str, str] = {}
    for file in dict.fromkeys(record.source for record in truth):
        for item in load_json(Path(file)).get("categories", ()):
            names.setdefault(id_key(item.get("id")), str(item.get("name")))
    return names


def _near_labels(item: Placed) -> set[str]:
    return {box.label for box in item.record.boxes if _overlap(item.edges, box) >= _MATCH}


def _overlap(edges: Edges, box: Box) -> float:
    x0, y0, x1, y1 = edges
    inner = max(min(x1, box.x1) - max(x0, box.x0), 0.0) * max(min(y1, box.y1) - max(y0, box.y0), 0.0)
    union = (x1 - x0) * (y1 - y0) + box.width * box.height - inner
    return inner / union if union > 0 else 0.0
