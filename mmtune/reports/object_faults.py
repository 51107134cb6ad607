"""What is wrong with found objects, one mistake one fault: missed, duplicate, wrong class, poor place, invented.

The thresholds are those of TIDE (Bolya et al., arXiv 2008.08115); see `EXPLAINED` for the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmtune.records import Box, Mask, Prediction, Record

FOREGROUND = 0.5
"""Intersection over union from which a found object is the true one."""

BACKGROUND = 0.1
"""Intersection over union below which a found object has nothing to do with a true one."""

RIGHT, IGNORED = "right", "ignored"
MISSED, DUPLICATE, WRONG_CLASS, POOR_PLACE, INVENTED = "missed", "duplicate", "wrong class", "poor place", "invented"
FAULTS = (MISSED, DUPLICATE, WRONG_CLASS, POOR_PLACE, INVENTED)

EXPLAINED = {
    MISSED: f"a true object for which nothing was found, neither rightly nor by one of the next three faults that "
    f"overlaps it by {BACKGROUND} or more",
    DUPLICATE: f"overlaps a true object of its class by {FOREGROUND} or more, for which a better score was found",
    WRONG_CLASS: f"overlaps a true object of another class by {FOREGROUND} or more, and is no duplicate",
    POOR_PLACE: f"overlaps a true object of its class by {BACKGROUND} to {FOREGROUND}, and is none of the above",
    INVENTED: f"overlaps no true object of its class by {BACKGROUND} or more and none of another class by "
    f"{FOREGROUND} or more",
}
"""The rules, as the page prints them. Overlap is intersection over union; a fault is tested for in this order."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A true or found object: its box, and its mask where masks are compared."""

    label: str
    box: Box
    mask: Mask | None = None
    score: float = 1.0
    crowd: bool = False
    difficult: bool = False

    @property
    def counts(self) -> bool:
        """Whether it must be found."""
        return not self.crowd and not self.difficult


