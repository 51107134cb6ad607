"""COCO instances: one JSON file of pictures, categories and boxes a split.

Classes stand in the order of the file's categories. A record's id is the picture's file name, its `image_id` the
number (or string) of the file. Ids may be numbers in one place and strings in another: 2299 and "2299" are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from mmtune.data.coco_files import chosen_file, coco_files, split_name
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import FilePicture
from mmtune.data.json_files import load_json
from mmtune.data.masks import mask_area, segmentation_counts
from mmtune.data.objects import Where, number, numbers, usable_box, whole
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.sizes import settled
from mmtune.errors import DataError
from mmtune.records import Box, Mask, Picture, Record

_CHECKED = 5000
"""How many picture headers are compared with the file's sizes; beyond, only where that sample had a disagreement."""


class Coco(Reader):
    """Reads COCO instances; a folder may hold several such files, each a split."""

    name: ClassVar[str] = "coco"
    expects: ClassVar[str] = (
        "a JSON file with images, annotations (bbox) and categories, or a folder of such files and their pictures"
    )

    def claims(self, path: Path) -> bool:
        """Whether there is a JSON file with COCO's keys."""
        return bool(coco_files(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the name of each annotation file in a folder: `val2017` for `instances_val2017.json`."""
        return () if path.is_file() else tuple(coco_files(path))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the file, or the split's file, or all files of the folder; see `Reader.read`."""
        files = coco_files(source.path)
        if source.path.is_file():
            files = files or {"": source.path}
        if not files:
            raise DataError(f"{source.path}: expected {self.expects}; found no such file")
        if source.split is not None:
            files = {"": chosen_file(files, source.split, source.path)}
        records: dict[str, Record] = {}
        classes: dict[str, None] = {}
        for file in files.values():
            content = _read_file(file, source, log)
            classes.update(dict.fromkeys(content.classes))
            for record in content.records:
                known = records.setdefault(record.id, record)
                if _truth(known) != _truth(record):
                    problem = f"the picture is annotated otherwise in {known.source} already; the first was kept"
                    log.add(record.source, record.id, "duplicate record", problem)
        return Content(tuple(records.values()), tuple(classes))


def _truth(record: Record) -> Record:
    return replace(record, image_id=None, source="")


@dataclass
class _Entry:
    """A picture of the file while its annotations are being gathered."""

    record: Record
    boxes: list[Box] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)


def _read_file(file: Path, source: Source, log: FaultLog) -> Content:
    content = load_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object with images, annotations and categories, found a list of results")
    images, annotations, categories = (
        _entries(content, key, file, log) for key in ("images", "annotations", "categories")
    )
    names = _category_names(categories, file, log)
    if annotations and not names:
        raise DataError(f"{file}: expected categories with id and name, found none; annotations cannot be labelled")
    entries = _read_images(images, file, source, log)
    for position, annotation in enumerate(annotations):
        _add(annotation, position, entries, names, file, source, log)
    records = [
        replace(entry.record, boxes=tuple(entry.boxes), masks=tuple(entry.masks))
        for entry in entries.values()
        if entry is not None
    ]
    return Content(records, tuple(dict.fromkeys(names.values())))


def _entries(content: dict[str, Any], key: str, file: Path, log: FaultLog) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        found = "nothing" if entries is None else type(entries).__name__
        raise DataError(f"{file}: expected a list under '{key}', found {found}; export the file as COCO instances")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problem = f"expected an object at {key}[{position}], found {entry!r:.60}; it was left out"
            log.add(file, None, "broken entry", problem)
    return [entry for entry in entries if isinstance(entry, dict)]


def _key(value: Any) -> str | None:
    """Returns an id as text, so that 7, 7.0 and "7" are the same; None for what is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) and value != "" else None


def _category_names(categories: list[dict[str, Any]], file: Path, log: FaultLog) -> dict[str, str]:
    names: dict[str, str] = {}
    for position, category in enumerate(categories):
        key, name = _key(category.get("id")), category.get("name")
        if key is None or not isinstance(name, (str, int)) or not str(name).strip():
            problem = f"expected an id and a name at categories[{position}], found {category!r:.80}; it was left out"
            log.add(file, None, "broken category", problem)
        elif names.setdefault(key, str(name)) != str(name):
            problem = f"category id {key} is '{names[key]}' already; its second name '{name}' was left out"
            log.add(file, None, "duplicate category", problem)
    return names


def _read_images(images: list[dict[str, Any]], file: Path, source: Source, log: FaultLog) -> dict[str, _Entry | None]:
    """Returns the pictures by their id as text; None for those that were left out, whose annotations go with them."""
    index = picture_index(file.parent, [split_name(file), file.stem])
    step = max(1, -(-len(images) // _CHECKED))
    sample, before = set(range(0, len(images), step)), len(log.faults)
    entries: dict[str, _Entry | None] = {}
    for check in (sample, set(range(len(images)))):
        del log.faults[before:]
        entries = {}
        disagree = False
        for position, image in enumerate(images):
            key = _key(image.get("id"))
            if key is None or key in entries:
                kind = "picture without id" if key is None else "duplicate image id"
                problem = f"expected an id of its own at images[{position}], found {image!r:.80}; it was left out"
                log.add(file, None, kind, problem)
                continue
            record = _record(image, key, index, position in check, file, source, log)
            entries[key] = None if record is None else _Entry(record)
            stated = _stated_size(image)
            picture = record and record.picture
            disagree |= record is not None and stated not in (None, record.size)
            disagree |= isinstance(picture, FilePicture) and not picture.upright
        if not disagree:
            break
    return entries


def _stated_size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = whole(image.get("width")), whole(image.get("height"))
    return (width, height) if width and height and width > 0 and height > 0 else None


def _record(
    image: dict[str, Any], key: str, index: FileIndex, check: bool, file: Path, source: Source, log: FaultLog
) -> Record | None:
    """Returns the record of one entry of `images`, still without boxes; None when its picture cannot be used."""
    name = image.get("file_name")
    name = name if isinstance(name, str) else ""
    record_id = name or key
    size = _stated_size(image)
    path = index.find(name)
    picture: Picture | None = None if path is None else FilePicture(path)
    if path is None and source.need_pictures:
        what = f"found no file {name} in or beside {file.parent}" if name else "the entry has no file_name"
        log.add(file, record_id, "missing picture", f"expected a picture, but {what}; the record was left out")
        return None
    if path is not None and (size is None or (check and source.need_pictures)):
        try:
            picture, size = settled(path, size, file, record_id, log)
        except DataError as error:
            log.add(file, record_id, "broken picture", f"{error}; the record was left out")
            return None
    image_id = image["id"]
    return Record(record_id, picture, size, image_id=image_id, source=str(file))


def _add(
    annotation: dict[str, Any],
    position: int,
    entries: dict[str, _Entry | None],
    names: dict[str, str],
    file: Path,
    source: Source,
    log: FaultLog,
) -> None:
    """Adds one entry of `annotations` to its picture, or logs what is wrong with it."""
    what = f"annotation {annotation['id']}" if _key(annotation.get("id")) else f"annotations[{position}]"
    key = _key(annotation.get("image_id"))
    if key not in entries:
        problem = f"{what} is for image {annotation.get('image_id')!r}, which the file does not list; it was left out"
        log.add(file, None, "unknown image", problem)
        return
    entry = entries[key]
    if entry is None:
        return  # left out with its picture, which has a fault already
    where = Where(file, entry.record.id, what)
    label = names.get(_key(annotation.get("category_id")) or "")
    if label is None:
        problem = (
            f"{what} has category {annotation.get('category_id')!r}, which the file does not list; it was left out"
        )
        log.add(file, entry.record.id, "unknown category", problem)
        return
    bbox = numbers(annotation.get("bbox"), 4)
    if bbox is None:
        found = repr(annotation["bbox"])[:60] if "bbox" in annotation else "none"
        problem = f"expected a bbox [x, y, width, height] of numbers at {what}, found {found}; it was left out"
        log.add(file, entry.record.id, "broken box", problem)
        return
    x, y, width, height = bbox
    crowd = bool(whole(annotation.get("iscrowd")))
    box = usable_box(
        label,
        (x, y, x + width, y + height),
        entry.record.size,
        where,
        log,
        crowd=crowd,
        difficult=bool(whole(annotation.get("difficult"))),
        area=number(annotation.get("area")),
    )
    if box is None:
        return
    entry.boxes.append(box)
    if source.need_masks:
        entry.masks.extend(_masks(annotation.get("segmentation"), entry.record, box, where, log))


def _masks(segmentation: Any, record: Record, box: Box, where: Where, log: FaultLog) -> Iterator[Mask]:
    """Yields the annotation's mask, if it has a usable one; what is wrong with it is logged."""
    if record.size is None:
        problem = f"{where.what} ({box.label}) has no mask, as the size of its picture is not known"
        log.add(where.file, record.id, "no mask", problem)
        return
    width, height = record.size
    counts, wrong = segmentation_counts(segmentation, record.size)
    if wrong:
        kind = "no mask" if wrong == "no segmentation" else "broken mask"
        done = "its box was kept without a mask" if counts is None else "the rest was used"
        problem = f"expected polygons or run lengths at {where.what} ({box.label}), found {wrong}; {done}"
        log.add(where.file, record.id, kind, problem)
    if counts is None:
        return
    if mask_area((height, width), counts) == 0:
        problem = f"expected a mask at {where.what} ({box.label}), but it covers no pixel; its box was kept without it"
        log.add(where.file, record.id, "mask without area", problem)
        return
    yield Mask(box.label, (height, width), counts, crowd=box.crowd)
