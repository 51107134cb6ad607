"""Examples to begin with: generated scenes, the same in every start, drawn into the server's own folder."""

from dataclasses import dataclass
from pathlib import Path

from mmtune.api import read

ADDRESS = "shapes:test?n={count}&seed=11&max_objects=4"
COUNT = 4

TEXTS = ("what is the opposite of hot?", "name three colours", "write a line about the sea")
"""Examples of the task without pictures."""


@dataclass(frozen=True)
class Example:
    """What an example fills in.

    Attributes:
        picture: A file, None for text tasks.
        question: A question or text, "" where the task needs none.
        classes: What to look for, in tasks with classes.
        title: What it is called on the page.
    """

    picture: Path | None = None
    question: str = ""
    classes: tuple[str, ...] = ()
    title: str = ""


def examples_of(task: str, folder: Path) -> tuple[Example, ...]:
    """Returns a task's examples; their pictures are drawn into the folder unless they lie there."""
    if task == "instruct":
        return tuple(Example(question=text, title=text) for text in TEXTS)
    found = []
    for record in read(ADDRESS.format(count=COUNT), task=task):
        file = folder / f"{record.id}.png"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            assert record.picture is not None
            record.picture.open().save(file, "PNG")
        labels = tuple(dict.fromkeys(box.label for box in record.boxes))
        question = record.prefix or ""
        found.append(Example(file, question, labels, question or " ; ".join(labels)))
    return tuple(found)
