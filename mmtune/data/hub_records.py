"""From the rows of a hub data set to records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.hub_boxes import BOX_FORMATS, Form, Item, form_of, items_of
from mmtune.data.hub_rows import HubRows
from mmtune.data.instructions import text_records
from mmtune.data.json_lines import short
from mmtune.data.objects import Where, usable_box, whole
from mmtune.data.reader import Source
from mmtune.data.suffixes import asked_classes, holds_boxes, with_suffix_boxes
from mmtune.data.tables import as_texts
from mmtune.errors import DataError, unknown_name
from mmtune.records import Box, Record


@dataclass(frozen=True)
class _Pending:
    """A record whose boxes wait for the verdict on how the set writes them."""

    number: int
    record: Record
    items: Sequence[Item] = ()
    box_format: str | None = None


def records_of(rows: HubRows, source: Source, log: FaultLog, classes: dict[str, None]) -> Iterator[tuple[int, Record]]:
    """Yields the number of the row and the record, for every row of a split that can be used.

    Args:
        rows: The rows.
        source: Of which the task, the need of pictures and the option `boxes` matter.
        log: Takes the faults.
        classes: Takes the class names.

    Raises:
        DataError: When the columns are not such as any task could use.
    """
    layout = rows.layout
    asks = source.task == "instruct" and not layout.is_label
    if layout.image is None and (asks or layout.chat is not None):
        yield from text_records(rows, f"{rows.split}/" if rows.split else "row ", log)
        return
    if layout.image is None and (layout.prefix is None or layout.text is None):
        raise DataError(
            f"{source.path}: expected a column with pictures (image), or columns with texts (prefix and suffix, "
            f"question and answer, text and label), received the columns {', '.join(rows.columns)}"
        )
    names = layout.objects.names if layout.objects else layout.text_names if layout.is_label else None
    classes.update(dict.fromkeys(names or ()))
    nameless: set[int] = set()
    pending = [one for number, place, row in rows if (one := _pending(rows, number, place, row, source, nameless, log))]
    form = _form(pending, source, log)
    for one in pending:
        record = one.record
        if layout.objects is not None:
            record = _with_boxes(one, form, names, nameless, log)
        elif holds_boxes(source.task, record.texts):
            record = with_suffix_boxes(record, record.size, log)
        if record is None:
            continue
        if source.task in (None, "detection", "segmentation"):
            classes.update(dict.fromkeys(asked_classes(record.prefix)))
        if not nameless:
            labels = (*(box.label for box in record.boxes), *(record.texts if layout.is_label else ()))
            classes.update(dict.fromkeys(labels))
        yield one.number, record
    if nameless:
        classes.update(dict.fromkeys(str(number) for number in sorted(nameless)))
        problem = f"expected class names, the column has the numbers {short(sorted(nameless))}; they serve as names"
        log.add(source.path, None, "classes without names", problem)


def _pending(
    rows: HubRows, number: int, place: str, row: Mapping[str, Any], source: Source, nameless: set[int], log: FaultLog
) -> _Pending | None:
    layout = rows.layout
    key = row.get(layout.id) if layout.id else None
    given = str(key) if isinstance(key, (str, int)) and not isinstance(key, bool) and key != "" else None
    image_id = row.get(layout.image_id) if layout.image_id else None
    record = Record(
        given or (f"{rows.split}/{number}" if rows.split else f"row {number}"),
        image_id=image_id if isinstance(image_id, (str, int)) else None,
        source=place,
    )
    if layout.image is not None:
        picture = rows.picture(number, row)
        if not isinstance(picture, str):
            record = replace(record, picture=picture)
        elif source.need_pictures:
            problem = f"expected a picture, but {picture}; the row is left out"
            log.add(place, record.id, "missing picture", problem)
            return None
    told = _told(rows, record, row, nameless, log)
    if told is None:
        return None
    if layout.objects is None and not holds_boxes(source.task, told.texts):
        return _Pending(number, told)
    sized = _sized(rows, told, row, log)
    if sized is None or layout.objects is None:
        return None if sized is None else _Pending(number, sized)
    items, problems = items_of(row, layout.objects)
    for problem in problems:
        log.add(place, record.id, "broken box", f"{problem}; it was left out")
    box_format = row.get(layout.box_format) if layout.box_format else None
    return _Pending(number, sized, items, box_format if isinstance(box_format, str) else None)


def _told(rows: HubRows, record: Record, row: Mapping[str, Any], nameless: set[int], log: FaultLog) -> Record | None:
    """Adds prefix and texts."""
    layout = rows.layout
    prefix = row.get(layout.prefix) if layout.prefix else None
    if layout.prefix and not isinstance(prefix, str):
        problem = f"expected a string as {layout.prefix}, received {short(prefix)}; the row is left out"
        log.add(record.source, record.id, "malformed value", problem)
        return None
    if layout.text is None:
        return replace(record, prefix=prefix or None)
    value = row.get(layout.text)
    if layout.is_label and not layout.text_names and isinstance(value, int):
        nameless.add(value)
        value = str(value)
    texts = as_texts(_named(value, layout.text_names) if layout.text_names else value)
    if not texts and (texts is None or layout.objects is None):
        kind = "missing text" if value in (None, [], "") else "malformed value"
        expected = f"a class of {len(layout.text_names)}" if layout.text_names else "a string or a list of strings"
        problem = f"expected {expected} as {layout.text}, received {short(value)}; the row is left out"
        log.add(record.source, record.id, kind, problem)
        return None
    return replace(record, prefix=prefix or None, texts=texts or ())


def _named(value: Any, names: Sequence[str]) -> Any:
    """Returns the name of a class number, or the names of a list of them; what has none is returned as it is."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else value


