"""Tables in CSV: which column means what, by the usual names, and the rows with their line numbers."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.confinement import open_file, read_bytes
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import picture_index
from mmtune.data.images import SUFFIXES
from mmtune.data.json_lines import short
from mmtune.data.tables import text_names
from mmtune.errors import DataError

DELIMITERS = ",;\t|"
CORNERS = ("x0", "y0", "x1", "y1")
SIDES = ("x", "y", "w", "h")
SIZE = ("width", "height")

_BOXES = (
    (CORNERS, ("xmin", "ymin", "xmax", "ymax")),
    (CORNERS, ("x_min", "y_min", "x_max", "y_max")),
    (CORNERS, ("x1", "y1", "x2", "y2")),
    (CORNERS, ("x0", "y0", "x1", "y1")),
    (CORNERS, ("left", "top", "right", "bottom")),
    (SIDES, ("x", "y", "w", "h")),
    (SIDES, ("x", "y", "width", "height")),
    (SIDES, ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    (SIDES, ("left", "top", "width", "height")),
)
_SIZES = (("image_width", "image_height"), ("img_width", "img_height"), ("width", "height"))
_WORDS = {
    "image": ("image", "filename", "file_name", "image_path", "path", "file", "image_name", "image_id", "imageid"),
    "label": ("label", "class", "class_name", "category", "category_name", "label_name", "labelname"),
    "prefix": ("prefix", "question", "prompt"),
    "text": (
        *("suffix", "caption", "comment", "text", "answer", "answers"),
        *("sentence", "transcription", "words", "response", "completion"),
    ),
}
_HEAD = 1 << 16
_MOST_LINES = 200  # that one quoted text may have, so that a quote that is never closed spoils one line only


@dataclass(frozen=True)
class Columns:
    """Which column of a table means what.

    Attributes:
        at: Position of each column by its meaning: image, label, prefix, text, and the names in CORNERS, SIDES, SIZE.
        count: How many columns there are.
        delimiter: What stands between them.
        header: Whether the first row names them.
    """

    at: Mapping[str, int]
    count: int
    delimiter: str
    header: bool = True

    @property
    def edges(self) -> tuple[str, ...]:
        """The names of the four columns of a box, empty for tables without boxes."""
        return next((names for names in (CORNERS, SIDES) if names[0] in self.at), ())


@dataclass(frozen=True)
class Line:
    """One row: its line number (from 1) and its cells, by the column's meaning, without white space around them."""

    number: int
    cells: Mapping[str, str]


def table_columns(file: Path) -> Columns | None:
    """Returns the columns of a file, judged by its first row, or None when it is no table of this kind."""
    try:
        with open_file(file) as stream:
            head = _text(stream.read(_HEAD), file, cut=True)
    except (OSError, DataError):
        return None
    return _columns(next((line for line in io.StringIO(head, newline="") if line.strip()), ""), file)


def table_lines(file: Path, log: FaultLog, task: str | None = None) -> tuple[Columns, Sequence[Line]]:
    """Returns the columns and the rows of a table; rows that do not fit are logged.

    Args:
        file: The table.
        log: Takes the faults.
        task: Whose text counts where there are columns of several kinds.

    Raises:
        DataError: When the file cannot be read, is not UTF-8, or its first row is not of this kind.
    """
    try:
        text = _text(read_bytes(file), file)
    except OSError as error:
        raise DataError(f"{file}: expected a CSV file that can be read: {error.strerror}") from error
    lines = list(io.StringIO(text, newline=""))  # unlike str.splitlines, which knows more than the ends of lines
    first = next((line for line in lines if line.strip()), "")
    columns = _columns(first, file, task)
    if columns is None:
        raise DataError(
            f"{file}:1: expected a header such as filename,width,height,class,xmin,ymin,xmax,ymax or image,caption or "
            f"image,prefix,suffix, or rows path,x1,y1,x2,y2,class; received {short(first.strip())}"
        )
    names = {position: name for name, position in columns.at.items()}
    rows = _fitting(lines, columns, file, log)
    if columns.header:
        next(rows, None)
    return columns, [
        Line(number, {names[i]: field.strip() for i, field in enumerate(fields) if i in names})
        for number, fields in rows
    ]


