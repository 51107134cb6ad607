"""Official answer files of visual question answering, read and scored without a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError
from mmtune.metrics.coco import id_key
from mmtune.metrics.result_files import told_file
from mmtune.metrics.text_results import TextKind, TextResult, matched, read_text_results
from mmtune.metrics.vqa import VQAMetric
from mmtune.records import Prediction, Record

FORMATS = ("vqa", "okvqa", "jsonl", "tsv")
"""Forms of answer files: JSON in one of the official forms; the same, scored by `plain_accuracy`; predictions of
mmtune; a line an answer, `id<TAB>text`."""

EXPECTED = (
    'JSON such as [{"question_id": 1, "answer": "yes"}] or [{"questionId": 1, "answer": "yes"}], predictions of mmtune '
    "(a JSON object a line with record and text), or lines of an id, a tab and an answer"
)

CHOSEN = "multiple_choice"
"""Key of an answer that is a choice rather than words of one's own."""

KIND = TextKind(
    noun="answer",
    owner="question",
    ids=("question_id", "questionId", "record", "id"),
    texts=("answer", "prediction", "text", "direct_answer", CHOSEN),
    expected=EXPECTED,
    item="an object with question_id and a text as answer",
)


def score_vqa(
    truth: str | Path,
    predictions: str | Path,
    form: str | None,
    log: FaultLog,
    *,
    scoring: str = "auto",
    choose: bool = False,
    lower_case: bool = False,
) -> dict[str, Any]:
    """Scores a file of answers.

    Args:
        truth: Questions with their answers, in any form that `mmtune.data.read` takes; pictures are not needed.
        predictions: See `EXPECTED`. A question without an answer counts as answered wrongly.
        form: One of `FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed answer", "unknown question", "duplicate answer" and "missing
            answer" of the predictions.
        scoring: As `VQAMetric` takes it; "auto" is "okvqa" for the form okvqa.
        choose: Whether questions that bring choices are scored by the right choice; they are, too, where the file
            holds choices (`CHOSEN`).
        lower_case: Whether upper and lower case are the same.

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
    chosen = any(answer.text_key == CHOSEN for answer in found.values())
    counted = "okvqa" if form == "okvqa" and scoring == "auto" else scoring
    metric = VQAMetric(counted, choose=choose or chosen, lower_case=lower_case)
    for key, record in records.items():
        if key not in found and record.texts:
            problem = "there is no answer to this question of the truth; it counts as wrong"
            log.add(str(predictions), record.id, "missing answer", problem)
        metric.update(record, Prediction(record.id, record.prefix or "", found[key].text if key in found else ""))
    return {"task": "vqa", "n": metric.count, "metrics": metric.compute(), "invalid": refused}


def matched_answers(
    records: Mapping[str, Record], truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog
) -> tuple[dict[str, TextResult], int]:
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
    path = told_file(Path(predictions), form, FORMATS, "answers", EXPECTED)
    answers = read_text_results(path, _layout(path, form), KIND, log)
    return matched(answers, lambda answer: answer.id if answer.id in records else None, KIND, (path, truth), log)


def _layout(path: Path, form: str | None) -> str:
    """Returns how a file is to be read; of JSON, all forms are read alike."""
    suffix = path.suffix.lower()
    if form == "tsv" or (form is None and suffix not in (".json", ".jsonl")):
        return "tsv"
    return "jsonl" if suffix == ".jsonl" or form == "jsonl" else "vqa"
