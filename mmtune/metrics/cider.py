"""CIDEr-D, the consensus of captions (Vedantam et al., arXiv 1411.5726)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.metrics.ngrams import ORDERS, ngram_counts

_SIGMA = 6.0  # of the penalty for another length than the reference's; from the paper


@dataclass(frozen=True, slots=True)
class _Vector:
    """The weights of a caption's n-grams, their norm for each order, and the caption's length."""

    weights: dict[tuple[str, ...], float]
    norms: tuple[float, ...]
    length: int


def cider(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Returns the mean of `cider_scores`; 0 without hypotheses."""
    return sum(cider_scores(hypotheses, references)) / max(1, len(hypotheses))


def cider_scores(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, ...]:
    """Returns CIDEr-D for each picture, in 0..10, as pycocoevalcap's `Cider` computes it.

    An n-gram is worth the more, the fewer pictures have it in their references; the references that are given are the
    corpus. A single picture therefore always scores 0.

    Args:
        hypotheses: The tokens of one caption a picture.
        references: The tokens of the right captions of each picture, at least one each.
    """
    counted = [[ngram_counts(one) for one in right] for right in references]
    frequencies = Counter(ngram for right in counted for ngram in set().union(*right))
    pictures = math.log(max(1, len(references)))
    worth = {ngram: pictures - math.log(count) for ngram, count in frequencies.items()}
    scores = []
    for hypothesis, right in zip(hypotheses, counted, strict=True):
        vector = _vector(ngram_counts(hypothesis), worth, pictures)
        alike = sum(_similarity(vector, _vector(one, worth, pictures)) for one in right)
        scores.append(10.0 * alike / (ORDERS * len(right)))
    return tuple(scores)


def _vector(counts: Counter[tuple[str, ...]], worth: dict[tuple[str, ...], float], most: float) -> _Vector:
    """Returns term frequency times inverse document frequency; what no reference has is worth `most`."""
    weights = {ngram: count * worth.get(ngram, most) for ngram, count in counts.items()}
    squares = [0.0] * ORDERS
    for ngram, weight in weights.items():
        squares[len(ngram) - 1] += weight * weight
    return _Vector(weights, tuple(map(math.sqrt, squares)), _length(counts))


def _length(counts: Counter[tuple[str, ...]]) -> int:
    """Returns the number of bigrams, which pycocoevalcap takes for the length."""
    return sum(count for ngram, count in counts.items() if len(ngram) == 2)


def length_penalty(hypothesis: Counter[tuple[str, ...]], reference: Counter[tuple[str, ...]]) -> float:
    """Returns what the cosine of two captions of different lengths is multiplied by."""
    return _penalty(_length(hypothesis), _length(reference))


def _penalty(one: int, other: int) -> float:
    return math.exp(-((one - other) ** 2) / (2 * _SIGMA**2))


def _similarity(hypothesis: _Vector, reference: _Vector) -> float:
    """Returns the sum over the orders of the clipped cosine, less for captions of different lengths."""
    products = [0.0] * ORDERS
    for ngram, weight in hypothesis.weights.items():
        right = reference.weights.get(ngram)
        if right is not None:
            products[len(ngram) - 1] += min(weight, right) * right
    norms = zip(hypothesis.norms, reference.norms, strict=True)
    cosine = sum(product / (a * b) for product, (a, b) in zip(products, norms, strict=True) if a and b)
    return cosine * _penalty(hypothesis.length, reference.length)
