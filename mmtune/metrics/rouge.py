"""ROUGE-L, the longest common subsequence (Lin, 2004), as captions and answers are scored by it."""

from collections.abc import Sequence

_BETA = 1.2  # the weight of recall in the captioning benchmarks


def rouge_l(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Returns ROUGE-L of one text in 0..1, as pycocoevalcap's `Rouge` computes it.

    Precision and recall are each the best over the references, and may be those of different ones. A text without
    tokens counts as one empty token, which only another such text has.

    >>> round(rouge_l(["a", "red", "car"], [["a", "car"]]), 4)
    0.8299

    Args:
        hypothesis: Its tokens.
        references: The tokens of the right texts, at least one.
    """
    found = hypothesis or ("",)
    precision = recall = 0.0
    for reference in references:
        right = reference or ("",)
        common = _common(found, right)
        precision, recall = max(precision, common / len(found)), max(recall, common / len(right))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for token in one:
        before = 0
        for place, candidate in enumerate(other, start=1):
            above = row[place]
            row[place] = before + 1 if token == candidate else max(above, row[place - 1])
            before = above
    return row[-1]
