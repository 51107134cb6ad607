"""Whether scores mean what they say: of answers with a score of .8, are eight of ten right?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose scores lie in one part of 0..1.

    Attributes:
        low, high: The part; the upper end belongs to the next one, but for 1.
        count: How many answers.
        score, right: Mean score, and the share that is right; 0 without answers.
    """

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Equal parts of the scores, and the expected calibration error (Naeini et al., 2015).

    Attributes:
        bins: From 0 to 1.
        error: Mean over the answers of how far the mean score of their part is from the share that is right.
    """

    bins: tuple[Bin, ...]
    error: float

    @property
    def count(self) -> int:
        """How many answers there are."""
        return sum(one.count for one in self.bins)


def calibration(scores: Sequence[float], right: Sequence[float], bins: int = BINS) -> Calibration | None:
    """Returns how scores compare with what was right; None without answers.

    Args:
        scores: In 0..1.
        right: 1 for a right answer, 0 for a wrong one, or what lies between.
        bins: How many parts.
    """
    if not len(scores):
        return None
    values, truth = np.clip(np.asarray(scores, float), 0, 1), np.asarray(right, float)
    place = np.minimum((values * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    shares = np.maximum(counts, 1)
    means = np.bincount(place, weights=values, minlength=bins) / shares
    hits = np.bincount(place, weights=truth, minlength=bins) / shares
    parts = [
        Bin(index / bins, (index + 1) / bins, int(counts[index]), float(means[index]), float(hits[index]))
        for index in range(bins)
    ]
    return Calibration(tuple(parts), float((np.abs(means - hits) * counts).sum() / len(values)))
