"""Relaxed correctness, the score of ChartQA: numbers may be off by five per cent."""

from collections.abc import Sequence

# Source: Methani et al., "PlotQA", 2020, taken over by Masry et al., "ChartQA" (arXiv 2203.10244), section 5.1.
DEFAULT_TOLERANCE = 0.05


def relaxed_correct(prediction: str, references: Sequence[str], tolerance: float = DEFAULT_TOLERANCE) -> bool:
    """Whether an answer is right by the rules of the published evaluations of ChartQA (pix2struct and those after it).

    Two numbers match when they differ by at most the tolerance, relative to the reference; "5%" is 0.05. A text that
    Python reads as no number, such as "1,200", is a word, and so is everything compared with a reference of 0: words
    match when they are the same but for upper and lower case.

    Args:
        prediction: The answer of the model.
        references: The accepted answers, any number; without one nothing is right.
        tolerance: Largest relative difference.
    """
    return any(_matches(prediction.strip(), reference.strip(), tolerance) for reference in references)


def _matches(prediction: str, reference: str, tolerance: float) -> bool:
    found, wanted = _number(prediction), _number(reference)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= tolerance
    return prediction.lower() == reference.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
