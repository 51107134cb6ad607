"""COCO's average precision and recall over resamples of the images, from one matching of truth and detections.

Which detection gets which object is a matter of one image. So it is done once, by pycocotools, and a resample only says
how often each image's matches count. The numbers are those that pycocotools gives for a data set in which an image that
was drawn several times stands several times in a row.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mmtune.metrics.coco import NAMES
from mmtune.metrics.resampling import Key, Resampling, ratio

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_LIMITS = (1, 10, 100)  # detections an image, as COCO counts them
_MOST = 2_000_000  # numbers of an array that is worked on at once

_PRECISIONS = {
    "AP": (_ALL, slice(None)),
    "AP50": (_ALL, slice(0, 1)),
    "AP75": (_ALL, slice(5, 6)),
    "APs": (_SMALL, slice(None)),
    "APm": (_MEDIUM, slice(None)),
    "APl": (_LARGE, slice(None)),
}
"""Size and IoU thresholds of each average precision."""

_RECALLS = {"AR1": (_ALL, 0), "AR10": (_ALL, 1), "AR100": (_ALL, 2), "ARs": (_SMALL, 2), "ARm": (_MEDIUM, 2)} | {
    "ARl": (_LARGE, 2)
}
"""Size and place in `_LIMITS` of each average recall."""


@dataclass(frozen=True)
class _Class:
    """The matches of one class over all images.

    Attributes:
        image, rank, score: (detections,) index of the image, place among the image's detections, score.
        hit, ignored: (sizes, IoU thresholds, detections): whether it got an object; whether it is left out.
        objects: (sizes, images): objects that count.
        found: (sizes, limits, images, IoU thresholds): objects that were found.
    """

    image: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray
    found: np.ndarray


@final
class CocoMatches(Resampling):
    """See the module.

    Args:
        evaluator: pycocotools' evaluator, of which `evaluate` was called.
        names: Names of the classes in the order of the evaluator's ids.
        order: Which record, counted from 0, each of the evaluator's images is.
    """

    def __init__(self, evaluator: Any, names: list[str], order: list[int]):
        parameters = evaluator.params
        self._recalls = np.asarray(parameters.recThrs, float)
        self._overlaps = len(parameters.iouThrs)
        self._order = np.array(order, int)
        sizes, images = len(parameters.areaRng), len(parameters.imgIds)
        self._classes: dict[str, _Class] = {}
        for place, name in enumerate(names):
            cells = evaluator.evalImgs[place * sizes * images : (place + 1) * sizes * images]
            self._classes[name] = self._class([cells[size * images : (size + 1) * images] for size in range(sizes)])

    def _class(self, cells: list[list[Any]]) -> _Class:
        """Returns the matches of a class from the evaluator's cells, those of each size and image."""
        images = len(cells[0])
        entries = [(index, cell) for index, cell in enumerate(cells[_ALL]) if cell is not None]
        image = np.concatenate([np.full(len(e["dtScores"]), i) for i, e in entries] or [np.zeros(0)]).astype(int)
        rank = np.concatenate([np.arange(len(e["dtScores"])) for _, e in entries] or [np.zeros(0)]).astype(int)
        score = np.concatenate([np.asarray(e["dtScores"], float) for _, e in entries] or [np.zeros(0)])
        shape = (len(cells), self._overlaps, len(image))
        hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
        objects = np.zeros((len(cells), images))
        found = np.zeros((len(cells), len(_LIMITS), images, self._overlaps))
        for size, row in enumerate(cells):
            held = [cell for cell in row if cell is not None]
            if len(image):
                hit[size] = np.concatenate([cell["dtMatches"] for cell in held], axis=1) > 0
                ignored[size] = np.concatenate([cell["dtIgnore"] for cell in held], axis=1)
            for index, cell in enumerate(row):
                if cell is not None:
                    objects[size, index] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
            right = hit[size] & ~ignored[size]
            for place, limit in enumerate(_LIMITS):
                np.add.at(found[size, place], image[rank < limit], right[:, rank < limit].T.astype(float))
        return _Class(image, rank, score, hit, ignored, objects, found)

    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns COCO's twelve numbers and AP and AP50 of each class; NaN where a resample has no object for one."""
        drawn = np.asarray(counts, np.int32)[:, self._order]
        precision = {name: self._precision(one, drawn) for name, one in self._classes.items()}
        recall = {name: self._recall(one, drawn) for name, one in self._classes.items()}
        result: dict[Key, np.ndarray] = {}
        for name in NAMES:
            if name in _PRECISIONS:
                size, overlaps = _PRECISIONS[name]
                values = [one[size, overlaps].mean(axis=0) for one in precision.values()]
            else:
                size, limit = _RECALLS[name]
                values = [one[size, limit].mean(axis=0) for one in recall.values()]
            result[(name,)] = _mean_of_known(values, len(drawn))
        for name, one in precision.items():
            result["per_class", name, "AP"] = one[_ALL].mean(axis=0)
            result["per_class", name, "AP50"] = one[_ALL, 0]
        return result

    def _recall(self, one: _Class, drawn: np.ndarray) -> np.ndarray:
        """Returns recall, (sizes, limits, IoU thresholds, resamples)."""
        objects = one.objects @ drawn.T
        return ratio(np.tensordot(one.found, drawn.T.astype(float), axes=(2, 0)), objects[:, None, None])

    def _precision(self, one: _Class, drawn: np.ndarray) -> np.ndarray:
        """Returns average precision, (sizes, IoU thresholds, resamples)."""
        element, copy = _elements(one, int(drawn.max(initial=1)))
        step = max(1, _MOST // max(1, len(element)))
        parts = [
            self._part(one, element, copy, drawn[start : start + step]) for start in range(0, max(1, len(drawn)), step)
        ]
        return np.concatenate(parts, axis=2)

    def _part(self, one: _Class, element: np.ndarray, copy: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        objects = one.objects @ drawn.T
        weights = drawn[:, one.image[element]]
        weights = np.where(copy == 0, weights, weights >= copy).astype(np.int32)
        result = np.full((*one.hit.shape[:2], len(drawn)), np.nan)
        for size in range(len(result)):
            some = objects[size] > 0
            for overlap in range(self._overlaps):
                live = ~one.ignored[size, overlap, element]
                hits = np.flatnonzero(one.hit[size, overlap, element] & live)
                listed = np.cumsum(weights[:, live], axis=1)[:, np.cumsum(live)[hits] - 1]
                right = np.cumsum(weights[:, hits], axis=1)
                result[size, overlap, some] = self._area(right[some], listed[some], objects[size][some])
        return result

    def _area(self, right: np.ndarray, listed: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Returns the mean of the precisions at COCO's 101 recalls.

        Args:
            right, listed: (resamples, hits): how many detections are right, and how many there are, up to each hit.
            objects: (resamples,) how many there are to find.
        """
        precision = right / (listed + np.spacing(1))
        # Precision at a recall is the best at that recall or a higher one; it can only be that of a hit.
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        passed = np.searchsorted(self._recalls, right / objects[:, None], side="right")
        reached = np.diff(passed, axis=1, prepend=0)
        return (best * reached).sum(axis=1) / len(self._recalls)


def _elements(one: _Class, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the detections in the order in which they are ranked, as places in `one`, and copies.

    A copy of 0 stands for all copies of an image that was drawn several times: they follow each other. Detections of
    one image that share a score do not, as all of them come before those of the next copy: each copy from 1 to `most`
    stands for itself.
    """
    ranked = np.lexsort((one.rank, one.image, -one.score))
    same = (np.diff(one.score[ranked]) == 0) & (np.diff(one.image[ranked]) == 0)
    tied = np.zeros(len(ranked), bool)
    tied[ranked[1:]] |= same
    tied[ranked[:-1]] |= same
    places, copies = [np.flatnonzero(~tied)], [np.zeros(np.count_nonzero(~tied), int)]
    if tied.any():
        for copy in range(1, most + 1):
            places.append(np.flatnonzero(tied))
            copies.append(np.full(np.count_nonzero(tied), copy))
    element, copy = np.concatenate(places), np.concatenate(copies)
    order = np.lexsort((one.rank[element], copy, one.image[element], -one.score[element]))
    return element[order], copy[order]


def _mean_of_known(values: list[np.ndarray], resamples: int) -> np.ndarray:
    """Returns the mean over the classes that have a number, NaN where none has."""
    if not values:
        return np.full(resamples, np.nan)
    table = np.stack(values)
    known = ~np.isnan(table)
    return ratio(np.where(known, table, 0.0).sum(axis=0), known.sum(axis=0))
