"""YOLO: one text file a picture, a row an object: class number, then centre x, centre y, width and height as fractions.

Rows with more columns are the outlines of the segmentation variant (class, x, y, x, y, ...), whose bounding box is
taken; where data.yaml has `kpt_shape`, they are key points after the box, which are left aside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmtune.data.confinement import read_text
from mmtune.data.dataset import FaultLog
from mmtune.data.images import FilePicture, size_of
from mmtune.data.masks import mask_area, segmentation_counts
from mmtune.data.objects import Where, number, usable_box
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.yolo_layout import Entry, Layout, entries_of, layout_of
from mmtune.errors import DataError, unknown_name
from mmtune.records import Box, Mask, Record

_BOX_COLUMNS = 5
_FRACTIONS = (-1.0, 2.0)
"""Fractions lie in 0..1; a little outside is a box that reaches out of its picture, further outside are pixels."""


class Yolo(Reader):
    """Reads darknet's and Ultralytics' folders."""

    name: ClassVar[str] = "yolo"
    expects: ClassVar[str] = (
        "a data.yaml (names, train, val), or a folder with obj.names, obj.data or classes.txt, and a .txt of "
        "'class x y width height' rows for each picture"
    )

    def claims(self, path: Path) -> bool:
        """Whether there is a data.yaml, or class names with label files."""
        return layout_of(path) is not None

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the splits that the configuration or the folders name."""
        layout = layout_of(path)
        return tuple(name for name in layout.parts if name) if layout else ()

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the pictures of all splits or of one; see `Reader.read`."""
        layout = layout_of(source.path)
        if layout is None:
            raise DataError(f"{source.path}: expected {self.expects}; found neither")
        if not layout.names:
            raise DataError(f"{source.path}: expected class names (names: in data.yaml, or obj.names), found none")
        if source.split is not None and (source.split not in layout.parts or not source.split):
            raise DataError(f"{source.path}: {unknown_name('split', source.split, [n for n in layout.parts if n])}")
        records = [_record(entry, layout, source, log) for entry in entries_of(layout, source.split, log)]
        return Content([record for record in records if record], tuple(dict.fromkeys(layout.names.values())))


@dataclass(frozen=True, slots=True)
class _Row:
    """One object: its class name, (x0, y0, x1, y1) and, for outlines, x, y, x, y, ..., all as fractions."""

    label: str
    edges: tuple[float, float, float, float]
    outline: tuple[float, ...] = ()


def _record(entry: Entry, layout: Layout, source: Source, log: FaultLog) -> Record | None:
    """Returns the record of one picture; None when the picture is missing, as the boxes are fractions of its size."""
    place = entry.labels or entry.listed
    if entry.picture is None:
        problem = f"found no picture for {entry.id}, of whose size the boxes are fractions; the record was left out"
        log.add(place, entry.id, "missing picture", problem)
        return None
    picture = FilePicture(entry.picture)
    try:
        size = size_of(picture)
    except DataError as error:
        log.add(place, entry.id, "broken picture", f"{error}; the record was left out")
        return None
    if entry.labels is None:
        problem = f"found no label file for {entry.picture}; the picture was kept as one without objects"
        log.add(entry.listed, entry.id, "no label file", problem)
        return Record(entry.id, picture, size, source=entry.listed)
    boxes: list[Box] = []
    masks: list[Mask] = []
    for where, row in _rows(entry.labels, entry.id, layout, log):
        x0, y0, x1, y1 = row.edges
        edges = (x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1])
        box = usable_box(row.label, edges, size, where, log)
        if box is None:
            continue
        boxes.append(box)
        if source.need_masks:
            masks.extend(_masks(row, size, where, log))
    return Record(entry.id, picture, size, boxes=tuple(boxes), masks=tuple(masks), source=str(entry.labels))


def _rows(file: Path, record: str, layout: Layout, log: FaultLog) -> Iterator[tuple[Where, _Row]]:
    """Yields the sound rows of a label file; the others are logged with their line."""
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        log.add(file, record, "broken label file", f"expected rows of numbers, but {error}; no box was read")
        return
    for line, text in enumerate(lines, 1):
        columns = text.split()
        if not columns:
            continue
        row = _row(columns, layout)
        if isinstance(row, _Row):
            yield Where(f"{file}:{line}", record, "the row"), row
        else:
            kind, problem = row
            log.add(f"{file}:{line}", record, kind, f"{problem}, found '{text.strip()[:80]}'; the row was left out")


def _row(columns: Sequence[str], layout: Layout) -> _Row | tuple[str, str]:
    """Returns the object of a row, or the kind of its fault and what was expected."""
    outline = len(columns) >= 7 and len(columns) % 2 == 1 and not layout.keypoints
    if len(columns) != _BOX_COLUMNS and not outline and not (layout.keypoints and len(columns) > _BOX_COLUMNS):
        problem = "expected 5 columns (class x y width height) or a class and at least three points x y"
        return "wrong number of columns", problem
    numbers = [_number(column) for column in columns]
    found = [value for value in numbers if value is not None]
    if len(found) < len(columns):
        return "not a number", "expected numbers only"
    label = layout.names.get(int(found[0])) if found[0].is_integer() else None
    if label is None:
        return "unknown class", f"expected a class number of 0..{max(layout.names)}"
    values = tuple(found[1:] if outline else found[1:_BOX_COLUMNS])
    if min(values) < _FRACTIONS[0] or max(values) > _FRACTIONS[1]:
        return "not a fraction", "expected coordinates as fractions of the picture, 0..1"
    if outline:
        xs, ys = values[0::2], values[1::2]
        return _Row(label, (min(xs), min(ys), max(xs), max(ys)), values)
    x, y, width, height = values
    return _Row(label, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _number(text: str) -> float | None:
    try:
        return number(float(text))
    except ValueError:
        return None


def _masks(row: _Row, size: tuple[int, int], where: Where, log: FaultLog) -> Iterator[Mask]:
    """Yields the mask of a row with an outline; that there is none is logged."""
    width, height = size
    points = [value * size[position % 2] for position, value in enumerate(row.outline)]
    counts, wrong = segmentation_counts(points, size)
    if counts is None:
        log.add(where.file, where.record, "no mask", f"{where.what} ({row.label}) has {wrong}; its box was kept")
    elif mask_area((height, width), counts) == 0:
        problem = f"the outline of {where.what} ({row.label}) covers no pixel; its box was kept without a mask"
        log.add(where.file, where.record, "mask without area", problem)
    else:
        yield Mask(row.label, (height, width), counts)
