"""Where converted data finds its pictures: by reference or link to the files they are, or written as PNG."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mmtune.data.dataset import FaultLog
from mmtune.data.images import SUFFIXES, FilePicture, size_of
from mmtune.errors import DataError
from mmtune.records import Record


@dataclass(frozen=True, slots=True)
class Item:
    """A record on its way into a file.

    Attributes:
        record: With its size, where that can be known.
        stem: A file name without suffix, unique within the data set.
        picture: The picture's path relative to the new annotations, with slashes; None without a picture.
    """

    record: Record
    stem: str
    picture: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a converted data set is written, and where it will be.

    Attributes:
        work: The folder that it is written to.
        home: The folder that this one's content will lie in at the end, from which paths are counted.
        pictures: Name of the folder of pictures in it.
        link: Whether every picture must lie in that folder (as a link to its file), or may be named where it is.
    """

    work: Path
    home: Path
    pictures: str
    link: bool


def placed(records: Sequence[Record], place: Place, log: FaultLog) -> list[Item]:
    """Returns the records with their pictures where the new annotations find them.

    A picture that is a file is referenced, or linked; all others, and those that are used as stored instead of
    upright, are written as PNG.

    Args:
        records: With unique ids.
        place: Where to.
        log: Takes the fault "broken picture", with which a record is left out.
    """
    taken: set[str] = set()
    items = []
    for record in records:
        stem = _stem(record.id, taken)
        try:
            items.append(_item(record, stem, place))
        except DataError as error:
            log.add(record.source, record.id, "broken picture", f"{error}; the record was left out")
    return items


def _item(record: Record, stem: str, place: Place) -> Item:
    picture = record.picture
    if picture is None:
        return Item(record, stem, None)
    if isinstance(picture, FilePicture) and picture.upright:
        known = record if record.size is not None else replace(record, size=size_of(picture))
        return Item(known, stem, _linked(picture.path, stem, place) if place.link else _relative(picture.path, place))
    image = picture.open()
    name = f"{place.pictures}/{stem}.png"
    (place.work / place.pictures).mkdir(exist_ok=True)
    image.save(place.work / name, "PNG")
    return Item(replace(record, size=image.size), stem, name)


def _relative(path: Path, place: Place) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), place.home.resolve())).as_posix()
    except ValueError:  # on another drive
        return path.resolve().as_posix()


def _linked(path: Path, stem: str, place: Place) -> str:
    name = f"{place.pictures}/{stem}{path.suffix}"
    folder = place.work / place.pictures
    folder.mkdir(exist_ok=True)
    target = os.path.relpath(path.resolve(), (place.home / place.pictures).resolve())
    try:
        (place.work / name).symlink_to(target)
    except OSError:  # a file system without links
        shutil.copyfile(path, place.work / name)
    return name


def _stem(record_id: str, taken: set[str]) -> str:
    """Returns a file name for a record that differs from those in `taken`, also where case does not count."""
    path = PurePosixPath(record_id.replace("\\", "/"))
    plain = str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path)
    stem = re.sub(r"[^\w.-]+", "_", plain).lstrip("._") or "record"
    number, unique = 1, stem
    while unique.casefold() in taken:
        number += 1
        unique = f"{stem}-{number}"
    taken.add(unique.casefold())
    return unique