def _text(data: bytes, file: Path, *, cut: bool = False) -> str:
    """Decodes UTF-8, or UTF-16 with a byte order mark; `cut`: the data may end within a character."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if cut and error.start > len(data) - 4:
            return data[: error.start].decode(encoding)
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}:{line}: expected text in UTF-8, but there are other bytes; save it as UTF-8"
        ) from error


def _columns(first: str, file: Path, task: str | None = None) -> Columns | None:
    """Returns the reading of a first row that makes sense of most columns."""
    found = [_headed(first, delimiter, task) or _headerless(first, delimiter, file) for delimiter in DELIMITERS]
    return max((columns for columns in found if columns), key=lambda columns: len(columns.at), default=None)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def _headed(first: str, delimiter: str, task: str | None) -> Columns | None:
    header = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in _split(first, delimiter)]
    where = {name: position for position, name in reversed(list(enumerate(header)))}
    usual = _WORDS | {"text": text_names(_WORDS["text"], task)}
    at = {
        meaning: next(where[word] for word in words if word in where)
        for meaning, words in usual.items()
        if not where.keys().isdisjoint(words)
    }
    used: set[str] = set()
    edges = next(((names, words) for names, words in _BOXES if where.keys() >= set(words)), None)
    if edges is not None and {"image", "label"} <= at.keys():
        at |= {name: where[word] for name, word in zip(*edges, strict=True)}
        used.update(edges[1])
    elif not ({"image", "text"} <= at.keys() or {"prefix", "text"} <= at.keys() or {"image", "label"} <= at.keys()):
        return None
    size = next((words for words in _SIZES if where.keys() >= set(words) and used.isdisjoint(words)), None)
    at |= {name: where[word] for name, word in zip(SIZE, size, strict=True)} if size else {}
    return Columns(at, len(header), delimiter)


def _headerless(first: str, delimiter: str, file: Path) -> Columns | None:
    """Recognises RetinaNet's rows path,x1,y1,x2,y2,class (all but the path may be empty) and rows path,text."""
    fields = [field.strip() for field in _split(first, delimiter)]
    if len(fields) not in (2, 6) or not fields[0]:
        return None
    if Path(fields[0]).suffix.lower() not in SUFFIXES and not picture_index(file.parent).find_stem(fields[0]):
        return None
    if len(fields) == 6 and (not any(fields[1:]) or all(cell_number(field) is not None for field in fields[1:5])):
        at = {"image": 0, "label": 5} | {name: position for position, name in enumerate(CORNERS, 1)}
        return Columns(at, 6, delimiter, header=False)
    return Columns({"image": 0, "text": 1}, 2, delimiter, header=False) if len(fields) == 2 else None


def cell_number(cell: str) -> float | None:
    """Returns the finite number in a cell, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _fitting(lines: Sequence[str], columns: Columns, file: Path, log: FaultLog) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of the first line and the fields of every row that has the right count of them."""
    start = 0
    while start < len(lines):
        rows = csv.reader(
            lines[start : start + _MOST_LINES], delimiter=columns.delimiter, skipinitialspace=True, strict=True
        )
        try:
            fields = next(rows)
        except csv.Error:  # such as a quote that is never closed
            fields = None
        if fields is not None and _counts(fields, columns.count):
            yield start + 1, fields[: columns.count]
            start += rows.line_num
            continue
        # Perhaps a text with a delimiter or a quote that the writer of the file did not quote: the line as it stands.
        if lines[start].strip():
            yield from _unquoted(start + 1, lines[start].rstrip("\r\n"), columns, file, log)
        start += 1


def _counts(fields: Sequence[str], count: int) -> bool:
    return len(fields) >= count and not any(field.strip() for field in fields[count:])


def _unquoted(number: int, line: str, columns: Columns, file: Path, log: FaultLog) -> Iterator[tuple[int, list[str]]]:
    last_is_text = columns.at.get("text") == columns.count - 1
    fields = line.split(columns.delimiter, columns.count - 1 if last_is_text else -1)
    if not last_is_text or len(fields) != columns.count:
        problem = f"expected {columns.count} columns, received {len(fields)}: {short(line)}; the line is left out"
        log.add(f"{file}:{number}", None, "wrong count of columns", problem)
        return
    problem = f"the text {short(fields[-1])} should stand in quotes; everything behind the column before it was taken"
    log.add(f"{file}:{number}", None, "unquoted text", problem)
    yield number, fields
