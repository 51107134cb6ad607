"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one object each, beside a COCO file of the objects.

A folder holds `instances.json` and `refs(unc).p`, `refs(google).p` or the same list as JSON; of several, which divide
the same expressions into splits in their own ways, the option `split_by` names one. Every sentence is a record: its
prefix is the expression, its one box and mask are the object's, under the label of what a text does not name.
"""

import io
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.codecs.boxes import UNNAMED
from mmtune.data.confinement import read_bytes
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
_SUFFIXES = (".json", ".p", ".pkl")
"""Of a list of references, the one that is read first where the same list is there twice."""

_SPLIT_BY = "split_by"
_USUAL = ("unc", "umd")
"""The lists by which scores are published: of RefCOCO and RefCOCO+, of RefCOCOg."""

_NAME = re.compile(r"refs[ ._(-]*(.*?)\)?", re.DOTALL)


@final
class RefCoco(Reader):
    """Reads a folder of referring expressions; the splits (train, val, testA, ...) stand in its list of references."""

    name: ClassVar[str] = "refcoco"
    expects: ClassVar[str] = "a folder with instances.json and refs(unc).p, or its list of references as refs.json"

    def claims(self, path: Path) -> bool:
        """Whether the folder holds both files."""
        return (path / _INSTANCES).is_file() and bool(_lists(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the splits that the references name, those of all lists, in the order in which they occur."""
        return tuple(dict.fromkeys(split for file in _lists(path).values() for split in _splits(_load_refs(file))))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the sentences of a split, or all of them; see `Reader.read`.

        The option `split_by` says which list of references is meant (`unc` is `refs(unc).p`). Without it the usual one
        is taken, else the first by name; where there are others, that is logged as "list chosen".
        """
        for option in source.options:
            if option != _SPLIT_BY:
                raise UsageError(unknown_name("option of refcoco", option, (_SPLIT_BY,)))
        lists = _lists(source.path)
        if not lists or not (source.path / _INSTANCES).is_file():
            raise DataError(f"{source.path}: expected {self.expects}; found no such files")
        name = _chosen(lists, source)
        file = lists[name]
        refs = _load_refs(file)
        known = _splits(refs)
        if source.split is not None and source.split not in known:
            raise UsageError(f"{file}: {unknown_name('split', source.split, known)}")
        if len(lists) > 1 and _SPLIT_BY not in source.options:
            others = ", ".join(f"?{_SPLIT_BY}={other}" for other in lists if other != name)
            problem = f"{len(lists)} lists of references are there; this one was taken, {others} names another"
            log.add(file, None, "list chosen", problem)
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


def _lists(folder: Path) -> dict[str, Path]:
    """Returns the lists of references by what tells them apart: "unc" for `refs(unc).p`, "" for `refs.json`."""
    found: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for file in sorted(folder.glob(f"refs*{suffix}")):
            match = _NAME.fullmatch(file.name.removesuffix(suffix))
            found.setdefault(match[1] if match else "", file)
    return dict(sorted(found.items()))


def _chosen(lists: Mapping[str, Path], source: Source) -> str:
    """Returns which list is meant.

    Raises:
        UsageError: When the option names none of them.
    """
    wanted = source.options.get(_SPLIT_BY)
    if wanted is None:
        return next((name for name in _USUAL if name in lists), next(iter(lists)))
    if wanted not in lists:
        raise UsageError(f"{source.path}: {unknown_name(f'list of references ({_SPLIT_BY})', wanted, lists)}")
    return wanted


def _splits(refs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    found = (ref.get("split") for ref in refs)
    return tuple(dict.fromkeys(split for split in found if isinstance(split, str)))


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, not only plain values")


def _load_refs(file: Path) -> list[Mapping[str, Any]]:
    if file.suffix == ".json":
        content = load_json(file)
    else:
        try:
            content = _Plain(io.BytesIO(read_bytes(file))).load()
        except Exception as error:  # a broken pickle raises errors of any kind
            raise DataError(f"{file}: cannot be read as a pickled list of references: {error}") from error
    if not isinstance(content, list) or not all(isinstance(ref, Mapping) for ref in content):
        raise DataError(f"{file}: expected a list of references, found {json.dumps(content, default=str)[:60]}")
    return content
