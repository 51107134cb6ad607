"""Counting n-grams."""

from collections import Counter
from collections.abc import Sequence

ORDERS = 4
"""BLEU and CIDEr count runs of one to four tokens."""


def ngram_counts(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Returns how often each run of one to four tokens occurs.

    >>> ngram_counts(["a", "b"]) == {("a",): 1, ("b",): 1, ("a", "b"): 1}
    True
    """
    runs = (zip(*(tokens[shift:] for shift in range(order)), strict=False) for order in range(1, ORDERS + 1))
    return Counter(ngram for run in runs for ngram in run)
