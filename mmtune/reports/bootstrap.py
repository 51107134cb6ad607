"""Bootstrap intervals: how far a metric would move if the records had been drawn again from where they came from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmtune.metrics.resampling import Key, Resampling

RESAMPLES = 1000
"""Of so many, the 25 lowest and the 25 highest lie outside a 95 % interval, and another seed moves its ends by about a
fiftieth of its length (of a normal distribution: sqrt(.025 * .975 / 1000) / .058 = .085 of 3.9 standard deviations)."""

LEVEL = 0.95
SEED = 0
_MOST = 4_000_000  # counts that are held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95 % of a metric over the resamples."""

    low: float
    high: float


def draws(records: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[np.ndarray]:
    """Yields how often each record is in each resample, (some resamples, records), `resamples` rows in all.

    The rows depend on the arguments alone.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _MOST // max(1, records))
    for start in range(0, resamples, step):
        rows = [
            np.bincount(rng.integers(0, records, records), minlength=records)
            for _ in range(min(step, resamples - start))
        ]
        yield np.stack(rows)


def resampled(data: Resampling, records: int, resamples: int = RESAMPLES, seed: int = SEED) -> dict[Key, np.ndarray]:
    """Returns the metrics of `resamples` resamples, each as large as the data, drawn with replacement."""
    parts = [data.scores(counts) for counts in draws(records, resamples, seed)] if records else []
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: np.concatenate([part[key] for part in parts]) for key in keys if all(key in part for part in parts)}


def interval(values: np.ndarray) -> Interval | None:
    """Returns the percentile interval of a metric's values; None where no resample had anything to measure."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    edge = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [edge, 100 - edge])
    return Interval(float(low), float(high))


def intervals(data: Resampling, records: int, resamples: int = RESAMPLES, seed: int = SEED) -> dict[Key, Interval]:
    """Returns the interval of each metric that has one."""
    found = {key: interval(values) for key, values in resampled(data, records, resamples, seed).items()}
    return {key: value for key, value in found.items() if value is not None}


def paired_differences(
    one: Resampling, other: Resampling, records: int, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[Key, Interval]:
    """Returns the interval of each metric's difference, `other` less `one`.

    Both are scored on the same resamples, so that what makes a record hard for both does not widen the interval.
    """
    before, after = (resampled(data, records, resamples, seed) for data in (one, other))
    found = {key: interval(after[key] - before[key]) for key in before if key in after}
    return {key: value for key, value in found.items() if value is not None}
