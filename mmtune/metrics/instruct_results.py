"""Files of answers to instructions, scored without a model."""

from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.metrics.coco import id_key
from mmtune.metrics.instruct import InstructMetric, right_answers
from mmtune.metrics.vqa_results import matched_answers
from mmtune.records import Prediction

FORMATS = ("jsonl", "tsv")
"""Forms of answer files: predictions of mmtune or other JSON objects with an id and a text; a line an answer,
`id<TAB>text`."""


def score_instruct(truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog) -> dict[str, Any]:
    """Scores a file of answers to the last question of each record.

    Args:
        truth: Instructions or conversations with their answers, in any form that `mmtune.data.read` takes.
        predictions: JSON objects with record (or id) and text (or answer, prediction), a line each or in a list, or
            lines `id<TAB>text`. A question without an answer counts as answered wrongly.
        form: One of `FORMATS`; None: told from the file's name.
        log: Takes the faults of the truth, and "malformed answer", "unknown question", "duplicate answer" and "missing
            answer" of the predictions.

    Returns:
        {"task", "n": records of the truth that have an answer, "metrics": exact_match and ROUGE_L, "invalid": how many
        answers of the file could not be used}. A file of answers knows no perplexity.

    Raises:
        UsageError: For an unknown form.
        DataError: When truth or predictions cannot be used at all.
    """
    from mmtune.data.read import read

    if form is not None and form not in FORMATS:
        raise UsageError(unknown_name("form of answers", form, FORMATS))
    data = read(str(truth), task="instruct", need_pictures=False)
    log.faults.extend(data.faults)
    records = {id_key(record.id): record for record in data if right_answers(record)}
    if not records:
        raise DataError(f"{truth}: expected questions with answers, found none that has one: there is nothing to score")
    found, refused = matched_answers(records, truth, predictions, form, log)
    metric = InstructMetric()
    for key, record in records.items():
        if key not in found:
            problem = "there is no answer to this question of the truth; it counts as wrong"
            log.add(str(predictions), record.id, "missing answer", problem)
        metric.update(record, Prediction(record.id, "", found[key].text if key in found else ""))
    metrics = metric.compute()
    del metrics["perplexity"]
    return {"task": "instruct", "n": metric.answers, "metrics": metrics, "invalid": refused}
