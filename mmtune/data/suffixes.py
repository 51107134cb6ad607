"""PaliGemma's text in data sets of prefixes and suffixes: the classes that it names, the boxes that it holds."""

import re
from collections.abc import Sequence
from dataclasses import replace

from mmtune.codecs.boxes import SEPARATOR, DecodedBoxes, decode_boxes, from_bins
from mmtune.codecs.mask_network import SEGMENTS
from mmtune.data.dataset import FaultLog
from mmtune.data.images import size_of
from mmtune.data.json_lines import short
from mmtune.data.objects import Where, usable_box
from mmtune.errors import DataError
from mmtune.records import Box, Record

_ASKED = re.compile(r"(?:detect|segment)\s+(\S.*)", re.DOTALL)
_SEGMENT = "<seg"
_ALL = "all classes"  # the prefix of the published recipe names no class


def asked_classes(prefix: str | None) -> tuple[str, ...]:
    """Returns the classes that a prefix such as "detect cat ; dog" or "segment cat" names.

    >>> asked_classes("detect cat ; dog")
    ('cat', 'dog')
    """
    asked = _ASKED.fullmatch(prefix.strip()) if prefix else None
    names = (name.strip() for name in asked[1].split(SEPARATOR)) if asked else ()
    return tuple(name for name in names if name and name != _ALL)


def names_all_classes(prefix: str) -> bool:
    """Whether a prefix is that of the published recipes, which stands for all classes of the data."""
    asked = _ASKED.fullmatch(prefix.strip())
    return asked is not None and asked[1] == _ALL


def holds_boxes(task: str | None, texts: Sequence[str]) -> bool:
    """Whether the texts of a record are to be parsed into boxes: where the task has some, or none says otherwise."""
    return task in ("detection", "segmentation") or (task is None and bool(texts) and texts[0].startswith("<loc"))


def holds_masks(texts: Sequence[str]) -> bool:
    """Whether the texts of a record have segmentation tokens."""
    return any(_SEGMENT in text for text in texts)


def known_size(record: Record, stated: tuple[int, int] | None, log: FaultLog) -> tuple[int, int] | None:
    """Returns (width, height) in pixels of the record's picture, or None, and then the reason is logged.

    Args:
        record: Of which `picture`, `id` and `source` are used.
        stated: What the annotations say, for records without a picture.
        log: Takes the faults "unknown size" and "broken picture".
    """
    if record.picture is None:
        if stated is None:
            problem = "expected a picture, or its width and height, to place the boxes; the record is left out"
            log.add(record.source, record.id, "unknown size", problem)
        return stated
    try:
        return size_of(record.picture)
    except DataError as error:
        log.add(record.source, record.id, "broken picture", f"{error}; the record is left out")
        return None


def decoded_texts(record: Record) -> DecodedBoxes:
    """Returns the objects that a record's texts hold.

    Where there are segmentation tokens, every object must have its sixteen; and where then the prefix names no class,
    it is a referring expression, whose object is not named in the text.
    """
    text = SEPARATOR.join(text for text in record.texts if text)
    if _SEGMENT not in text:
        return decode_boxes(text)
    return decode_boxes(text, SEGMENTS, named=bool(asked_classes(record.prefix)))


def with_suffix_boxes(record: Record, size: tuple[int, int] | None, log: FaultLog) -> Record | None:
    """Returns the record with the boxes that its texts hold, and with the size of its picture.

    Args:
        record: Whose texts are such as "<loc0100><loc0200><loc0300><loc0400> cat ; ...", with segmentation tokens
            before the labels or without.
        size: (width, height) in pixels, as `known_size` gives it.
        log: Takes the fault "unparsable suffix" and those of boxes.

    Returns:
        None when the size is None, or when nothing of a text can be read.
    """
    if size is None:
        return None
    decoded = decoded_texts(record)
    if decoded.invalid:
        left = "these are" if decoded.boxes else "the record is"
        problem = (
            f"expected '<locNNNN><locNNNN><locNNNN><locNNNN> label ; ...' as suffix, received "
            f"{short(SEPARATOR.join(record.texts))}, of which {decoded.invalid} parts cannot be read; {left} left out"
        )
        log.add(record.source, record.id, "unparsable suffix", problem)
        if not decoded.boxes:
            return None
    boxes: list[Box] = []
    for index, item in enumerate(decoded.boxes, 1):
        where = Where(record.source, record.id, f"object {index}")
        box = usable_box(item.label, from_bins(item.bins, size), size, where, log)
        boxes += [] if box is None else [box]
    return replace(record, size=size, boxes=tuple(boxes))
