"""Tables with a row a caption: what is said of one picture makes one record."""

from collections.abc import Sequence
from dataclasses import replace

from mmtune.records import Record


def one_record_a_picture(records: Sequence[Record], marks: Sequence[str]) -> tuple[list[Record], list[str]]:
    """Returns records with all texts of rows that share picture and prompt, in the order of the first of them.

    Captions of one picture are right answers to one question: they are taught and scored together.

    Args:
        records: One a row.
        marks: The line of each record, and its split.

    Returns:
        The records, and the marks of their first rows.
    """
    places: dict[tuple[str, str, str | None], int] = {}
    joined: list[Record] = []
    kept: list[str] = []
    for record, mark in zip(records, marks, strict=True):
        split = mark.rpartition(":")[0]
        key = (split, record.id, record.prefix)
        place = len(joined) if record.picture is None else places.setdefault(key, len(joined))
        if place < len(joined):
            joined[place] = replace(joined[place], texts=(*joined[place].texts, *record.texts))
        else:
            joined.append(record)
            kept.append(mark)
    return joined, kept
