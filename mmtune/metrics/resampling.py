"""Scores of many resamples of one data set at once, for bootstrap intervals: which records count how often."""

import abc
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from mmtune.metrics.base import Metric
    from mmtune.records import Prediction, Record

Key = tuple[str, ...]
"""The way to a number in what `Metric.compute` returns: ("AP",), or ("per_class", "cat", "AP")."""

Pairs = Sequence[tuple["Record", "Prediction"]]


class Resampling(abc.ABC):
    """The records of a data set, ready to be scored as any resample of them."""

    @abc.abstractmethod
    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns the metrics of resamples.

        Args:
            counts: (resamples, records) whole numbers: how often each record is in each resample.

        Returns:
            (resamples,) float for each metric that can be resampled; NaN where a resample has nothing to measure.
        """


@final
class SummedRows(Resampling):
    """For metrics that are a function of sums over the records.

    Args:
        rows: (records, numbers), what each record adds.
        score: Gives the metrics by name, (resamples,) each, for sums of shape (numbers, resamples).
    """

    def __init__(self, rows: np.ndarray, score: Callable[[np.ndarray], Mapping[str, np.ndarray]]):
        self._rows, self._score = rows, score

    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns the metrics of resamples."""
        return {(name,): value for name, value in self._score((counts @ self._rows).T).items()}


@final
class MergedStates(Resampling):
    """For any metric: a state a record, merged anew for each resample. Slow where merging or computing is.

    Args:
        empty: An empty state.
        pairs: Truth and prediction of each record.
    """

    def __init__(self, empty: "Metric", pairs: Pairs):
        self._empty = empty
        self._states = [copy.deepcopy(empty) for _ in pairs]
        for state, pair in zip(self._states, pairs, strict=True):
            state.update(*pair)

    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns the metrics of resamples."""
        found = [flat(self._merged(row)) for row in counts.tolist()]
        keys = dict.fromkeys(key for numbers in found for key in numbers)
        return {key: np.array([numbers.get(key, np.nan) for numbers in found]) for key in keys}

    def _merged(self, counts: Sequence[int]) -> dict[str, Any]:
        whole = copy.deepcopy(self._empty)
        for state, count in zip(self._states, counts, strict=True):
            for _ in range(count):
                whole.merge(state)
        return whole.compute()


def flat(metrics: Mapping[str, Any], above: Key = ()) -> dict[Key, float]:
    """Returns what `Metric.compute` gives, nested or not, as numbers by their keys.

    >>> flat({"AP": 0.5, "per_class": {"cat": {"AP": 0.5}}})
    {('AP',): 0.5, ('per_class', 'cat', 'AP'): 0.5}
    """
    numbers: dict[Key, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, (*above, name))
        elif isinstance(value, int | float):
            numbers[(*above, name)] = float(value)
    return numbers


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns a quotient, NaN where there is nothing to divide by."""
    whole = np.broadcast_to(denominator, np.shape(numerator))
    return np.divide(numerator, whole, out=np.full(np.shape(numerator), np.nan), where=whole > 0)
