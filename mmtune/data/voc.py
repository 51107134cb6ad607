"""Pascal VOC: one XML file a picture.

The development kit of Pascal VOC counts pixels from 1 and includes the last one: its xmin and ymin are 1 larger than
edges counted from 0, its xmax and ymax are these edges. Its files name their database ("The VOC2007 Database"). Most
other tools that write this format count from 0; their coordinates are kept as written. `?origin=0` or `?origin=1`
settles it by hand.

Pascal VOC has no order of classes: they are sorted by name, over all splits, so that train and test agree.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmtune.data.confinement import open_file, read_text
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import FilePicture
from mmtune.data.objects import Where, number, usable_box, whole
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.sizes import settled
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Box, Fault, Record

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_ORIGINS = ("0", "1")
_OFFICIAL = re.compile(r"\bVOC ?20\d\d\b", re.IGNORECASE)
_PEEKED = 5


class Voc(Reader):
    """Reads Pascal VOC: a folder with Annotations, JPEGImages and ImageSets/Main, or any folder of such XML files."""

    name: ClassVar[str] = "voc"
    expects: ClassVar[str] = (
        "a folder with Annotations/*.xml and JPEGImages (splits in ImageSets/Main/*.txt), or of XML files with "
        "their pictures beside them or in ../images"
    )
    options: ClassVar[tuple[str, ...]] = ("origin",)

    def claims(self, path: Path) -> bool:
        """Whether one of the first XML files has an `annotation` element."""
        files = [file for folder in _annotation_folders(path).values() for file in _xml_files(folder)[:_PEEKED]]
        return any(_looks_like(file) for file in [*_single(path), *files][:_PEEKED])

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the lists in ImageSets/Main (not those of single classes), or the folders that hold XML files."""
        lists = _lists(path)
        return tuple(lists or [name for name in _annotation_folders(path) if name])

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads every XML file, or those of a split; a broken one is a fault. See `Reader.read`."""
        path = source.path
        if source.options.get("origin", "0") not in _ORIGINS:
            raise UsageError(
                f"{path}: expected ?origin=0 (edges as written) or ?origin=1 (pixels counted from 1, the last one "
                f"included), got origin={source.options['origin']}"
            )
        wanted = [_Item(file.stem, file, picture_index(file.parent)) for file in _single(path)]
        for name, folder in _annotation_folders(path).items():
            index = picture_index(folder, [name] if name else [])
            wanted += [_Item(file.stem, file, index, name) for file in _xml_files(folder)]
        if not wanted:
            raise DataError(f"{path}: expected {self.expects}; found no XML file")
        trees = {item.file: _parsed(item) for item in wanted}
        roots = [tree for tree in trees.values() if isinstance(tree, ElementTree.Element)]
        classes = sorted({name for root in roots for name in _names(root)})
        chosen = wanted if source.split is None else _chosen(wanted, source.split, path, log)
        records = []
        for item in chosen:
            tree = trees[item.file]
            if isinstance(tree, Fault):
                log.faults.append(tree)
                continue
            record = _record(item, tree, source, log)
            if record is not None:
                records.append(record)
        return Content(records, classes)


@dataclass(frozen=True, slots=True)
class _Item:
    """An annotation file.

    Attributes:
        stem: Its name without the suffix, which is the picture's too, and what the lists of splits hold.
        file: Its path.
        index: Where to look for the picture.
        folder: The sub-folder that it lies in where there are several, else "".
    """

    stem: str
    file: Path
    index: FileIndex
    folder: str = ""

    @property
    def id(self) -> str:
        """The record's id."""
        return f"{self.folder}/{self.stem}" if self.folder else self.stem


def _single(path: Path) -> list[Path]:
    return [path] if path.is_file() and path.suffix.lower() == ".xml" else []


def _xml_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".xml") if folder.is_dir() else []


def _annotation_folders(path: Path) -> dict[str, Path]:
    """Returns the folders with XML files: Annotations, the path itself, or its sub-folders by their names."""
    for folder in (path / "Annotations", path / "annotations", path):
        if _xml_files(folder):
            return {"": folder}
    if not path.is_dir():
        return {}
    inner = {sub.name: _annotation_folders_of(sub) for sub in sorted(path.iterdir()) if sub.is_dir()}
    return {name: folder for name, folder in inner.items() if folder is not None}


def _annotation_folders_of(sub: Path) -> Path | None:
    return next((folder for folder in (sub / "Annotations", sub / "annotations", sub) if _xml_files(folder)), None)


def _looks_like(file: Path) -> bool:
    try:
        with open_file(file) as stream:
            return b"<annotation" in stream.read(4096)
    except OSError:
        return False


def _lists(path: Path) -> dict[str, Path]:
    """Returns the lists of ids in ImageSets/Main; those of single classes have a second column and are left out."""
    folder = path / "ImageSets" / "Main"
    if not folder.is_dir():
        return {}
    files = {file.stem: file for file in sorted(folder.glob("*.txt"))}
    return {name: file for name, file in files.items() if not _is_class_list(file)}


