"""The segmentation metric: COCO's numbers over masks, and the overlap of each true object with the one found for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from mmtune.data.masks import mask_area, mask_edges
from mmtune.metrics.base import Metric
from mmtune.metrics.coco import coco_evaluator, coco_scores
from mmtune.metrics.resampling import Key, Resampling, SummedRows, ratio
from mmtune.records import Box, Mask, Prediction, Record

if TYPE_CHECKING:
    from mmtune.metrics.coco_matches import CocoMatches
    from mmtune.metrics.detection import Lists
    from mmtune.metrics.resampling import Pairs

BOX_OVERLAPS = (0.5, 0.75)
PER_CLASS = "per_class"


@dataclass(frozen=True, slots=True)
class _Truth:
    """A true object: its mask, and the box and area that were annotated for it or are those of the mask."""

    mask: Mask
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True, slots=True)
class _Image:
    order: tuple[bool, int, str, str]
    size: tuple[int, int]
    truth: tuple[_Truth, ...]
    found: tuple[tuple[Mask, float], ...]


@final
class SegmentationMetric(Metric):
    """What COCO and referring segmentation measure, over records of any format.

    `compute` gives AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl and per_class {label: {"AP",
    "AP50"}} as pycocotools' COCOeval computes them over masks: see `DetectionMetric`, with masks for boxes.

    Then three means over the true objects, crowds left out:

    - mIoU: intersection over union of the object's mask with the one found for it, in pixels of the record's picture.
      Masks of one label are given to each other one to one, the greatest overlap first. An object for which nothing is
      left counts 0; so does one whose answer could not be read. For a referring expression, which has one object and
      one answer, this is the published number.
    - boxacc50, boxacc75: share of the objects whose box overlaps the one found for it by at least .5 and .75, given to
      each other in the same way by the overlap of the boxes.

    Wrong masks beside the right ones lower AP, not these three.

    Args:
        classes: Labels in the order of per_class; labels met in the truth are added.
    """

    def __init__(self, classes: Sequence[str] = ()):
        self._classes = tuple(classes)
        self._images: list[_Image] = []
        self._overlaps: list[float] = []
        self._box_overlaps: list[float] = []

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's truth and prediction.

        Args:
            record: With masks; where there are as many boxes, they are taken as pairs.
            prediction: With masks of the same size; where there are as many boxes, they are taken as pairs.
        """
        number = record.image_id if isinstance(record.image_id, int) else None
        # COCOeval breaks ties between scores by the order of the images, which must not be that of the processes.
        order = (number is None, number or 0, str(record.image_id or ""), record.id)
        truth = tuple(_truths(record))
        found = tuple((mask, 1.0 if mask.score is None else mask.score) for mask in prediction.masks)
        size = next((mask.size for mask in (*record.masks, *prediction.masks)), (0, 0))
        self._images.append(_Image(order, size, truth, found))
        boxes = _edges(prediction.masks, prediction.boxes)
        objects = [item for item in truth if not item.mask.crowd]
        for label in dict.fromkeys(item.mask.label for item in objects):
            wanted = [item for item in objects if item.mask.label == label]
            places = [place for place, mask in enumerate(prediction.masks) if mask.label == label]
            masks = [prediction.masks[place] for place in places]
            self._overlaps += matched(mask_overlaps([item.mask for item in wanted], masks))
            near = box_overlaps([item.box for item in wanted], [boxes[place] for place in places])
            self._box_overlaps += matched(near)

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        self._classes = tuple(dict.fromkeys((*self._classes, *other._classes)))
        self._images.extend(other._images)
        self._overlaps.extend(other._overlaps)
        self._box_overlaps.extend(other._box_overlaps)

    def compute(self) -> dict[str, Any]:
        """Returns the metrics; the order of updates and merges makes no difference."""
        return self.with_means(coco_scores(*self._lists(), "segm"))

    def resampling(self, pairs: "Pairs") -> Resampling:
        """Returns what scores resamples of the records."""
        from mmtune.metrics.coco_matches import CocoMatches

        rows = []
        for record, prediction in pairs:
            before = len(self._overlaps)
            self.update(record, prediction)
            overlaps, near = self._overlaps[before:], self._box_overlaps[before:]
            found = [sum(overlap >= least for overlap in near) for least in BOX_OVERLAPS]
            rows.append((len(overlaps), math.fsum(overlaps), *found))
        order = sorted(range(len(self._images)), key=lambda index: self._images[index].order)
        images, categories, truths, found = self._lists()
        evaluator = coco_evaluator(images, [number for number, _ in categories], truths, found, "segm")
        matches = CocoMatches(evaluator, [label for _, label in categories], order)
        return _MasksAndMeans(matches, SummedRows(np.array(rows, float).reshape(-1, 2 + len(BOX_OVERLAPS)), _means))

    def _lists(self) -> "Lists":
        met = sorted({item.mask.label for image in self._images for item in image.truth} - set(self._classes))
        numbers = {label: number for number, label in enumerate((*self._classes, *met), start=1)}
        images, truths, found = [], [], []
        for index, image in enumerate(sorted(self._images, key=lambda image: image.order), start=1):
            images.append({"id": index, "height": image.size[0], "width": image.size[1]})
            truths += [
                _annotation(item.mask, index, numbers) | {"iscrowd": int(item.mask.crowd), "area": item.area}
                for item in image.truth
            ]
            found += [
                _annotation(mask, index, numbers) | {"score": score, "area": mask_area(mask.size, mask.counts)}
                for mask, score in image.found
                if mask.label in numbers
            ]
        categories = [(number, label) for label, number in numbers.items()]
        return images, categories, truths, found

    def with_means(self, scores: dict[str, Any]) -> dict[str, Any]:
        """Returns COCO's scores with mIoU, boxacc50 and boxacc75 before those of each class; -1 without objects."""
        count = len(self._overlaps)
        sums = {"mIoU": math.fsum(self._overlaps)}
        sums |= {_accuracy(least): sum(overlap >= least for overlap in self._box_overlaps) for least in BOX_OVERLAPS}
        means = {name: value / count if count else -1.0 for name, value in sums.items()}
        totals = {name: value for name, value in scores.items() if name != PER_CLASS}
        return totals | means | {PER_CLASS: scores[PER_CLASS]}


