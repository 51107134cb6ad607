"""Official result files of segmentation: read against a truth of any format, and scored without a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError
from mmtune.metrics.coco import evaluate_coco
from mmtune.metrics.result_files import only_file
from mmtune.metrics.result_matching import REMARKS
from mmtune.metrics.results import official_files, read_detections
from mmtune.metrics.segmentation import SegmentationMetric
from mmtune.records import Prediction, Record


def score_segmentation(
    truth: str | Path,
    predictions: str | Path,
    form: str | None,
    log: FaultLog,
    *,
    prepared: Callable[[Record], Record] = lambda record: record,
) -> dict[str, Any]:
    """Scores a file of masks.

    A COCO results list against a COCO file is scored as it is, with the official numbers; anything else goes through
    the reader of the truth. mIoU and the box accuracies always do.

    Args:
        truth: A COCO file, or whatever `mmtune.data.read` takes.
        predictions: A COCO results list, a COCO dict with annotations, or predictions of mmtune, all with run lengths
            or polygons. A record that they do not name counts as answered by nothing.
        form: "coco" or "jsonl"; None: told from the content.
        log: Takes the faults of the predictions and of the truth.
        prepared: Returns a record of the truth with masks where only its texts have some, as `Task.prepared` does.

    Returns:
        {"task", "n": images (or expressions) of the truth, "metrics": see `SegmentationMetric`, "invalid": how many
        masks could not be used, parts of a model's text that were no mask included}.

    Raises:
        DataError: When truth or predictions cannot be used at all.
        UsageError: For an unknown form.
    """
    from mmtune.data.read import read

    file, before = only_file(Path(predictions)), len(log.faults)
    data = read(str(truth), task="segmentation", need_pictures=False)
    data = replace(data, records=tuple(prepared(record) for record in data))
    if not any(record.masks for record in data):
        raise DataError(f"{truth}: expected masks (polygons or run lengths), found none: there is nothing to score")
    found = {item.record: item for item in read_detections(file, data, form, log, need_masks=True)}
    refused = sum(fault.kind not in REMARKS for fault in log.faults[before:])
    metric = SegmentationMetric(data.classes)
    for record in data:
        metric.update(record, found.get(record.id) or Prediction(record.id, "", ""))
    official = official_files(Path(truth), file, form)
    if official is None:
        log.faults[before:before] = data.faults
        metrics = metric.compute()
        invalid = refused + sum(item.invalid for item in found.values())
        return {"task": "segmentation", "n": len(data), "metrics": metrics, "invalid": invalid}
    del log.faults[before:]  # the official scorer names the same faults in its own way
    content, results = official
    metrics = metric.with_means(evaluate_coco(content, results, "segm", log, names=(str(truth), str(file))))
    invalid = sum(fault.file.startswith(f"{file}, item") for fault in log.faults[before:])
    return {"task": "segmentation", "n": len(content["images"]), "metrics": metrics, "invalid": invalid}