def _is_class_list(file: Path) -> bool:
    with open_file(file) as stream:
        first = next((line for line in stream if line.strip()), b"").decode("utf-8", "replace")
    return re.search(r"\s(-1|0|1)\s*$", first) is not None


def _chosen(items: Sequence[_Item], split: str, path: Path, log: FaultLog) -> list[_Item]:
    lists = _lists(path)
    if not lists:
        chosen = [item for item in items if item.folder == split and split]
        if not chosen:
            raise DataError(f"{path}: {unknown_name('split', split, {item.folder for item in items} - {''})}")
        return chosen
    if split not in lists:
        raise DataError(f"{path}: {unknown_name('split', split, lists)}")
    by_id = {item.stem: item for item in items}
    chosen = []
    for line, text in enumerate(read_text(lists[split], errors="replace").splitlines(), 1):
        name = text.strip()
        if name in by_id:
            chosen.append(by_id[name])
        elif name:
            problem = f"expected an annotation file {name}.xml for this id, found none; the record was left out"
            log.add(f"{lists[split]}:{line}", name, "no annotation file", problem)
    return chosen


def _parsed(item: _Item) -> ElementTree.Element | Fault:
    """Returns the root element, or the fault that says where and why there is none."""
    place, problem = str(item.file), ""
    try:
        with open_file(item.file) as stream:
            root = ElementTree.parse(stream).getroot()
        if root.tag == "annotation":
            return root
        problem = f"expected an element <annotation>, found <{root.tag}>"
    except ElementTree.ParseError as error:
        line, column = error.position
        place, problem = f"{place}:{line}", f"expected XML, but at column {column}: {error.msg.split(':')[0]}"
    except (OSError, ValueError, LookupError) as error:  # unreadable, or in an encoding that does not exist
        problem = f"expected XML, but {error}"
    return Fault(place, item.id, "malformed xml", f"{problem}; the record was left out")


def _names(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iterfind("object"):
        name = (element.findtext("name") or "").strip()
        if name:
            yield name


def _record(item: _Item, root: ElementTree.Element, source: Source, log: FaultLog) -> Record | None:
    """Returns the record of one file; None when its picture is needed and cannot be used."""
    # The official layout names pictures by the id; what <filename> says is often out of date.
    filename = (root.findtext("filename") or "").strip()
    path = item.index.find_stem(item.stem) or item.index.find(filename) or item.index.find_stem(filename)
    size = _stated_size(root)
    picture = None if path is None else FilePicture(path)
    if path is None and source.need_pictures:
        problem = f"found no picture named {item.stem} or {filename or '(no <filename>)'}; the record was left out"
        log.add(item.file, item.id, "missing picture", problem)
        return None
    if path is not None and (source.need_pictures or size is None):
        try:
            picture, size = settled(path, size, item.file, item.id, log)
        except DataError as error:
            log.add(item.file, item.id, "broken picture", f"{error}; the record was left out")
            return None
    origin = _origin(root, source)
    boxes = [
        _box(element, origin, size, Where(item.file, item.id, f"object {position}"), log)
        for position, element in enumerate(root.iterfind("object"), 1)
    ]
    return Record(
        item.id, picture, size, boxes=tuple(box for box in boxes if box), image_id=item.stem, source=str(item.file)
    )


def _origin(root: ElementTree.Element, source: Source) -> int:
    """Returns the number of the first pixel: what the address says, else 1 in the files of the development kit."""
    if "origin" in source.options:
        return int(source.options["origin"])
    return int(_OFFICIAL.search(root.findtext("source/database") or "") is not None)


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Returns (width, height), or None where it is absent or 0 x 0, as several tools leave it."""
    width, height = (whole(root.findtext(f"size/{side}") or "") for side in ("width", "height"))
    return (width, height) if width and height and width > 0 and height > 0 else None


def _box(
    element: ElementTree.Element, origin: int, size: tuple[int, int] | None, where: Where, log: FaultLog
) -> Box | None:
    label = (element.findtext("name") or "").strip()
    texts = {edge: element.findtext(f"bndbox/{edge}") for edge in _EDGES}
    edges = [_number(text) for text in texts.values()]
    if not label:
        log.add(where.file, where.record, "object without name", f"{where.what} has no <name>; it was left out")
        return None
    found = [edge for edge in edges if edge is not None]
    if len(found) < len(_EDGES):
        problem = f"expected numbers for {', '.join(_EDGES)} at {where.what} ({label}), found {texts}; it was left out"
        log.add(where.file, where.record, "broken box", problem)
        return None
    difficult = (element.findtext("difficult") or "").strip() == "1"
    left, top, right, bottom = found
    return usable_box(label, [left - origin, top - origin, right, bottom], size, where, log, difficult=difficult)


def _number(text: str | None) -> float | None:
    try:
        return number(float(text or ""))
    except ValueError:
        return None
