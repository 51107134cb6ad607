"""The detection metric: COCO's average precision and recall over boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

from mmtune.metrics.base import Metric
from mmtune.metrics.coco import IGNORED_AREA, coco_evaluator, coco_scores
from mmtune.metrics.coco import evaluate_coco as evaluate_coco
from mmtune.records import Box, Prediction, Record

if TYPE_CHECKING:
    from mmtune.metrics.resampling import Pairs, Resampling

Lists = tuple[list[dict[str, Any]], list[tuple[int, str]], list[dict[str, Any]], list[dict[str, Any]]]
"""Images, categories, truths and detections as `coco_scores` takes them."""


@dataclass(frozen=True, slots=True)
class _Image:
    order: tuple[bool, int, str, str]
    truth: tuple[Box, ...]
    detections: tuple[Box, ...]


@final
class DetectionMetric(Metric):
    """AP and AR as pycocotools' COCOeval computes them, over records of any format.

    Crowd boxes are ignored, not missed, by COCO's rule for crowds: a detection that lies inside one, however small it
    is, is left out. Difficult boxes are ignored by COCO's rule for ignored truth: one detection that overlaps it like
    any other truth is left out. Size classes go by `Box.area` where it is annotated, else by the box's own area. A
    detection without a score counts with 1.

    `compute` gives AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl and per_class {label: {"AP",
    "AP50"}}. What has no truth to be measured by, a size class, a class or all of the records, is -1, as pycocotools
    and the official tables have it.

    Args:
        classes: Labels in the order of per_class; labels met in the truth are added. Detections with a label that has
            no truth anywhere change no average, as in COCO.
    """

    def __init__(self, classes: Sequence[str] = ()):
        self._classes = tuple(classes)
        self._images: list[_Image] = []

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's truth and prediction; both hold boxes in pixels of the record's picture."""
        number = record.image_id if isinstance(record.image_id, int) else None
        # COCOeval breaks ties between scores by the order of the images, which must not be that of the processes.
        order = (number is None, number or 0, str(record.image_id or ""), record.id)
        self._images.append(_Image(order, record.boxes, prediction.boxes))

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        self._classes = tuple(dict.fromkeys((*self._classes, *other._classes)))
        self._images.extend(other._images)

    def compute(self) -> dict[str, Any]:
        """Returns the metrics; the order of updates and merges makes no difference."""
        return coco_scores(*self._lists(), "bbox")

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records."""
        from mmtune.metrics.coco_matches import CocoMatches

        for record, prediction in pairs:
            self.update(record, prediction)
        order = sorted(range(len(self._images)), key=lambda index: self._images[index].order)
        images, categories, truths, detections = self._lists()
        evaluator = coco_evaluator(images, [number for number, _ in categories], truths, detections, "bbox")
        return CocoMatches(evaluator, [label for _, label in categories], order)

    def _lists(self) -> Lists:
        met = sorted({box.label for image in self._images for box in image.truth} - set(self._classes))
        numbers = {label: number for number, label in enumerate((*self._classes, *met), start=1)}
        images, truths, detections = [], [], []
        for index, image in enumerate(sorted(self._images, key=lambda image: image.order), start=1):
            images.append({"id": index})
            truths += [
                _annotation(box, index, numbers) | {"iscrowd": int(box.crowd), "area": _truth_area(box)}
                for box in image.truth
            ]
            detections += [
                _annotation(box, index, numbers) | {"score": _score(box), "area": box.width * box.height}
                for box in _known(image.detections, numbers)
            ]
        categories = [(number, label) for label, number in numbers.items()]
        return images, categories, truths, detections


def _annotation(box: Box, image: int, numbers: dict[str, int]) -> dict[str, Any]:
    corner_and_size = [box.x0, box.y0, box.width, box.height]
    return {"image_id": image, "category_id": numbers[box.label], "bbox": corner_and_size}


def _known(boxes: Iterable[Box], numbers: dict[str, int]) -> Iterable[Box]:
    return (box for box in boxes if box.label in numbers)


def _score(box: Box) -> float:
    return 1.0 if box.score is None else box.score


def _truth_area(box: Box) -> float:
    if box.difficult:
        return IGNORED_AREA
    return box.width * box.height if box.area is None else box.area