@dataclass(frozen=True)
class Judged:
    """The objects of one picture with what became of them.

    Attributes:
        truth, found: The objects.
        verdicts: For each found object RIGHT, IGNORED or one of `FAULTS`.
        about: For each found object the true one that it got or is a fault about, None for what is invented.
        missed: Which true objects are missed.
    """

    truth: tuple[Thing, ...]
    found: tuple[Thing, ...]
    verdicts: tuple[str, ...]
    about: tuple[int | None, ...]
    missed: tuple[int, ...]
    overlaps: np.ndarray = field(repr=False, compare=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many faults of each kind there are."""
        return {name: self.verdicts.count(name) for name in FAULTS} | {MISSED: len(self.missed)}

    @property
    def quality(self) -> float:
        """F1 of the picture: 1 where all is right."""
        right = self.verdicts.count(RIGHT)
        wanted = sum(thing.counts for thing in self.truth)
        listed = sum(verdict != IGNORED for verdict in self.verdicts)
        return 2 * right / (wanted + listed) if wanted + listed else 1.0


def true_things(record: Record, masks: bool) -> tuple[Thing, ...]:
    """Returns the true objects of a record, by their masks or by their boxes."""
    if not masks:
        return tuple(Thing(b.label, b, crowd=b.crowd, difficult=b.difficult) for b in record.boxes)
    return tuple(
        Thing(mask.label, box, mask, crowd=mask.crowd)
        for mask, box in zip(record.masks, _boxes(record.masks, record.boxes), strict=True)
    )


def found_things(prediction: Prediction, masks: bool) -> tuple[Thing, ...]:
    """Returns the objects that a model found, the best scores first."""
    if masks:
        boxes = _boxes(prediction.masks, prediction.boxes)
        pairs = zip(prediction.masks, boxes, strict=True)
        things = [Thing(mask.label, box, mask, _score(mask.score)) for mask, box in pairs]
    else:
        things = [Thing(box.label, box, score=_score(box.score)) for box in prediction.boxes]
    return tuple(sorted(things, key=lambda thing: -thing.score))


def judge(truth: Sequence[Thing], found: Sequence[Thing], least: float = 0.0) -> Judged:
    """Says what became of each object.

    True objects are given away class by class as COCO does it: each found object, the best score first, takes the one
    that it overlaps most, from `FOREGROUND` on, and that is still free. A crowd or a difficult object is taken only
    where no other is left, and the object that takes it is left out; a crowd can be taken again and again, and what
    counts for it is the share of the found object that lies in it.

    Args:
        truth: All that is there.
        found: In the order of their scores, see `found_things`.
        least: Found objects of a lower score are passed over.
    """
    found = tuple(thing for thing in found if thing.score >= least)
    overlaps = overlap_table(truth, found)
    same = np.array([[t.label == f.label for f in found] for t in truth], bool).reshape(overlaps.shape)
    counting = np.array([thing.counts for thing in truth], bool)
    got = _given(truth, found, np.where(same, overlaps, 0.0))
    taken = {place for place in got if place is not None}
    verdicts: list[str] = []
    about: list[int | None] = []
    for index, place in enumerate(got):
        if place is not None:
            verdicts.append(RIGHT if counting[place] else IGNORED)
            about.append(place)
            continue
        column = np.where(counting, overlaps[:, index], 0.0) if len(truth) else np.zeros(0)
        own, other = _best(np.where(same[:, index], column, 0)), _best(np.where(same[:, index], 0, column))
        if own[0] >= FOREGROUND:
            verdict, at = DUPLICATE, own[1]
        elif other[0] >= FOREGROUND:
            verdict, at = WRONG_CLASS, other[1]
        elif own[0] >= BACKGROUND:
            verdict, at = POOR_PLACE, own[1]
        else:
            verdict, at = INVENTED, None
        verdicts.append(verdict)
        about.append(at)
    touched = taken | {place for place in about if place is not None}
    missed = tuple(place for place in range(len(truth)) if counting[place] and place not in touched)
    return Judged(tuple(truth), found, tuple(verdicts), tuple(about), missed, overlaps)


def overlap_table(truth: Sequence[Thing], found: Sequence[Thing]) -> np.ndarray:
    """Returns how much objects overlap, (truth, found) in 0..1: intersection over union, for crowds over the found."""
    from pycocotools import mask as coco

    if not truth or not found:
        return np.zeros((len(truth), len(found)))
    sides: list[Any] = []
    masks = truth[0].mask is not None
    for things in (found, truth):
        if masks:
            sides.append([{"size": list(t.mask.size), "counts": t.mask.counts} for t in things if t.mask is not None])
        else:
            sides.append(np.array([[t.box.x0, t.box.y0, t.box.width, t.box.height] for t in things], float))
    table = np.asarray(coco.iou(sides[0], sides[1], [int(thing.crowd) for thing in truth]), float)
    # Masks of two sizes give -1, and nothing over nothing no number.
    return np.clip(np.nan_to_num(table), 0, 1).T


def best_threshold(judged: Sequence[Judged]) -> float:
    """Returns the score from which on found objects are looked at: that of the best F1 over all of them.

    Args:
        judged: All found objects, without a threshold: which object is right does not depend on those of lower scores.
    """
    scores = [thing.score for one in judged for thing in one.found]
    right = [verdict == RIGHT for one in judged for verdict in one.verdicts]
    counted = [verdict != IGNORED for one in judged for verdict in one.verdicts]
    wanted = sum(thing.counts for one in judged for thing in one.truth)
    if not any(right):
        return 0.0
    order = np.argsort([-score for score in scores], kind="stable")
    ranked = np.array(scores)[order]
    hits, listed = np.cumsum(np.array(right)[order]), np.cumsum(np.array(counted)[order])
    quality = 2 * hits / (wanted + listed)
    quality[:-1][ranked[:-1] == ranked[1:]] = -1  # equal scores go together
    return float(ranked[int(quality.argmax())])


def confusion(judged: Sequence[Judged], classes: Sequence[str]) -> np.ndarray:
    """Returns how often true objects of each class (rows) were found as each class (columns); the last is background.

    True objects that are still free after `judge` go one to one to the found ones of wrong class, the greatest overlap
    first. What is left of the truth is in the last column, what is left of the found, duplicates too, in the last row.
    So a row adds up to the true objects of a class, a column to the found ones.
    """
    number = {label: place for place, label in enumerate(classes)}
    table = np.zeros((len(classes) + 1, len(classes) + 1), int)
    for one in judged:
        pairs = {index: place for index, place in enumerate(one.about) if one.verdicts[index] == RIGHT}
        free = {place for place, t in enumerate(one.truth) if t.counts} - set(pairs.values())
        wrong = [index for index, verdict in enumerate(one.verdicts) if verdict not in (RIGHT, IGNORED)]
        near = sorted((-one.overlaps[place, index], index, place) for place in free for index in wrong)
        for overlap, index, place in near:
            if -overlap >= FOREGROUND and place in free and index not in pairs:
                free.remove(place)
                pairs[index] = place
        for index, thing in enumerate(one.found):
            if one.verdicts[index] != IGNORED:
                at = pairs.get(index)
                row = -1 if at is None else number.get(one.truth[at].label, -1)
                table[row, number.get(thing.label, -1)] += 1
        for place in free:
            table[number.get(one.truth[place].label, -1), -1] += 1
    return table


def precision_recall(judged: Sequence[Judged], label: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (recall, precision) after each found object of a class, the best score first; empty without truth."""
    rows = [
        (-thing.score, verdict == RIGHT)
        for one in judged
        for thing, verdict in zip(one.found, one.verdicts, strict=True)
        if thing.label == label and verdict != IGNORED
    ]
    wanted = sum(thing.counts and thing.label == label for one in judged for thing in one.truth)
    if not wanted or not rows:
        return np.zeros(0), np.zeros(0)
    order = np.argsort([score for score, _ in rows], kind="stable")
    hits = np.cumsum([rows[place][1] for place in order])
    return hits / wanted, hits / np.arange(1, len(rows) + 1)


def _given(truth: Sequence[Thing], found: Sequence[Thing], overlaps: np.ndarray) -> list[int | None]:
    """Returns for each found object the true one that it gets, by COCO's rule; `overlaps` are those of one class."""
    free = [True] * len(truth)
    got: list[int | None] = []
    for index in range(len(found)):
        best: int | None = None
        for wanted in (True, False):
            places = [p for p, t in enumerate(truth) if t.counts == wanted and (free[p] or t.crowd)]
            near = [p for p in places if overlaps[p, index] >= FOREGROUND]
            if near:
                # Of equals COCO takes the last.
                best = max(near, key=lambda place: (overlaps[place, index], place))
                break
        if best is not None:
            free[best] = False
        got.append(best)
    return got


def _best(column: np.ndarray) -> tuple[float, int]:
    return (float(column.max()), int(column.argmax())) if column.size else (0.0, -1)


def _score(score: float | None) -> float:
    return 1.0 if score is None else score


def _boxes(masks: Sequence[Mask], boxes: Sequence[Box]) -> list[Box]:
    """Returns a box for each mask: the one that stands with it, else the one around it."""
    from mmtune.data.masks import mask_edges

    if len(masks) == len(boxes):
        return list(boxes)
    return [Box(mask.label, *mask_edges(mask.size, mask.counts)) for mask in masks]
