"""Reader of CSV tables: boxes, texts or labels of pictures, one or several rows a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from mmtune.data.csv_rows import CORNERS, SIZE, Columns, Line, cell_number, table_columns, table_lines
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import picture_index
from mmtune.data.images import FilePicture
from mmtune.data.json_lines import short
from mmtune.data.objects import Where, usable_box
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.sizes import settled
from mmtune.data.suffixes import asked_classes, holds_boxes, known_size, with_suffix_boxes
from mmtune.data.tables import TableFile, choose_split, table_files, with_unique_ids
from mmtune.errors import DataError
from mmtune.records import Box, Record

SUFFIXES = (".csv", ".tsv")
TEXT_FILES = ("captions.txt", "labels.txt", "annotations.txt")
"""Names under which tables without a telling suffix are looked for in a folder."""

Group = tuple[str, str | None]
"""What the rows of one record have in common: picture (or, without pictures, nothing but the line) and prefix."""


@final
class Csv(Reader):
    """Reads a table with a header row, or a folder with such a file per split.

    The delimiter is a comma, semicolon, tab or bar. Columns, by any of their usual names:

    - filename, class and xmin, ymin, xmax, ymax (or x1, y1, x2, y2, or x, y, w, h: the left upper corner and the
      sides), with width and height of the picture if you like: boxes, several rows a picture. They are in pixels;
      where all values of a file are at most 1 they are taken as fractions of the picture's width and height.
      A row with an empty class and box says that there is nothing on the picture.
    - image, prefix, suffix: PaliGemma's text, as in JSON lines.
    - image, caption (or text, answer, ...), or prefix, suffix without an image: texts.
    - image, label: labels.

    Two forms without a header are known: RetinaNet's path,x1,y1,x2,y2,class and path,text.
    Splits: `train.csv`, `train_labels.csv`, `_annotations.train.csv`, `train/_annotations.csv`.
    """

    name = "csv"
    expects = "a .csv with a header such as filename,class,xmin,ymin,xmax,ymax or image,caption, or a folder of them"

    def claims(self, path: Path) -> bool:
        """Whether the first row of a file is of one of the known forms."""
        files = _files(path)
        return bool(files) and table_columns(files[0].path) is not None

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits found at `path`."""
        return tuple(file.split for file in _files(path) if file.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        found = _files(source.path)
        if not found:
            raise DataError(f"{source.path}: expected {self.expects}; found no such file")
        records: list[Record] = []
        marks: list[str] = []
        classes: dict[str, None] = {}
        for file in choose_split(source.path, found, source.split):
            for line, record in _read_file(file, source, log, classes):
                records.append(record)
                marks.append(f"{file.split}:{line}" if len(found) > 1 else str(line))
        return Content(with_unique_ids(records, marks), tuple(classes))


def _files(path: Path) -> Sequence[TableFile]:
    if path.is_file():
        return table_files(path, SUFFIXES)
    tables = table_files(path, SUFFIXES, lambda file: table_columns(file) is not None)
    texts = (path / name for name in TEXT_FILES)
    return tables or [TableFile("", file) for file in texts if file.is_file() and table_columns(file) is not None][:1]


def _read_file(
    file: TableFile, source: Source, log: FaultLog, classes: dict[str, None]
) -> Iterator[tuple[int, Record]]:
    """Yields the line of its first row and the record, for everything of a file that can be used."""
    columns, lines = table_lines(file.path, log, source.task)
    index = picture_index(file.path.parent, (file.split,) if file.split else ())
    scaled = bool(columns.edges) and _are_fractions(columns, lines)
    for (name, prefix), rows in _grouped(columns, lines, file.path, log).items():
        number = rows[0].number
        record = Record(name or f"{file.path.name}:{number}", prefix=prefix, source=f"{file.path}:{number}")
        if "image" in columns.at:
            path = index.find(name) or index.find_stem(name)
            if path is None and source.need_pictures:
                problem = f"expected a picture named '{name}' near {file.path.parent}, there is none; it was left out"
                log.add(record.source, record.id, "missing picture", problem)
                continue
            record = replace(record, picture=None if path is None else FilePicture(path))
        placed = _with_truth(record, columns, rows, scaled, file.path, source, log, classes)
        if placed is not None:
            yield number, placed


def _grouped(columns: Columns, lines: Sequence[Line], file: Path, log: FaultLog) -> dict[Group, list[Line]]:
    groups: dict[Group, list[Line]] = {}
    for line in lines:
        name = line.cells.get("image", "")
        if "image" in columns.at and not name:
            log.add(f"{file}:{line.number}", None, "missing picture", "the row names no picture; it is left out")
            continue
        prefix = line.cells.get("prefix") or None
        groups.setdefault((name, prefix), []).append(line)
    return groups


def _are_fractions(columns: Columns, lines: Sequence[Line]) -> bool:
    values = [cell_number(line.cells[name]) for line in lines for name in columns.edges]
    known = [value for value in values if value is not None]
    return bool(known) and max(known) <= 1


def _with_truth(
    record: Record,
    columns: Columns,
    rows: Sequence[Line],
    scaled: bool,
    file: Path,
    source: Source,
    log: FaultLog,
    classes: dict[str, None],
) -> Record | None:
    """Adds boxes, texts or labels, and their classes."""
    if columns.edges:
        placed = _with_boxes(record, columns, rows, scaled, file, log)
        classes.update(dict.fromkeys(box.label for box in placed.boxes) if placed else {})
        return placed
    meaning = "text" if "text" in columns.at else "label"
    texts = []
    for line in rows:
        text = line.cells[meaning]
        if text or "prefix" in columns.at:
            texts.append(text)
        else:
            problem = f"expected a {meaning}, but the cell is empty; the row is left out"
            log.add(f"{file}:{line.number}", record.id, f"empty {meaning}", problem)
    record = replace(record, texts=tuple(texts))
    if not texts:
        return None
    if meaning == "label":
        classes.update(dict.fromkeys(texts))
        return record
    if source.task in (None, "detection", "segmentation"):
        classes.update(dict.fromkeys(asked_classes(record.prefix)))
    if not holds_boxes(source.task, record.texts):
        return record
    placed = with_suffix_boxes(record, known_size(record, _stated_size(rows), log), log)
    classes.update(dict.fromkeys(box.label for box in placed.boxes) if placed else {})
    return placed


def _stated_size(rows: Sequence[Line]) -> tuple[int, int] | None:
    width, height = (cell_number(rows[0].cells.get(name, "")) for name in SIZE)
    return (int(width), int(height)) if width and height and min(width, height) >= 1 else None


def _with_boxes(
    record: Record, columns: Columns, rows: Sequence[Line], scaled: bool, file: Path, log: FaultLog
) -> Record | None:
    size = _stated_size(rows)
    picture = record.picture
    if isinstance(picture, FilePicture):
        try:
            picture, size = settled(picture.path, size, record.source, record.id, log)
        except DataError as error:
            log.add(record.source, record.id, "broken picture", f"{error}; the picture is left out")
            return None
    if size is None and scaled:
        problem = "expected a picture, or its width and height, to place boxes in fractions; its rows are left out"
        log.add(record.source, record.id, "unknown size", problem)
        return None
    scale = (*size, *size) if size is not None and scaled else (1, 1, 1, 1)
    boxes: list[Box] = []
    for line in rows:
        where = Where(f"{file}:{line.number}", record.id, "the box")
        label, cells = line.cells["label"], [line.cells[name] for name in columns.edges]
        if not label and not any(cells):
            continue
        values = [value for value in map(cell_number, cells) if value is not None]
        if not label or len(values) != 4:
            problem = f"expected a class and four numbers, received {short((label, *cells))}; the row is left out"
            log.add(where.file, record.id, "broken box", problem)
            continue
        a, b, c, d = (value * factor for value, factor in zip(values, scale, strict=True))
        edges = (a, b, c, d) if columns.edges == CORNERS else (a, b, a + c, b + d)
        box = usable_box(label, edges, size, where, log)
        boxes += [] if box is None else [box]
    return replace(record, picture=picture, size=size, boxes=tuple(boxes))
