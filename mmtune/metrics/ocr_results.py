"""Result files of reading text, scored without a model."""

from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.text_files import TRUTH
from mmtune.errors import DataError
from mmtune.metrics.ocr import OCRMetric
from mmtune.metrics.ocr_result_files import FACTS, Reading, read_readings, told_format
from mmtune.metrics.result_matching import RecordIndex
from mmtune.records import Prediction, Record


def score_ocr(truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog) -> dict[str, Any]:
    """Scores texts that were read.

    Args:
        truth: Whatever `mmtune.data.read` takes, without need of pictures; or a text file, or a folder of them.
        predictions: See `mmtune.metrics.ocr_result_files.EXPECTED`. A picture without a text counts as read as empty.
        form: One of `mmtune.metrics.ocr_result_files.FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed line", "unreadable text", "unknown picture", "duplicate text"
            and "missing text" of the predictions.

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
    if form == "text" and readings and all(_is_truth(reading, data) for reading in readings):
        raise DataError(f"{path}: expected texts that were read, found only the truth itself")
    found = _matched(readings, data, log)
    refused = log.faults[before:]
    if not found:
        first = f"; the first fault: {refused[0].file}: {refused[0].problem}" if refused else ""
        raise DataError(f"{path}: expected texts for the pictures of {truth}, found none{first}")
    metric = OCRMetric()
    for record in known:
        if record.id not in found:
            problem = "there is no text for this picture of the truth; it counts as read as empty"
            log.add(str(path), record.id, "missing text", problem)
        metric.update(record, Prediction(record.id, "", found.get(record.id, "")))
    return {"task": "ocr", "n": metric.count, "metrics": metric.compute(), "invalid": len(refused)}


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


def _is_truth(reading: Reading, data: Dataset) -> bool:
    """Whether a text is the truth itself, which lies in the same folder."""
    place = Path(reading.where)
    return place.name.lower().endswith(TRUTH) and any(Path(r.source).resolve() == place.resolve() for r in data)


def _matched(readings: list[Reading], data: Dataset, log: FaultLog) -> dict[str, str]:
    """Returns the texts by the ids of their records; what belongs to none is logged."""
    if len(readings) == len(data) == 1 and readings[0].is_whole_file:
        return {data[0].id: readings[0].text}  # two files that were both pointed at, whatever their names
    index = RecordIndex(data)
    found: dict[str, tuple[str, str]] = {}
    for reading in readings:
        record: Record | None = index.find(reading.id, numbered=False)
        if record is None:
            problem = (
                f"expected a picture of the truth, found {reading.id!r}, which it does not have (or more than once)"
            )
            log.add(reading.where, reading.id, "unknown picture", f"{problem}; the text was left out")
        elif record.id in found:
            problem = f"the picture has a text in {found[record.id][0]} already, which was kept"
            log.add(reading.where, reading.id, "duplicate text", problem)
        else:
            found[record.id] = (reading.where, reading.text)
    return {key: text for key, (_, text) in found.items()}
