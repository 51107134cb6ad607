"""Average normalised Levenshtein similarity, the score of DocVQA, InfographicVQA and ST-VQA."""

from collections.abc import Sequence

# Source: Biten et al., "Scene Text Visual Question Answering", 2019: answers off by half their length or more score 0.
DEFAULT_THRESHOLD = 0.5


def anls(prediction: str, references: Sequence[str], threshold: float = DEFAULT_THRESHOLD) -> float:
    """The similarity of one answer to its best reference.

    Args:
        prediction: the answer of the model.
        references: the accepted answers, any number; without one the score is 0.
        threshold: a normalised distance in [0, 1] from which on an answer counts as wrong.

    Returns:
        1 - NLD of the nearest reference where NLD, the edit distance divided by the length of the longer text, lies
        below the threshold, else 0; in [0, 1]. Both texts are lower-cased and stripped first.
    """
    answer = _plain(prediction)
    return max((_similarity(answer, _plain(reference), threshold) for reference in references), default=0.0)


def _plain(text: str) -> str:
    """The text as the score compares it: lower-cased, with runs of white space as one space and none at the ends."""
    return " ".join(text.lower().split())


def _similarity(answer: str, reference: str, threshold: float) -> float:
    """1 - NLD, or 0 from the threshold on; two empty texts are equal."""
    from rapidfuzz.distance import Levenshtein

    distance = Levenshtein.normalized_distance(answer, reference)
    return 1.0 - distance if distance < threshold else 0.0
