"""Writing a data set in another format, whole or not at all."""

import os
import shutil
from pathlib import Path

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.placing import Item, Place, placed
from mmtune.data.write_coco import write_coco
from mmtune.data.write_jsonl import write_jsonl
from mmtune.data.write_voc import write_voc
from mmtune.data.write_yolo import write_yolo
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Fault

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
        A fault for every record that was left out.

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
    return tuple(log.faults)


def _write(items: list[Item], classes: tuple[str, ...], format: str, path: Path, log: FaultLog) -> int:  # noqa: A002
    """Writes the annotations and returns how many records are in them."""
    if format == "coco":
        return write_coco(items, classes, path)
    if format == "jsonl":
        return write_jsonl(items, classes, path, log)
    if format == "yolo":
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
        work.rename(out)
        return
    # The pictures first, so that the file never names what is not there yet.
    for path in sorted(work.iterdir(), key=lambda path: path.name == out.name):
        target = out.parent / path.name
        if target.is_dir():
            target.rmdir()
        path.rename(target)
