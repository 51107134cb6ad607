"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one object each, beside a COCO file of the objects.

A folder holds `instances.json` and `refs(unc).p`, `refs(google).p` or the same list as JSON. Every sentence is a
record: its prefix is the expression, its one box and mask are the object's, under the label of what a text does not
name.
"""

import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.codecs.boxes import UNNAMED
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import FilePicture
from mmtune.data.json_files import load_json
from mmtune.data.masks import segmentation_counts
from mmtune.data.objects import Where, number, numbers, usable_box, whole
from mmtune.data.reader import Content, Reader, Source
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Mask, Record

_INSTANCES = "instances.json"


@final
class RefCoco(Reader):
    """Reads a folder of referring expressions; the splits (train, val, testA, ...) stand in its list of references."""

    name: ClassVar[str] = "refcoco"
    expects: ClassVar[str] = "a folder with instances.json and refs(unc).p, or its list of references as refs.json"

    def claims(self, path: Path) -> bool:
        """Whether the folder holds both files."""
        return path.is_dir() and (path / _INSTANCES).is_file() and _refs_file(path) is not None

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the splits that the references name, in the order in which they occur."""
        file = _refs_file(path)
        found = (ref.get("split") for ref in _load_refs(file)) if file is not None else ()
        return tuple(dict.fromkeys(split for split in found if isinstance(split, str)))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the sentences of a split, or all of them; see `Reader.read`."""
        file = _refs_file(source.path)
        if file is None or not (source.path / _INSTANCES).is_file():
            raise DataError(f"{source.path}: expected {self.expects}; found no such files")
        refs = _load_refs(file)
        known = self.splits(source.path)
        if source.split is not None and source.split not in known:
            raise UsageError(unknown_name("split", source.split, known))
        objects = _Objects(source.path / _INSTANCES, source)
        records: list[Record] = []
        for ref in refs:
            if source.split in (None, ref.get("split")):
                records += _records(ref, objects, file, log)
        return Content(records, (UNNAMED,))


class _Objects:
    """The pictures and annotations of the COCO file by their ids."""

    def __init__(self, file: Path, source: Source):
        content = load_json(file)
        self.file, self.source = file, source
        self.images, self.annotations = (_by_id(content, key, file) for key in ("images", "annotations"))
        self.index: FileIndex = picture_index(file.parent, [])


def _by_id(content: Any, key: str, file: Path) -> dict[int, Mapping[str, Any]]:
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise DataError(f"{file}: expected a list under '{key}', found {type(items).__name__}")
    pairs = ((whole(item.get("id")), item) for item in items if isinstance(item, dict))
    return {number: item for number, item in pairs if number is not None}


def _records(ref: Mapping[str, Any], objects: _Objects, file: Path, log: FaultLog) -> Iterator[Record]:
    """Yields a record for each sentence of a reference; what is wrong with it is logged."""
    name = f"ref {ref.get('ref_id')}"
    annotation = objects.annotations.get(_whole(ref.get("ann_id")))
    image = objects.images.get(_whole(ref.get("image_id")))
    size = (_whole(image.get("width")), _whole(image.get("height"))) if image is not None else (0, 0)
    bbox = numbers(annotation.get("bbox"), 4) if annotation is not None else None
    if image is None or annotation is None or bbox is None or min(size) < 1:
        problem = f"{name}: expected its ann_id and image_id in {objects.file.name}, with a bbox and a size; left out"
        log.add(file, name, "unknown object", problem)
        return
    picture_name = str(image.get("file_name", ""))
    path = objects.index.find(picture_name)
    if path is None and objects.source.need_pictures:
        problem = f"expected a picture {picture_name} in or beside {file.parent}, found none; {name} was left out"
        log.add(file, name, "missing picture", problem)
        return
    x, y, width, height = bbox
    where = Where(objects.file, name, f"annotation {ref.get('ann_id')}")
    edges, area = (x, y, x + width, y + height), number(annotation.get("area"))
    box = usable_box(UNNAMED, edges, size, where, log, area=area)
    counts, wrong = segmentation_counts(annotation.get("segmentation"), size)
    if wrong:
        log.add(objects.file, name, "broken mask", f"expected polygons or run lengths at {where.what}, found {wrong}")
    if box is None:
        return
    masks = () if counts is None else (Mask(UNNAMED, (size[1], size[0]), counts),)
    for place, sentence in enumerate(ref.get("sentences") or ()):
        text = (sentence.get("sent") or sentence.get("raw")) if isinstance(sentence, Mapping) else None
        if not isinstance(text, str) or not text.strip():
            log.add(file, name, "no sentence", f"expected a text as sentence {place} of {name}; it was left out")
            continue
        yield Record(
            f"{ref.get('ref_id')}-{sentence.get('sent_id', place)}",
            None if path is None else FilePicture(path),
            size,
            text.strip(),
            boxes=(box,),
            masks=masks if objects.source.need_masks else (),
            image_id=_whole(ref.get("image_id")),
            source=str(file),
        )


def _whole(value: Any) -> int:
    found = whole(value)
    return -1 if found is None else found


def _refs_file(folder: Path) -> Path | None:
    """Returns the list of references: JSON before pickle, in alphabetical order."""
    if not folder.is_dir():
        return None
    return next((file for kind in ("json", "p", "pkl") for file in sorted(folder.glob(f"refs*.{kind}"))), None)


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, not only plain values")


def _load_refs(file: Path) -> list[Mapping[str, Any]]:
    if file.suffix == ".json":
        content = load_json(file)
    else:
        try:
            content = _Plain(io.BytesIO(file.read_bytes())).load()
        except Exception as error:  # a broken pickle raises errors of any kind
            raise DataError(f"{file}: cannot be read as a pickled list of references: {error}") from error
    if not isinstance(content, list) or not all(isinstance(ref, Mapping) for ref in content):
        raise DataError(f"{file}: expected a list of references, found {json.dumps(content, default=str)[:60]}")
    return content
