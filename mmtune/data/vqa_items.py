"""One question of a data set, by whatever names its file calls question, picture and answers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.json_lines import short
from mmtune.data.objects import whole
from mmtune.data.tables import as_texts
from mmtune.records import Question

ID_KEYS = ("question_id", "questionId", "qa_id", "id")
QUESTION_KEYS = ("question", "query", "question_text")
NAME_KEYS = (
    "image", "imgname", "image_filename", "file_path", "image_local_name", "file_name", "filename", "image_path",
    "image_name",
)  # fmt: skip
NUMBER_KEYS = ("image_id", "imageId")
ANSWER_KEYS = ("answers", "direct_answers", "answer", "label")
CHOICE_KEYS = ("choices", "multiple_choices")
CORRECT_KEYS = ("correct_choice_idx",)
_DIFFICULT_KEY = "difficult_direct_answer"
_CHOSEN_KEYS = ("multiple_choice_answer", "answer")  # the first is VQA v1's
KIND_KEYS = ("question_type", "question_types")


@dataclass(frozen=True, slots=True)
class Item:
    """A question as its file has it.

    Attributes:
        where: File and place, for messages.
        id: By which result files know it; None where the file gives none.
        question: Its text.
        answers: In the order of the file; empty where there is none.
        names: Names of the picture's file, the likeliest first.
        image_id: Number or name of the picture, where it has one besides its file's.
        about: Types and choices.
    """

    where: str
    id: str | None
    question: str
    answers: tuple[str, ...]
    names: tuple[str, ...]
    image_id: int | str | None
    about: Question | None

    @property
    def shown(self) -> str | None:
        """What a message calls the question."""
        return self.id or next(iter(self.names), None) or (None if self.image_id is None else str(self.image_id))


def items_of(entries: Iterable[Any], file: Path, log: FaultLog, complete: bool = True) -> Iterator[Item]:
    """Yields the entries of a file that are questions about a picture, and logs the others.

    Args:
        entries: In the order of the file; each should be an object with one of each of `QUESTION_KEYS`, of `NAME_KEYS`
            or `NUMBER_KEYS`, and (but for test data) of `ANSWER_KEYS`.
        file: Where they come from.
        log: Takes the faults "malformed question", "malformed answers" and "malformed choices".
        complete: Whether question and picture must be there; for scoring an id and answers will do.
    """
    for position, values in enumerate(entries):
        item = _item(values, f"{file}, item {position}", log, complete)
        if item is not None:
            yield item


def _item(values: Any, where: str, log: FaultLog, complete: bool) -> Item | None:
    if not isinstance(values, Mapping):
        log.add(where, None, "malformed question", f"expected an object, found {short(values)}; it was left out")
        return None
    identity = _first(values, ID_KEYS)
    key = str(identity) if isinstance(identity, (int, str)) and not isinstance(identity, bool) else None
    question = _first(values, QUESTION_KEYS)
    names = tuple(values[name] for name in NAME_KEYS if isinstance(values.get(name), str) and values[name])
    image_id = _first(values, NUMBER_KEYS)
    if key is not None and not complete:
        question = question if isinstance(question, str) else ""
    elif not isinstance(question, str) or not question.strip():
        problem = f"expected a text as question, found {short(question)}; it was left out"
        log.add(where, key, "malformed question", problem)
        return None
    if (complete or key is None) and not names and (not isinstance(image_id, (int, str)) or isinstance(image_id, bool)):
        problem = f"expected the name or number of a picture, found {short(image_id)}; the question was left out"
        log.add(where, key, "malformed question", problem)
        return None
    answers, choices = answers_of(_first(values, ANSWER_KEYS)), answers_of(_first(values, CHOICE_KEYS))
    if answers is None or choices is None:
        what, keys = ("answers", ANSWER_KEYS) if answers is None else ("choices", CHOICE_KEYS)
        problem = f"expected a list of texts as {what}, found {short(_first(values, keys))}; the question was left out"
        log.add(where, key, f"malformed {what}", problem)
        return None
    correct = _correct(values, choices)
    if correct is not None and (not answers or answers == (str(correct),)):
        answers = (choices[correct],)
    number = image_id if isinstance(image_id, (int, str)) else None
    return Item(where, key, question.strip(), answers, names, number, question_of(values))


def question_of(values: Mapping[str, Any]) -> Question | None:
    """Returns what an object says of its question besides text and answers; None where it says nothing."""
    choices = answers_of(_first(values, CHOICE_KEYS)) or ()
    kind, answer_kind = _kind(_first(values, KIND_KEYS)), _kind(values.get("answer_type"))
    difficult = values.get(_DIFFICULT_KEY) is True
    found = Question(kind, answer_kind, choices, _correct(values, choices), difficult)
    return None if found == Question() else found


def _first(values: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((values[key] for key in keys if values.get(key) is not None), None)


def answers_of(value: Any) -> tuple[str, ...] | None:
    """Returns a text, a number or a list of them as texts; None for anything else, an empty tuple for nothing."""
    items = value if isinstance(value, list) else [value]
    return as_texts([str(item) if type(item) in (int, float) else item for item in items])


def _correct(values: Mapping[str, Any], choices: tuple[str, ...]) -> int | None:
    """Returns the place of the right choice: as a number of its own or as the answer, or where the answer is one."""
    place = whole(_first(values, CORRECT_KEYS))
    if place is None and type(values.get("answer")) is int:
        place = values["answer"]
    told = next((values[key] for key in _CHOSEN_KEYS if isinstance(values.get(key), str)), None)
    if place is None and told in choices:
        place = choices.index(told)
    return place if place is not None and 0 <= place < len(choices) else None


def _kind(value: Any) -> str | None:
    """Returns a type's name; of several, as DocVQA has them, all in one."""
    kinds = [kind for kind in (value if isinstance(value, list) else [value]) if isinstance(kind, str) and kind]
    return " + ".join(kinds) or None
