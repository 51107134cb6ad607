"""Official prediction files of detection: read against a truth of any format, and scored without a model."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mmtune.data.coco_files import coco_files
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.masks import mask_size, segmentation_counts
from mmtune.errors import DataError
from mmtune.metrics.coco import evaluate_coco
from mmtune.metrics.detection import DetectionMetric
from mmtune.metrics.result_files import Row, Rows, is_own, only_file, read_rows
from mmtune.metrics.result_matching import REMARKS, Placed, RecordIndex, labelled, placed, told_form
from mmtune.records import Box, Mask, Prediction, Record


def score_detection(
    truth: str | Path,
    predictions: str | Path,
    format: str | None = None,  # noqa: A002 - the command line's word
    log: FaultLog | None = None,
) -> dict[str, Any]:
    """Scores a file or folder of detections.

    A COCO results list against a COCO file is scored as it is, with the official numbers; anything else goes through
    the reader of the truth, which clips boxes to the picture and leaves out those without area.

    Args:
        truth: A COCO file, or whatever `mmtune.data.read` takes.
        predictions: See `mmtune.metrics.result_files.EXPECTED`.
        format: One of `mmtune.metrics.result_files.FORMATS`, or None: told from the content.
        log: Takes the faults of the predictions and of the truth.

    Returns:
        {"task", "n": images of the truth, "metrics": see `DetectionMetric`, "invalid": how many detections could not
        be used, parts of a model's text that were no detection included}.

    Raises:
        DataError: When truth or predictions cannot be used at all.
        UsageError: For an unknown format.
    """
    log = FaultLog() if log is None else log
    file, before = only_file(Path(predictions)), len(log.faults)
    official = official_files(Path(truth), file, format)
    if official is not None:
        content, results = official
        metrics = evaluate_coco(content, results, "bbox", log, names=(str(truth), str(file)))
        invalid = sum(fault.file.startswith(f"{file}, item") for fault in log.faults[before:])
        if results and invalid == len(results):
            raise DataError(f"{log.faults[-1].file}: no detection could be used; the last: {log.faults[-1].problem}")
        return {"task": "detection", "n": len(content["images"]), "metrics": metrics, "invalid": invalid}
    from mmtune.data.read import read

    data = read(str(truth), task="detection", need_pictures=False)
    found = {item.record: item for item in read_detections(file, data, format, log)}
    refused = sum(fault.kind not in REMARKS for fault in log.faults[before:])
    log.faults[before:before] = data.faults
    metric = DetectionMetric(data.classes)
    for record in data:
        metric.update(record, found.get(record.id) or Prediction(record.id, "", ""))
    invalid = refused + sum(item.invalid for item in found.values())
    return {"task": "detection", "n": len(data), "metrics": metric.compute(), "invalid": invalid}


def official_files(truth: Path, predictions: Path, form: str | None) -> tuple[Any, list[Any]] | None:
    """Returns the content of both files where truth is a COCO file and the predictions a COCO results list."""
    files = (truth, predictions)
    if form not in (None, "coco") or any(not file.is_file() or file.suffix.lower() != ".json" for file in files):
        return None
    if not coco_files(truth):
        return None
    results = load_json(predictions)
    return (load_json(truth), results) if isinstance(results, list) and not is_own(results) else None


def read_detections(
    path: str | Path,
    truth: Dataset,
    format: str | None = None,  # noqa: A002 - the command line's word
    log: FaultLog | None = None,
    need_masks: bool = False,
) -> list[Prediction]:
    """Reads detections that belong to the records of a data set.

    Pictures are found by record id, `image_id`, file name or stem. Classes are found by name; classes that are given
    by number are those of the list of names that lies with the predictions, of the COCO file that the truth comes
    from, or else of the truth's own or alphabetical order, whichever agrees with more of its boxes (logged as "class
    list guessed" where that is not the own order).

    Args:
        path: See `mmtune.metrics.result_files.EXPECTED`.
        truth: The data set.
        format: One of `mmtune.metrics.result_files.FORMATS`, or None: told from the content.
        log: Takes one fault, with file and line, for each detection that could not be used.
        need_masks: Whether every detection needs a mask, which then stands with its box.

    Returns:
        One prediction for each record that the files name, in the data set's order; boxes are not clipped.

    Raises:
        UsageError: For an unknown format.
        DataError: When nothing could be used.
    """
    log, path = FaultLog() if log is None else log, Path(path)
    before = len(log.faults)
    rows = read_rows(path, format, log)
    index = RecordIndex(truth)
    found = [(row, record) for row in rows.rows if (record := _record(row, rows, index, log)) is not None]
    form = rows.form or told_form(found, path, log)
    items = [item for row, record in found if (item := placed(row, record, form, log)) is not None]
    boxes: dict[str, list[Box]] = {}
    masks: dict[str, list[Mask]] = defaultdict(list)
    invalid: Counter[str] = Counter()
    for image in dict.fromkeys(rows.images):
        record = index.find(image, rows.numbered)
        if record is not None:
            boxes[record.id] = []
            invalid[record.id] += rows.invalid.get(image, 0)
    for item, box in zip(items, labelled(items, rows, truth, path, log), strict=True):
        mask = _mask(item, box, log) if need_masks and box is not None else None
        if box is not None and (mask is not None or not need_masks):
            boxes.setdefault(item.record.id, []).append(box)
            masks[item.record.id] += [] if mask is None else [mask]
    refused = [fault for fault in log.faults[before:] if fault.kind not in REMARKS]
    if refused and not any(boxes.values()):
        raise DataError(f"{path}: no detection could be used; the first: {refused[0].file}: {refused[0].problem}")
    return [
        Prediction(record.id, "", "", tuple(boxes[record.id]), tuple(masks[record.id]), invalid=invalid[record.id])
        for record in truth
        if record.id in boxes
    ]


def _mask(item: Placed, box: Box, log: FaultLog) -> Mask | None:
    record, row = item.record, item.row
    size = record.size or mask_size(row.mask)
    counts, wrong = (None, "a picture of unknown size") if size is None else segmentation_counts(row.mask, size)
    if counts is None or size is None:
        problem = f"expected polygons or run lengths of a mask, found {wrong}; the detection was left out"
        log.add(row.where, record.id, "no mask", problem)
        return None
    return Mask(box.label, (size[1], size[0]), counts, box.score)


def _record(row: Row, rows: Rows, index: RecordIndex, log: FaultLog) -> Record | None:
    record = index.find(row.image, rows.numbered)
    if record is None:
        problem = f"expected a picture of the truth, found {row.image!r}, which it does not have (or more than once)"
        log.add(row.where, row.image, "unknown image", f"{problem}; the detection was left out")
    return record
