"""Reader of scanned pages with their lines of text and key facts: SROIE's receipts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.codecs.plain_text import plain_text
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FOLDERS, FileIndex
from mmtune.data.images import FilePicture
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import short
from mmtune.data.objects import Where, usable_box
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.receipt_lines import Piece, claims_page, page_text, read_pieces
from mmtune.data.sizes import settled
from mmtune.data.tables import SPLIT_NAMES, TableFile, choose_split, natural_key, split_key
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Box, Question, Record

LABEL = "text"
"""The class of the lines, for detection."""

FIELDS = ("company", "date", "address", "total")
"""SROIE's key facts."""

ALL = "all"

_BOXES = ("box", "boxes")
_KEYS = ("key", "keys", "entities")
_OPTIONS = ("field",)


@final
class Receipts(Reader):
    """Reads scanned pages: a folder with `box` (lines of text), `key` (facts, JSON) and `img`, named alike.

    What a record is depends on the task and on the option `field`:

    - ocr (and where no task is named): a page; its text is that of all lines in reading order.
    - detection: a page; its boxes are its lines, all of the class "text".
    - vqa, or any task with `?field=total`: a fact of a page; the prefix is "what is the total?", the text its value.
      `?field=total,date` reads several, `?field=all` all of them, which is what vqa does by itself.

    A line of a file in `box` is `x1,y1,x2,y2,x3,y3,x4,y4,text`, in `.csv` or `.txt`; one in `key` is a JSON object.
    `train`, `val` and `test` above these folders are splits.
    """

    name: ClassVar[str] = "receipts"
    expects: ClassVar[str] = (
        "a folder with img, box (x1,y1,x2,y2,x3,y3,x4,y4,text a line) and key (JSON objects such as company and total)"
    )

    def claims(self, path: Path) -> bool:
        """Whether there are such lines, or such objects."""
        return any(_Files(part.path).are_pages() for part in _parts(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the sub-folders that are splits."""
        return tuple(part.split for part in _parts(path) if part.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        for option in source.options:
            if option not in _OPTIONS:
                raise UsageError(unknown_name("option of receipts", option, _OPTIONS))
        wanted = source.options.get("field", ALL if source.task == "vqa" else "")
        parts = _parts(source.path)
        if not any(_Files(part.path).texts or _Files(part.path).keys for part in parts):
            raise DataError(f"{source.path}: expected {self.expects}; found none of these")
        records: list[Record] = []
        for part in choose_split(source.path, parts, source.split):
            files = _Files(part.path)
            mark = f"{part.split}/" if part.split else ""
            records += _facts(files, mark, wanted, source, log) if wanted else _pages(files, mark, source, log)
        return Content(tuple(records), (LABEL,) if any(record.boxes for record in records) else ())


class _Files:
    """The files of a folder, by their stem."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.texts = _by_stem([folder / name for name in _BOXES], (".csv", ".txt"))
        self.keys = _by_stem([folder / name for name in _KEYS], (".json", ".txt"))
        self._pictures = FileIndex([*(folder / name for name in FOLDERS), folder])

    def are_pages(self) -> bool:
        """Whether this is a folder of this format."""
        texts, keys = list(self.texts.values())[:3], list(self.keys.values())[:3]
        return any(map(claims_page, texts)) or (
            not texts and any(set(FIELDS) & _facts_of(file).keys() for file in keys)
        )

    def picture(self, stem: str) -> Path | None:
        """Returns the file of the page's picture, or None."""
        return self._pictures.find_stem(stem)

    def pictures(self) -> list[str]:
        """Returns the stems of the pictures that have no text, in natural order."""
        folders = [self.folder / name for name in FOLDERS if (self.folder / name).is_dir()]
        stems = {file.stem for folder in folders for file in folder.iterdir() if self.picture(file.stem) == file}
        return sorted(stems - self.texts.keys(), key=natural_key)


def _parts(path: Path) -> Sequence[TableFile]:
    """Returns the folders of the splits, or the folder itself as the only part, with split ""."""
    if not path.is_dir():
        return ()
    parts = [TableFile(name, path / name) for name in SPLIT_NAMES if (path / name).is_dir()]
    parts = [part for part in parts if _Files(part.path).texts or _Files(part.path).keys]
    return sorted(parts, key=lambda part: split_key(part.split)) or (TableFile("", path),)


def _by_stem(folders: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir()]
    found = {file.stem: file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")}
    return {stem: found[stem] for stem in sorted(found, key=natural_key)}


def _facts_of(file: Path) -> Mapping[str, Any]:
    """Returns the JSON object in a file, an empty one where there is none."""
    try:
        content = load_json(file)
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


def _pages(files: _Files, mark: str, source: Source, log: FaultLog) -> Iterator[Record]:
    """Yields a record a page."""
    for stem, file in files.texts.items():
        record = _record(files, stem, mark, file, source, log)
        if record is None:
            continue
        try:
            pieces = read_pieces(file, record.id, log)
        except DataError as error:
            log.add(file, record.id, "unreadable text", f"{error}; the page was left out")
            continue
        if not pieces:
            log.add(file, record.id, "page without text", "expected lines of text, found none; the page was left out")
        elif source.task in ("detection", "segmentation"):
            yield from _with_boxes(record, pieces, log)
        else:
            boxed = _with_boxes(record, pieces, log) if source.task is None else [record]
            yield from (replace(one, texts=(page_text(pieces),)) for one in boxed)
    if source.need_pictures:
        for stem in files.pictures():
            problem = f"expected its lines in box/{stem}.csv, there is no such file; the page was left out"
            log.add(files.picture(stem), mark + stem, "picture without text", problem)


def _record(files: _Files, stem: str, mark: str, file: Path, source: Source, log: FaultLog) -> Record | None:
    picture = files.picture(stem)
    if picture is None and source.need_pictures:
        problem = f"expected a picture such as img/{stem}.jpg, found none; the page was left out"
        log.add(file, mark + stem, "missing picture", problem)
        return None
    return Record(mark + stem, None if picture is None else FilePicture(picture), image_id=stem, source=str(file))


def _with_boxes(record: Record, pieces: Sequence[Piece], log: FaultLog) -> Iterator[Record]:
    """Yields the record with a box for each piece; nothing where its picture is broken."""
    if isinstance(record.picture, FilePicture):
        try:
            picture, size = settled(record.picture.path, None, record.source, record.id, log)
        except DataError as error:
            log.add(record.source, record.id, "broken picture", f"{error}; the page was left out")
            return
        record = replace(record, picture=picture, size=size)
    boxes: list[Box] = []
    for piece in pieces:
        edges = (piece.x0, piece.y0, piece.x1, piece.y1)
        where = Where(piece.where, record.id, short(piece.text))
        # What nobody can read is neither missed nor wrongly found.
        box = usable_box(LABEL, edges, record.size, where, log, difficult=not piece.text)
        boxes += [] if box is None else [box]
    yield replace(record, boxes=tuple(boxes))


@dataclass(frozen=True)
class _Page:
    record: Record
    facts: Mapping[str, Any]


def _facts(files: _Files, mark: str, wanted: str, source: Source, log: FaultLog) -> Iterator[Record]:
    """Yields a record a fact of a page."""
    pages: list[_Page] = []
    for stem, file in files.keys.items():
        record = _record(files, stem, mark, file, source, log)
        if record is None:
            continue
        try:
            content = load_json(file)
        except DataError as error:
            log.add(file, record.id, "broken key file", f"{error}; the page was left out")
            continue
        if isinstance(content, dict):
            pages.append(_Page(record, content))
        else:
            problem = (
                f"expected a JSON object such as {{'total': '9.90'}}, found {short(content)}; the page was left out"
            )
            log.add(file, record.id, "broken key file", problem)
    if source.need_pictures:
        for stem in sorted(files.texts.keys() - files.keys.keys(), key=natural_key):
            problem = f"expected key/{stem}.json, there is no such file; the page was left out"
            log.add(files.texts[stem], mark + stem, "no key file", problem)
    fields = _fields(pages, wanted, files.folder)
    for page in pages:
        for field in fields:
            yield from _fact(page, field, log)


def _fields(pages: Sequence[_Page], wanted: str, folder: Path) -> Sequence[str]:
    """Returns the names of the facts that are wanted, SROIE's in their order first."""
    there = dict.fromkeys(name for page in pages for name in page.facts)
    known = [name for name in FIELDS if name in there] + [name for name in there if name not in FIELDS]
    if wanted == ALL:
        return known
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"{folder}: {unknown_name('value of field', name, [*known, ALL])}")
    return names


def _fact(page: _Page, field: str, log: FaultLog) -> Iterator[Record]:
    """Yields the question for a fact with its value; a value that is not there is a fault."""
    record = page.record
    value = page.facts.get(field)
    text = plain_text(str(value), white_space="collapse") if isinstance(value, (str, int, float)) else ""
    if not text:
        is_empty = field in page.facts
        problem = f"expected a text as {field}, found {short(value) if is_empty else 'none'}; it is not asked for"
        log.add(record.source, record.id, f"{'empty' if is_empty else 'missing'} field", problem)
        return
    question = f"what is the {field.replace('_', ' ')}?"
    yield replace(
        record, id=f"{record.id}/{field}", image_id=None, prefix=question, texts=(text,), question=Question(kind=field)
    )
