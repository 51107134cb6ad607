"""Two runs on the same validation data: how far their metrics differ, and which examples changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.errors import DataError, UsageError
from mmtune.metrics.resampling import Key, Pairs, flat
from mmtune.records import Record
from mmtune.reporting import RunFolder, read_run, resampling
from mmtune.reports.bootstrap import Interval, paired_differences
from mmtune.reports.findings import Example, find
from mmtune.task import Task


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of two runs.

    Attributes:
        before, after: Of the first and of the second run, over the records that both saw.
        interval: 95 % interval of `change`, paired by record; None where it cannot be resampled.
    """

    before: float
    after: float
    interval: Interval | None

    @property
    def change(self) -> float:
        """How much more the second run has; -1 in COCO's metrics, which is nothing to measure, makes it 0."""
        return 0.0 if -1 in (self.before, self.after) else self.after - self.before

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs.

    Attributes:
        runs: The two folders as they were given.
        task: Name of their task.
        records: How many records both saw.
        metrics: By the keys of `mmtune.metrics.resampling`.
        examples: The first and the second run's answer to each record; those that changed most first.
        notes: Sentences on what a reader should know.
    """

    runs: tuple[str, str]
    task: str
    records: int
    metrics: Mapping[Key, Difference]
    examples: tuple[tuple[Example, Example], ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns {"task", "runs", "n", "metrics", "examples", "notes"}; metrics are nested as those of `eval`."""
        metrics: dict[str, Any] = {}
        for (*path, name), one in self.metrics.items():
            at = metrics
            for part in path:
                at = at.setdefault(part, {})
            low, high = (one.interval.low, one.interval.high) if one.interval is not None else (None, None)
            at[name] = {"a": one.before, "b": one.after, "difference": one.change, "low": low, "high": high}
        examples = [
            {
                "record": before.record.id,
                "a": {"quality": before.quality, "faults": dict(before.counts)},
                "b": {"quality": after.quality, "faults": dict(after.counts)},
            }
            for before, after in self.examples
        ]
        return {
            "task": self.task,
            "runs": list(self.runs),
            "n": self.records,
            "metrics": metrics,
            "examples": examples,
            "notes": list(self.notes),
        }


def compare(run_a: str | Path, run_b: str | Path) -> Comparison:
    """Compares two runs over the validation records that both saw, by the metric of the first one's task.

    Raises:
        UsageError: When one is no run folder, their tasks differ, or they saw different validation data.
        DataError: When one has no predictions, or its validation data cannot be read again.
    """
    first, second = read_run(run_a), read_run(run_b)
    if first.recipe.task != second.recipe.task:
        raise UsageError(
            f"{run_a} is a run of {first.recipe.task} and {run_b} one of {second.recipe.task}: "
            "only runs of one task can be compared"
        )
    before, after = _known(first), _known(second)
    common = [name for name in before if name in after]
    differ = [name for name in common if _truth(before[name][0]) != _truth(after[name][0])]
    if not common or differ:
        what = f"the truth of {differ[0]} is not the same" if differ else "they have no record in common"
        raise UsageError(
            f"{run_a} and {run_b} were evaluated on different data ({first.recipe.val} and {second.recipe.val}): "
            f"{what}; compare runs with the same validation data"
        )
    pairs = [before[name] for name in common], [after[name] for name in common]
    notes = [
        f"{folder.folder}: {folder.lost}"
        if folder.lost
        else f"{len(known) - len(common)} records of {folder.folder} "
        "are not among those of the other run and are left out."
        for folder, known in ((first, before), (second, after))
        if folder.lost or len(known) > len(common)
    ]
    examples = [find(folder.task, part).examples for folder, part in zip((first, second), pairs, strict=True)]
    changed = sorted(zip(*examples, strict=True), key=lambda both: -abs(both[1].quality - both[0].quality))
    return Comparison(
        (str(run_a), str(run_b)),
        first.recipe.task,
        len(common),
        _differences(first.task, *pairs),
        tuple(both for both in changed if both[0].prediction != both[1].prediction),
        tuple(notes),
    )


def _differences(task: Task, before: Pairs, after: Pairs) -> dict[Key, Difference]:
    spans = paired_differences(resampling(task, before), resampling(task, after), len(before))
    old, new = (flat(_scores(task, pairs)) for pairs in (before, after))
    return {key: Difference(value, new[key], spans.get(key)) for key, value in old.items() if key in new}


def _scores(task: Task, pairs: Pairs) -> dict[str, Any]:
    metric = task.metric()
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def _known(run: RunFolder) -> dict[str, Any]:
    """Returns the pairs of a run by the ids of their records.

    Raises:
        DataError: When there are none.
    """
    if not run.pairs:
        raise DataError(f"{run.folder}: nothing to compare: {run.lost or 'the run has no validation data'}")
    return {record.id: (record, prediction) for record, prediction in run.pairs}


def _truth(record: Record) -> tuple[Any, ...]:
    return record.prefix, record.texts, record.boxes, record.masks, record.turns