def _sized(rows: HubRows, record: Record, row: Mapping[str, Any], log: FaultLog) -> Record | None:
    """Adds the size of the picture, read from its header; None, and a fault, where it is broken."""
    layout = rows.layout
    width, height = (whole(row.get(name)) if name else None for name in (layout.width, layout.height))
    stated = (width, height) if width and height and min(width, height) > 0 else None
    if record.picture is None:
        return replace(record, size=stated)
    try:
        size = rows.size(record.picture)
    except DataError as error:
        log.add(record.source, record.id, "broken picture", f"{error}; the row is left out")
        return None
    if stated is not None and stated != size:
        problem = (
            f"expected a picture of {stated[0]} x {stated[1]} pixels, but it has {size[0]} x {size[1]}; its boxes were "
            "taken as pixels of the picture as it is"
        )
        log.add(record.source, record.id, "size disagrees", problem)
    return replace(record, size=size)


def _form(pending: Sequence[_Pending], source: Source, log: FaultLog) -> Form:
    """Returns how the set writes its boxes: as the user says, else judged by all boxes; anything unusual is a fault."""
    boxes = [(item.values, one.record.size) for one in pending for item in one.items if one.record.size is not None]
    judged = form_of(boxes)
    said = source.options.get("boxes")
    if said is not None:
        return Form(BOX_FORMATS[said] == "xyxy", judged.fractions)
    if all(one.box_format is None for one in pending) and judged.corners:
        problem = (
            "expected boxes x, y, width, height, but so they would leave their pictures; they are read as corners "
            "x0, y0, x1, y1 (the option ?boxes=xywh or ?boxes=xyxy settles it)"
        )
        log.add(source.path, None, "boxes are corners", problem)
    if judged.fractions:
        problem = "expected boxes in pixels, but no value is above 1; they are read as fractions of the picture's size"
        log.add(source.path, None, "boxes are fractions", problem)
    return judged


def _with_boxes(
    one: _Pending, form: Form, names: Sequence[str] | None, nameless: set[int], log: FaultLog
) -> Record | None:
    record = one.record
    if form.fractions and record.size is None:
        problem = "expected a picture, or its width and height, to place boxes in fractions; the row is left out"
        log.add(record.source, record.id, "unknown size", problem)
        return None
    if one.box_format is not None:
        if one.box_format.lower() not in BOX_FORMATS:
            raise DataError(f"{record.source}: {unknown_name('bbox_format', one.box_format, BOX_FORMATS)}")
        form = Form(BOX_FORMATS[one.box_format.lower()] == "xyxy", form.fractions)
    boxes: list[Box] = []
    for index, item in enumerate(one.items, 1):
        label = _named(item.category, names) if names else item.category
        if names and not isinstance(label, str):
            problem = f"object {index} has the class {label}, but there are {len(names)} classes; it was left out"
            log.add(record.source, record.id, "unknown category", problem)
            continue
        if isinstance(label, int):
            nameless.add(label)
        where = Where(record.source, record.id, f"object {index}")
        edges = form.edges(item.values, record.size)
        box = usable_box(str(label), edges, record.size, where, log, crowd=item.crowd, area=item.area)
        boxes += [] if box is None else [box]
    return replace(record, boxes=tuple(boxes))
