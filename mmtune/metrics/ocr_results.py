"""Result files of reading text, scored without a model."""

from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.text_files import TRUTH
from mmtune.errors import DataError
from mmtune.metrics.ocr import OCRMetric
from mmtune.metrics.ocr_result_files import FACTS, KIND, read_readings, told_format
from mmtune.metrics.result_matching import RecordIndex
from mmtune.metrics.text_results import TextResult, matched
from mmtune.records import Prediction


def score_ocr(
    truth: str | Path,
    predictions: str | Path,
    form: str | None,
    log: FaultLog,
    metric: OCRMetric | None = None,
) -> dict[str, Any]:
    """Scores texts that were read.

    Args:
        truth: Whatever `mmtune.data.read` takes, without need of pictures; or a text file, or a folder of them.
        predictions: See `mmtune.metrics.ocr_result_files.EXPECTED`. A picture without a text counts as read as empty.
        form: One of `mmtune.metrics.ocr_result_files.FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed text", "unreadable text", "unknown picture", "duplicate text"
            and "missing text" of the predictions.
        metric: An empty state; None: that of the task without options.

    Returns:
        {"task", "n": pictures of the truth whose text is known, "metrics": see `OCRMetric`, "invalid": how many texts
        could not be used}.

    Raises:
        UsageError: For an unknown form.
        DataError: When truth or predictions cannot be used at all.
    """
    path = Path(predictions)
    form = told_format(path, form)
    data = _truth(str(truth), facts=form == FACTS)
    log.faults.extend(data.faults)
    known = [record for record in data if record.texts]
    if not known:
        raise DataError(f"{truth}: expected pictures with their text, found none that has one: nothing can be scored")
    before = len(log.faults)
    readings = read_readings(path, form, log)
    malformed = len(log.faults) - before
    if form == "text" and readings and all(_is_truth(reading, data) for reading in readings):
        raise DataError(f"{path}: expected texts that were read, found only the truth itself")
    index = RecordIndex(data)
    # Two files that were both pointed at belong together, whatever their names.
    whole = data[0].id if form == "text" and path.is_file() and len(data) == 1 else None

    def find(reading: TextResult) -> str | None:
        record = index.find(reading.id, numbered=False)
        return whole if record is None else record.id

    found, refused = matched(readings, find, KIND, (path, truth), log)
    metric = OCRMetric() if metric is None else metric
    for record in known:
        if record.id not in found:
            problem = "there is no text for this picture of the truth; it counts as read as empty"
            log.add(str(path), record.id, "missing text", problem)
        metric.update(record, Prediction(record.id, "", found[record.id].text if record.id in found else ""))
    return {"task": "ocr", "n": metric.count, "metrics": metric.compute(), "invalid": malformed + refused}


def _truth(address: str, *, facts: bool) -> Dataset:
    """Returns the truth; key facts of receipts where the predictions are such."""
    from mmtune.data.read import read

    if facts and "?" not in address:
        address = f"{address}?field=all"
    try:
        return read(address, task="ocr", need_pictures=False)
    except DataError:
        if _has_texts(Path(address)):
            return read(address, task="ocr", need_pictures=False, format="text_lines")
        raise


def _has_texts(path: Path) -> bool:
    return any(path.glob("*.txt")) if path.is_dir() else path.is_file() and path.suffix.lower() == ".txt"


def _is_truth(reading: TextResult, data: Dataset) -> bool:
    """Whether a text is the truth itself, which lies in the same folder."""
    place = Path(reading.where)
    return place.name.lower().endswith(TRUTH) and any(Path(r.source).resolve() == place.resolve() for r in data)
