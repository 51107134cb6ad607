"""The metrics of captions over resamples of the pictures.

Sums over the pictures make BLEU, ROUGE-L and exact match. CIDEr weighs an n-gram by how many pictures have it, which
differs from resample to resample: what does not change are the products of counts, a picture's share of which is a sum
over n-grams of a number times the square of the n-gram's weight.
"""

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from mmtune.metrics.bleu import bleu_counts, bleu_of_counts
from mmtune.metrics.caption import words_of
from mmtune.metrics.cider import length_penalty
from mmtune.metrics.ngrams import ORDERS, ngram_counts
from mmtune.metrics.resampling import Key, Resampling, ratio
from mmtune.metrics.rouge import rouge_l

Tokens = tuple[str, ...]
Entries = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Cell, n-gram and factor of each entry."""


@final
class CaptionResampling(Resampling):
    """Captions and their references, ready to be scored as any resample.

    Args:
        captions, references: As `tokens_of` gives them, those of the pictures that have a reference.
        exact: Whether each caption equals one of its references.
        places: Which record, counted from 0, each picture is.
    """

    def __init__(
        self,
        captions: Sequence[Tokens],
        references: Sequence[Sequence[Tokens]],
        exact: Sequence[bool],
        places: Sequence[int],
    ):
        words = [words_of(one) for one in captions]
        right = [[words_of(one) for one in several] for several in references]
        self._places = np.array(places, int)
        counts = [bleu_counts(one, several) for one, several in zip(words, right, strict=True)]
        self._bleu = np.array(counts, float).reshape(-1, 2 + 2 * ORDERS)
        rouge = [rouge_l(one, several) for one, several in zip(captions, references, strict=True)]
        self._means = np.array([rouge, exact], float).reshape(2, -1).T
        self._cider = _Cider(words, right)

    def scores(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Returns CIDEr, BLEU1 to BLEU4, ROUGE_L and exact_match."""
        drawn = counts[:, self._places]
        number = drawn.sum(axis=1)
        known = number > 0
        bleu = np.array([bleu_of_counts(row) for row in (drawn @ self._bleu).tolist()]).reshape(-1, ORDERS)
        bleu[~known] = np.nan
        means = drawn @ self._means
        cider = np.array([self._cider.score(row) if row.any() else np.nan for row in drawn])
        return {
            ("CIDEr",): cider,
            **{(f"BLEU{order + 1}",): bleu[:, order] for order in range(ORDERS)},
            ("ROUGE_L",): ratio(means[:, 0], number),
            ("exact_match",): ratio(means[:, 1], number),
        }


class _Cider:
    """CIDEr-D of resamples; see `mmtune.metrics.cider` for the formula.

    All numbers lie in flat arrays, an entry for each n-gram of a caption, of a reference, and of both.
    """

    def __init__(self, captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]):
        ids: dict[Tokens, int] = {}
        seen: list[tuple[int, int]] = []  # n-gram, picture
        own: list[tuple[int, int, float]] = []  # cell of a caption's norm, n-gram, squared count
        others: list[tuple[int, int, float]] = []  # the same of a reference
        shared: list[tuple[int, int, float]] = []  # cell of a pair's product, n-gram, product of counts
        pairs: list[tuple[int, float]] = []  # picture, and what the pair's cosine is multiplied by
        for picture, (caption, right) in enumerate(zip(captions, references, strict=True)):
            found, counted = ngram_counts(caption), [ngram_counts(one) for one in right]
            seen += [(_id(ids, ngram), picture) for ngram in set().union(*counted)]
            own += [(picture * ORDERS + len(n) - 1, _id(ids, n), float(c * c)) for n, c in found.items()]
            for one in counted:
                cell = len(pairs) * ORDERS
                others += [(cell + len(n) - 1, _id(ids, n), float(c * c)) for n, c in one.items()]
                shared += [
                    (cell + len(n) - 1, _id(ids, n), float(min(c, one[n]) * one[n]))
                    for n, c in found.items()
                    if n in one
                ]
                pairs.append((picture, 10.0 * length_penalty(found, one) / (ORDERS * len(right))))
        self._ngrams, self._pictures = len(ids), len(captions)
        self._seen_ngram, self._seen_picture = _columns(seen, 2).astype(int)
        self._own, self._others, self._shared = map(_entries, (own, others, shared))
        pair_picture, self._pair_factor = _columns(pairs, 2)
        self._pair_picture = pair_picture.astype(int)

    def score(self, drawn: np.ndarray) -> float:
        """Returns the mean over the pictures, each as often as it was drawn."""
        frequency = np.bincount(self._seen_ngram, weights=drawn[self._seen_picture], minlength=self._ngrams)
        # What no reference of the resample has is worth as much as what one has.
        worth = math.log(drawn.sum()) - np.log(np.maximum(frequency, 1.0))
        square = worth * worth
        pairs = len(self._pair_picture)
        norms = _summed(self._own, square, self._pictures)
        others = _summed(self._others, square, pairs)
        products = _summed(self._shared, square, pairs)
        lengths = np.sqrt(norms[self._pair_picture]) * np.sqrt(others)
        cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).sum(axis=1)
        return float((cosine * self._pair_factor * drawn[self._pair_picture]).sum() / drawn.sum())


def _id(ids: dict[Tokens, int], ngram: Tokens) -> int:
    return ids.setdefault(ngram, len(ids))


def _columns(rows: Sequence[tuple[float, ...]], width: int) -> np.ndarray:
    return np.array(rows, float).reshape(-1, width).T


def _entries(rows: Sequence[tuple[int, int, float]]) -> Entries:
    cell, ngram, factor = _columns(rows, 3)
    return cell.astype(int), ngram.astype(int), factor


def _summed(entries: Entries, square: np.ndarray, rows: int) -> np.ndarray:
    """Returns the sums of the cells, (rows, orders of n-grams)."""
    cell, ngram, factor = entries
    sums = np.bincount(cell, weights=factor * square[ngram], minlength=rows * ORDERS)
    return sums.astype(float).reshape(-1, ORDERS)  # without cells they are integers
