"""Writing JSON lines in PaliGemma's form: {"image", "prefix", "suffix"}, and what result files know a record by."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.placing import Item
from mmtune.data.suffixes import holds_boxes, holds_masks
from mmtune.errors import DataError
from mmtune.records import Question, Record, Turn


def write_jsonl(items: Sequence[Item], classes: Sequence[str], file: Path, log: FaultLog) -> int:
    """Writes a line a record: its conversation, or its texts, else its boxes as a detection target.

    The prefix is the record's own, else "detect" and all classes. Crowd regions are no objects to name and are left
    out. Several texts that belong to one prefix become a list. The id of a question or conversation, the number of its
    picture, and what the data says of a question (types, choices) stand beside them, so that scores stay what they are.

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


def _writes_texts(record: Record) -> bool:
    """Whether a record's texts are written, not its boxes: where they are more than these in PaliGemma's words.

    Segmentation tokens stay as they are: what they mean is known to their codec alone.
    """
    told = not holds_boxes(None, record.texts) or holds_masks(record.texts) or not record.boxes
    return bool(record.texts) and told


def _line(item: Item, classes: Sequence[str], log: FaultLog) -> dict[str, Any] | None:
    record = item.record
    if record.turns:
        said = {"id": record.id, "messages": [_message(turn) for turn in record.turns]}
        return said | ({"suffix": list(record.texts)} if record.texts else {})
    image: dict[str, Any] = {} if item.picture is None else {"image": item.picture}
    if record.image_id is not None:
        image["image_id"] = record.image_id
    if _writes_texts(record) or not (record.boxes or classes):
        suffix = record.texts[0] if len(record.texts) == 1 else list(record.texts)
        return image | _identity(record) | {"prefix": record.prefix or "", "suffix": suffix} | _about(record.question)
    if record.size is None:
        problem = "expected a picture or its size, as the coordinates are fractions of it; the record was left out"
        log.add(record.source, record.id, "unknown size", problem)
        return None
    from mmtune.codecs.boxes import encode_boxes

    boxes = [box for box in record.boxes if not box.crowd]
    prefix = record.prefix or f"detect {' ; '.join(classes)}"
    return image | {"prefix": prefix, "suffix": encode_boxes(boxes, record.size)}


def _identity(record: Record) -> dict[str, Any]:
    """Returns the id of a prompt where it is not the picture's name: several questions may be about one."""
    if not record.prefix or (record.picture is not None and record.picture.name.endswith(record.id)):
        return {}
    return {"id" if record.picture is None else "question_id": record.id}


def _about(question: Question | None) -> dict[str, Any]:
    """Returns what is known of a question, under the names by which `mmtune.data.vqa_items` reads it."""
    if question is None:
        return {}
    known = {
        "question_type": question.kind,
        "answer_type": question.answer_kind,
        "choices": list(question.choices) or None,
        "correct_choice_idx": question.correct,
        "difficult_direct_answer": question.difficult or None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _message(turn: Turn) -> dict[str, Any]:
    weight = {} if turn.weight == 1 else {"weight": turn.weight}
    return {"role": turn.role, "content": turn.text} | weight
