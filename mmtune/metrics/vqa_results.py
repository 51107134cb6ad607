"""Official answer files of visual question answering, read and scored without a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import json_rows, short
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.metrics.coco import id_key
from mmtune.metrics.result_files import only_file
from mmtune.metrics.vqa import VQAMetric
from mmtune.records import Prediction, Record

FORMATS = ("vqa", "okvqa", "jsonl", "tsv")
"""Forms of answer files: JSON in one of the official forms; the same, scored without leave-one-out; predictions of
mmtune; a line an answer, `id<TAB>text`."""

EXPECTED = (
    'JSON such as [{"question_id": 1, "answer": "yes"}] or [{"questionId": 1, "answer": "yes"}], predictions of mmtune '
    "(a JSON object a line with record and text), or lines of an id, a tab and an answer"
)

_ID_KEYS = ("question_id", "questionId", "record", "id")
_TEXT_KEYS = ("answer", "prediction", "text", "direct_answer", "multiple_choice")
_LISTS = ("results", "data", "annotations")


@dataclass(frozen=True, slots=True)
class Answer:
    """One line or item of an answer file.

    Attributes:
        where: File and place.
        id: Of the question, as text.
        text: What was answered.
        chosen: Whether it is a choice rather than an answer in words of one's own.
    """

    where: str
    id: str
    text: str
    chosen: bool = False


def score_vqa(truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog) -> dict[str, Any]:
    """Scores a file of answers.

    Args:
        truth: Questions with their answers, in any form that `mmtune.data.read` takes; pictures are not needed.
        predictions: See `EXPECTED`. A question without an answer counts as answered wrongly.
        form: One of `FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed answer", "unknown question", "duplicate answer" and "missing
            answer" of the predictions.

    Returns:
        {"task", "n": questions of the truth that have an answer, "metrics": see `VQAMetric`, "invalid": how many
        answers of the file could not be used}.

    Raises:
        UsageError: For an unknown form.
        DataError: When truth or predictions cannot be used at all.
    """
    from mmtune.data.read import read

    data = read(str(truth), task="vqa", need_pictures=False)
    log.faults.extend(data.faults)
    if not any(record.texts for record in data):
        raise DataError(f"{truth}: expected questions with answers, found none that has one: there is nothing to score")
    records = {id_key(record.id): record for record in data}
    found, refused = matched_answers(records, truth, predictions, form, log)
    metric = VQAMetric("okvqa" if form == "okvqa" else "auto", choose=any(answer.chosen for answer in found.values()))
    for key, record in records.items():
        if key not in found and record.texts:
            problem = "there is no answer to this question of the truth; it counts as wrong"
            log.add(str(predictions), record.id, "missing answer", problem)
        metric.update(record, Prediction(record.id, record.prefix or "", found[key].text if key in found else ""))
    return {"task": "vqa", "n": metric.count, "metrics": metric.compute(), "invalid": refused}


def matched_answers(
    records: Mapping[str, Record], truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog
) -> tuple[dict[str, Answer], int]:
    """Returns the answers of a file by the ids of their questions, and how many could not be used; those are logged.

    Args:
        records: The truth by `id_key` of its ids.
        truth: Its address, for messages.
        predictions: The file.
        form: One of `FORMATS`, or None.
        log: Takes the faults.

    Raises:
        UsageError: For an unknown form.
        DataError: When the file holds no answer to any of the questions.
    """
    before = len(log.faults)
    found: dict[str, Answer] = {}
    for answer in read_answers(Path(predictions), form, log):
        if answer.id not in records:
            problem = f"the truth has no question {answer.id!r}; the answer was left out"
            log.add(answer.where, answer.id, "unknown question", problem)
        elif answer.id in found:
            problem = f"the question has an answer in {found[answer.id].where} already, which was kept"
            log.add(answer.where, answer.id, "duplicate answer", problem)
        else:
            found[answer.id] = answer
    refused = log.faults[before:]
    if not found:
        first = f"; the first: {refused[0].file}: {refused[0].problem}" if refused else ""
        raise DataError(f"{predictions}: expected answers to the questions of {truth}, found none{first}")
    return found, len(refused)


def read_answers(path: Path, form: str | None, log: FaultLog) -> Iterator[Answer]:
    """Yields the answers of a file; what is none of them is logged.

    Raises:
        UsageError: For an unknown form.
        DataError: When there is no such file, or it is of none of the forms.
    """
    if form is not None and form not in FORMATS:
        raise UsageError(unknown_name("form of answers", form, FORMATS))
    if not path.exists():
        raise DataError(f"{path}: expected {EXPECTED}; there is no such file")
    path = only_file(path)
    if path.is_dir():
        raise DataError(f"{path}: expected {EXPECTED}; found a folder")
    suffix = path.suffix.lower()
    if form == "tsv" or (form is None and suffix not in (".json", ".jsonl")):
        yield from _lines(path, log)
    elif suffix == ".jsonl" or (form == "jsonl" and suffix != ".json"):
        for row in json_rows(path, log):
            yield from _answer(row.values, row.place, log)
    else:
        yield from _json(load_json(path), path, log)


def _json(content: Any, path: Path, log: FaultLog) -> Iterator[Answer]:
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _LISTS if isinstance(content.get(key), list)), None)
        if inner is None:  # answers by their id, as A-OKVQA has them
            rows = content.items()
            content = [dict(v) | {"id": k} if isinstance(v, Mapping) else {"id": k, "answer": v} for k, v in rows]
        else:
            content = inner
    if not isinstance(content, list):
        raise DataError(f"{path}: expected {EXPECTED}; found {type(content).__name__}")
    for index, item in enumerate(content):
        yield from _answer(item, f"{path}, item {index}", log)


def _answer(item: Any, where: str, log: FaultLog) -> Iterator[Answer]:
    values = item if isinstance(item, Mapping) else {}
    key = next((values[name] for name in _ID_KEYS if name in values), None)
    name = next((name for name in _TEXT_KEYS if name in values), "answer")
    text = str(values[name]) if type(values.get(name)) in (int, float) else values.get(name)
    if isinstance(key, (int, str, float)) and not isinstance(key, bool) and isinstance(text, str):
        yield Answer(where, id_key(key), text, name == "multiple_choice")
        return
    problem = f"expected an object with question_id and a text as answer, found {short(item)}; it was left out"
    log.add(where, key, "malformed answer", problem)


def _lines(path: Path, log: FaultLog) -> Iterator[Answer]:
    # Unlike str.splitlines, which knows more than the ends of lines.
    for number, line in enumerate(decoded_text(path).split("\n"), 1):
        key, tab, answer = line.rstrip("\r").partition("\t")
        if tab:
            yield Answer(f"{path}:{number}", key.strip(), answer)
        elif line.strip():
            problem = f"expected an id, a tab and an answer, found {short(line)}; it was left out"
            log.add(f"{path}:{number}", None, "malformed answer", problem)