@final
class _MasksAndMeans(Resampling):
    """COCO's numbers and the means over objects of the same records."""

    def __init__(self, matches: "CocoMatches", means: SummedRows):
        self._matches, self._means = matches, means

    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        return self._matches.scores(counts) | self._means.scores(counts)


def _means(sums: np.ndarray) -> dict[str, np.ndarray]:
    names = ("mIoU", *map(_accuracy, BOX_OVERLAPS))
    return {name: ratio(total, sums[0]) for name, total in zip(names, sums[1:], strict=True)}


def _accuracy(least: float) -> str:
    return f"boxacc{round(100 * least)}"


def matched(overlaps: np.ndarray) -> list[float]:
    """Returns for each row the overlap with the column that it gets, 0 for none: one to one, the greatest first.

    Args:
        overlaps: (truths, found), 0..1.
    """
    left = overlaps.copy()
    result = [0.0] * len(left)
    while left.size and (best := left.max()) > 0:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        result[row] = float(best)
        left[row], left[:, column] = 0, 0
    return result


def mask_overlaps(truths: Sequence[Mask], found: Sequence[Mask]) -> np.ndarray:
    """Returns intersection over union of masks of one picture, (truths, found)."""
    from pycocotools import mask as coco

    if not truths or not found:
        return np.zeros((len(truths), len(found)))
    sides: list[Any] = [[{"size": list(m.size), "counts": m.counts} for m in masks] for masks in (truths, found)]
    overlaps = np.asarray(coco.iou(sides[0], sides[1], [0] * len(found)), float)
    # Masks of two sizes cannot be of one picture; pycocotools gives -1 for them, and nothing over nothing for empties.
    return np.clip(np.nan_to_num(overlaps), 0, 1)


def box_overlaps(
    truths: Sequence[tuple[float, float, float, float]], found: Sequence[tuple[float, float, float, float]]
) -> np.ndarray:
    """Returns intersection over union of boxes x0, y0, x1, y1, (truths, found)."""
    one, other = (np.array(boxes, float).reshape(-1, 4) for boxes in (truths, found))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    inner = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def _truths(record: Record) -> list[_Truth]:
    edges = _edges(record.masks, record.boxes)
    paired = len(record.boxes) == len(record.masks)
    areas = [box.area for box in record.boxes] if paired else [None] * len(record.masks)
    return [
        _Truth(mask, box, mask_area(mask.size, mask.counts) if area is None else area)
        for mask, box, area in zip(record.masks, edges, areas, strict=True)
    ]


def _edges(masks: Sequence[Mask], boxes: Sequence[Box]) -> list[tuple[float, float, float, float]]:
    """Returns x0, y0, x1, y1 of each mask's box: the one that stands with it, else the one around the mask."""
    if len(masks) == len(boxes):
        return [(box.x0, box.y0, box.x1, box.y1) for box in boxes]
    return [mask_edges(mask.size, mask.counts) for mask in masks]


def _annotation(mask: Mask, image: int, numbers: dict[str, int]) -> dict[str, Any]:
    runs = {"size": list(mask.size), "counts": mask.counts}
    return {"image_id": image, "category_id": numbers[mask.label], "segmentation": runs}
