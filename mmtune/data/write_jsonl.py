"""Writing JSON lines in PaliGemma's form: {"image", "prefix", "suffix"}."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.placing import Item
from mmtune.errors import DataError
from mmtune.records import Turn


def write_jsonl(items: Sequence[Item], classes: Sequence[str], file: Path, log: FaultLog) -> int:
    """Writes a line a record: its conversation, or its boxes as a detection target, else its texts.

    The prefix is the record's own, else "detect" and all classes. Crowd regions are no objects to name and are left
    out. Several texts that belong to one prefix become a list.

    Args:
        items: The records.
        classes: Class names; empty where the data is not about objects.
        file: What to write.
        log: Takes the fault "unknown size": box coordinates are fractions of the picture's size.

    Returns:
        How many records were written.

    Raises:
        DataError: When a class name cannot be written into such a text and read back.
    """
    from mmtune.codecs.boxes import label_problem

    for name in classes:
        problem = label_problem(name)
        if problem:
            raise DataError(f"this data cannot be written as jsonl: {problem}")
    written = 0
    with file.open("w", encoding="utf-8") as stream:
        for item in items:
            line = _line(item, classes, log)
            if line is not None:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
    return written


def _line(item: Item, classes: Sequence[str], log: FaultLog) -> dict[str, Any] | None:
    record = item.record
    if record.turns:
        said = {"messages": [_message(turn) for turn in record.turns]}
        return said | ({"suffix": list(record.texts)} if record.texts else {})
    image = {} if item.picture is None else {"image": item.picture}
    if not record.boxes and (record.texts or not classes):
        suffix = record.texts[0] if len(record.texts) == 1 else list(record.texts)
        return image | {"prefix": record.prefix or "", "suffix": suffix}
    if record.size is None:
        problem = "expected a picture or its size, as the coordinates are fractions of it; the record was left out"
        log.add(record.source, record.id, "unknown size", problem)
        return None
    from mmtune.codecs.boxes import encode_boxes

    boxes = [box for box in record.boxes if not box.crowd]
    prefix = record.prefix or f"detect {' ; '.join(classes)}"
    return image | {"prefix": prefix, "suffix": encode_boxes(boxes, record.size)}


def _message(turn: Turn) -> dict[str, Any]:
    weight = {} if turn.weight == 1 else {"weight": turn.weight}
    return {"role": turn.role, "content": turn.text} | weight
