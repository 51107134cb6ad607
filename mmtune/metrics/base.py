"""The interface of a metric: a state that takes one record at a time and merges over processes."""

import abc
from typing import TYPE_CHECKING, Any, Self

from mmtune.records import Prediction, Record

if TYPE_CHECKING:
    from mmtune.metrics.resampling import Pairs, Resampling


class Metric(abc.ABC):
    """An accumulating, mergeable metric state. Pure Python and numpy: no Keras, no JAX."""

    @abc.abstractmethod
    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's truth and prediction."""

    @abc.abstractmethod
    def merge(self, other: Self) -> None:
        """Adds another state of the same metric, such as that of another process."""

    @abc.abstractmethod
    def compute(self) -> dict[str, Any]:
        """Returns the metrics by their contract names; fractions in 0..1. An empty state gives zeros, not an error."""

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records of some data, for bootstrap intervals.

        It is called on an empty state, whose settings count. A metric that can do it faster than by merging the states
        of single records anew says how.

        Args:
            pairs: Truth and prediction of each record.
        """
        from mmtune.metrics.resampling import MergedStates

        return MergedStates(self, pairs)
