"""What went wrong with each record: the contents of the error browser, and what is counted over all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmtune.metrics.resampling import Pairs
from mmtune.object_task import ObjectTask
from mmtune.records import Prediction, Record
from mmtune.reports import object_faults, text_faults
from mmtune.reports.calibration import Calibration, calibration
from mmtune.reports.object_faults import IGNORED, RIGHT, Judged, best_threshold, found_things, judge, true_things
from mmtune.reports.text_faults import Difference, difference
from mmtune.task import Task


@dataclass(frozen=True)
class Example:
    """A record with its prediction and what is wrong with it.

    Attributes:
        record, prediction: As they are.
        quality: 1 where nothing is wrong: F1 of the objects, or the share of the text that is right.
        counts: How many faults of each kind there are, those of none left out.
        judged: The objects, for tasks that have some; of scores from `Findings.threshold` on.
        difference: From the nearest right text, for tasks that answer in text.
        score: How sure the model was of its text, None where that is not known.
    """

    record: Record
    prediction: Prediction
    quality: float
    counts: Mapping[str, int]
    judged: Judged | None = None
    difference: Difference | None = None
    score: float | None = None


@dataclass(frozen=True)
class Findings:
    """What a data set's predictions amount to.

    Attributes:
        examples: In the order of the data.
        explained: The kinds of faults and what they mean.
        classes: Of the objects; empty for tasks without.
        threshold: Objects of lower scores are passed over in the examples; None for tasks without objects.
        everything: The objects of each record without a threshold.
        calibration: Of all scores, None without any.
    """

    examples: tuple[Example, ...]
    explained: Mapping[str, str]
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    everything: tuple[Judged, ...] = ()
    calibration: Calibration | None = None

    @property
    def totals(self) -> dict[str, int]:
        """How many faults of each kind there are."""
        return {kind: sum(one.counts.get(kind, 0) for one in self.examples) for kind in self.explained}

    @property
    def touched(self) -> dict[str, int]:
        """How many records have a fault of each kind."""
        return {kind: sum(kind in one.counts for one in self.examples) for kind in self.explained}

    @property
    def worst_first(self) -> list[Example]:
        """Sorted by quality; those of equal quality by how many faults they have, then in the order of the data."""
        return sorted(self.examples, key=lambda one: (one.quality, -sum(one.counts.values())))


def find(task: Task, pairs: Pairs) -> Findings:
    """Returns what is wrong with predictions."""
    return _objects(task, pairs) if isinstance(task, ObjectTask) else _texts(task, pairs)


def _objects(task: ObjectTask, pairs: Pairs) -> Findings:
    masks = task.segments > 0
    sides = [(true_things(record, masks), found_things(prediction, masks)) for record, prediction in pairs]
    everything = tuple(judge(truth, found) for truth, found in sides)
    threshold = best_threshold(everything)
    examples = []
    for pair, (truth, found) in zip(pairs, sides, strict=True):
        one = judge(truth, found, threshold)
        counts = {kind: count for kind, count in one.counts.items() if count}
        examples.append(Example(*pair, quality=one.quality, counts=counts, judged=one))
    met = sorted({thing.label for one in everything for thing in one.truth} - set(task.classes))
    scored = [
        (thing.score, float(verdict == RIGHT))
        for one in everything
        for thing, verdict in zip(one.found, one.verdicts, strict=True)
        if verdict != IGNORED
    ]
    return Findings(
        tuple(examples),
        object_faults.EXPLAINED,
        (*task.classes, *met),
        threshold,
        everything,
        calibration(*_columns(scored)),
    )


def _texts(task: Task, pairs: Pairs) -> Findings:
    examples = []
    for record, prediction in pairs:
        found = difference(prediction.text.strip(), task.right_texts(record))
        counts = {found.kind: 1} if found.kind in text_faults.FAULTS else {}
        score = math.exp(min(0.0, sum(logprob for _, logprob in prediction.tokens))) if prediction.tokens else None
        examples.append(Example(record, prediction, 1 - found.share, counts, difference=found, score=score))
    scored = [
        (one.score, float(one.difference.edits == 0))
        for one in examples
        if one.score is not None and one.difference.right is not None
    ]
    return Findings(tuple(examples), text_faults.EXPLAINED, calibration=calibration(*_columns(scored)))


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [row[0] for row in rows], [row[1] for row in rows]
