"""Writing a data set in another format, whole or not at all."""

import os
import shutil
from pathlib import Path

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.placing import Item, Place, placed
from mmtune.data.suffixes import asked_classes, holds_boxes, holds_masks, names_all_classes
from mmtune.data.write_coco import write_coco
from mmtune.data.write_jsonl import write_jsonl
from mmtune.data.write_voc import write_voc
from mmtune.data.write_yolo import write_yolo
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.files import publish
from mmtune.records import Fault, Record

FORMATS = ("coco", "jsonl", "yolo", "voc")
"""The formats that `convert` writes."""

_FILES = {"coco": "annotations.json", "jsonl": "annotations.jsonl"}
_PICTURES = {"coco": "images", "jsonl": "images", "yolo": "images", "voc": "JPEGImages"}


def convert(dataset: Dataset, out: Path, format: str) -> tuple[Fault, ...]:  # noqa: A002 - the command line's name
    """Writes a data set in another format; nothing is seen under the name `out` until it is complete.

    coco and jsonl are one file if `out` ends in .json or .jsonl, else a folder with `annotations.json` or
    `annotations.jsonl`; they name pictures by their path relative to that file. yolo and voc are folders whose
    pictures are links to the files. Pictures that are no files are written as PNG, beside a single file into a
    folder `<name>_images`.

    Args:
        dataset: Records with unique ids.
        out: A file or folder that does not exist yet, or an empty folder.
        format: One of `FORMATS`.

    Returns:
        A fault for every record that was left out, and one without a record for each kind of thing that the format
        does not hold: "masks left out", "texts left out", "boxes left out".

    Raises:
        UsageError: When the format is unknown, holds boxes while the data has none, or `out` exists.
        DataError: When no record can be written, or a class name cannot stand in PaliGemma's text.
    """
    out = Path(out)
    if format not in FORMATS:
        raise UsageError(unknown_name("format", format, FORMATS))
    classes = _classes(dataset)
    if format != "jsonl" and not classes:
        raise UsageError(f"{dataset.name}: the format {format} holds boxes, but this data has none; write jsonl")
    single = format in _FILES and out.suffix.lower() in (".json", ".jsonl")
    pictures = f"{out.stem}_images" if single else _PICTURES[format]
    for path in (out, out.parent / pictures) if single else (out,):
        _refuse_existing(path)
    log = FaultLog()
    work = out.parent / f".{out.name}.{os.getpid()}.tmp"
    work.mkdir(parents=True)
    try:
        place = Place(work, out.parent if single else out, pictures, link=format in ("yolo", "voc"))
        items = placed(dataset.records, place, log)
        name = out.name if single else _FILES.get(format, "")
        if not _write(items, classes, format, work / name, log):
            first = log.faults[0].problem if log.faults else "there are no records"
            raise DataError(f"{dataset.name}: no record can be written as {format}: {first}")
        _publish(work, out, single)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return (*log.faults, *_losses(dataset, out, format))


def _losses(dataset: Dataset, out: Path, form: str) -> list[Fault]:
    """Returns what the records have and the format does not hold."""
    records = dataset.records
    masks = sum(bool(record.masks) for record in records) if form != "coco" else 0
    codes = sum(holds_masks(record.texts) for record in records) if form != "jsonl" else 0
    texts = sum(_is_told(record) for record in records) if form != "jsonl" else 0
    boxes = sum(bool(record.boxes) and _has_words(record) for record in records) if form == "jsonl" else 0
    lost = (
        ("masks left out", masks, f"{form} does not hold the masks of {masks} records; coco does"),
        ("masks left out", codes, f"{form} does not hold the segmentation tokens of {codes} records; jsonl does"),
        ("texts left out", texts, f"{form} does not hold the texts and prompts of {texts} records; jsonl does"),
        ("boxes left out", boxes, f"a line holds texts or boxes: of {boxes} records the texts were written"),
    )
    return [Fault(str(out), None, kind, problem) for kind, count, problem in lost if count]


def _is_told(record: Record) -> bool:
    """Whether a record has texts or a prompt of its own that say more than its boxes do."""
    prefix = record.prefix or ""
    return _has_words(record) or bool(prefix and not asked_classes(prefix) and not names_all_classes(prefix))


def _has_words(record: Record) -> bool:
    """Whether a record has texts that are not its boxes in PaliGemma's words."""
    return bool(record.texts) and not holds_boxes(None, record.texts)


def _write(items: list[Item], classes: tuple[str, ...], form: str, path: Path, log: FaultLog) -> int:
    """Writes the annotations and returns how many records are in them."""
    if form == "coco":
        return write_coco(items, classes, path)
    if form == "jsonl":
        return write_jsonl(items, classes, path, log)
    if form == "yolo":
        return write_yolo(items, classes, path, log)
    return write_voc(items, path)


def _classes(dataset: Dataset) -> tuple[str, ...]:
    """Returns the data set's classes, then those that only its objects name."""
    objects = [thing.label for record in dataset.records for thing in (*record.boxes, *record.masks)]
    return tuple(dict.fromkeys([*dataset.classes, *objects]))


def _refuse_existing(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: expected a name that is free, but it exists; remove it or choose another")


def _publish(work: Path, out: Path, single: bool) -> None:
    if not single:
        if out.is_dir():
            out.rmdir()  # empty, as was checked
        publish(work, out)
        return
    # The pictures first, so that the file never names what is not there yet.
    for path in sorted(work.iterdir(), key=lambda path: path.name == out.name):
        target = out.parent / path.name
        if target.is_dir():
            target.rmdir()
        publish(path, target)
