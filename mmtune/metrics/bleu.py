"""BLEU over a corpus (Papineni et al., 2002), with the constants of the captioning benchmarks."""

import math
from collections.abc import Sequence

from mmtune.metrics.ngrams import ORDERS, ngram_counts

# pycocoevalcap adds these to numerators and denominators, so that no match at all is not exactly 0.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> tuple[float, ...]:
    """Returns BLEU-1 to BLEU-4, each in 0..1, as pycocoevalcap's `Bleu` computes them.

    Matches are summed over the corpus, and clipped by the reference that has most of an n-gram. The brevity penalty
    takes, for each hypothesis, the reference whose length is closest, the shorter of two.

    >>> round(bleu([["a", "red", "car"]], [[["a", "red", "bus"], ["one", "car"]]])[0], 6)
    1.0

    Args:
        hypotheses: The tokens of one caption a picture.
        references: The tokens of the right captions of each picture, at least one each.
    """
    if not hypotheses:
        return (0.0,) * ORDERS
    counts = [bleu_counts(one, right) for one, right in zip(hypotheses, references, strict=True)]
    return bleu_of_counts([sum(column) for column in zip(*counts, strict=True)])


def bleu_counts(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Returns what one caption adds to a corpus; sums of these are those of the corpus.

    Returns:
        Its length, the length that is wanted; then for each order the n-grams that it has, and how many are right.
    """
    wanted = min((abs(len(one) - len(hypothesis)), len(one)) for one in references)[1]
    counts = [ngram_counts(one) for one in references]
    guessed = [max(0, len(hypothesis) - order) for order in range(ORDERS)]
    correct = [0] * ORDERS
    for ngram, count in ngram_counts(hypothesis).items():
        correct[len(ngram) - 1] += min(count, max(one[ngram] for one in counts))
    return (len(hypothesis), wanted, *guessed, *correct)


def bleu_of_counts(counts: Sequence[float]) -> tuple[float, ...]:
    """Returns BLEU-1 to BLEU-4 of a corpus, given the sum of `bleu_counts` over its captions."""
    length, wanted = counts[:2]
    guessed, correct = counts[2 : 2 + ORDERS], counts[2 + ORDERS :]
    ratio = (length + _TINY) / (wanted + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(ORDERS):
        product *= (correct[order] + _TINY) / (guessed[order] + _SMALL)
        scores.append(penalty * product ** (1 / (order + 1)))
    return tuple(scores)
