"""The metrics of reading text: CER, WER, exact match and ANLS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

from mmtune.codecs.plain_text import plain_text
from mmtune.metrics.anls import anls
from mmtune.metrics.base import Metric
from mmtune.metrics.error_rates import Errors, character_errors, word_errors
from mmtune.records import Prediction, Record

if TYPE_CHECKING:
    import numpy as np

    from mmtune.metrics.resampling import Pairs, Resampling

NAMES = ("CER", "WER", "exact_match", "ANLS")
"""The metrics, in the order of `OCRMetric.compute`."""

SEVERAL = ("versions", "lines")
"""What several texts of one picture are; see `right_texts`."""


def right_texts(record: Record, several: str = "versions") -> tuple[str, ...]:
    """Returns the right transcriptions of a record, none where nobody knows them.

    Args:
        record: With what stands on the picture in `texts`.
        several: What several texts are: "versions" of the whole, each of them right; or "lines" (words, columns) that
            stand one below the other.
    """
    return ("\n".join(record.texts),) if several == "lines" and record.texts else record.texts


@dataclass(frozen=True, slots=True)
class TextScores:
    """The scores of one text.

    Attributes:
        characters, words: The errors against the nearest reference.
        exact: Whether the text is one of the references.
        anls: See `mmtune.metrics.anls`.
    """

    characters: Errors
    words: Errors
    exact: bool
    anls: float

    def as_json(self) -> dict[str, float]:
        """Returns the numbers of `NAMES` for this text alone."""
        values = (self.characters.rate, self.words.rate, float(self.exact), self.anls)
        return dict(zip(NAMES, values, strict=True))


def text_scores(
    prediction: str, references: Sequence[str], *, white_space: str = "keep", lower_case: bool = False
) -> TextScores:
    """Returns the scores of one text.

    Of several references, that of the lowest character error rate counts for both rates.

    Args:
        prediction: What was read.
        references: The right transcriptions, at least one.
        white_space: As in `plain_text`.
        lower_case: Whether upper and lower case are the same.

    Raises:
        ValueError: Without a reference.
    """
    if not references:
        raise ValueError("expected at least one reference, got none")
    found = plain_text(prediction, white_space=white_space, lower_case=lower_case)
    right = [plain_text(text, white_space=white_space, lower_case=lower_case) for text in references]
    errors = [character_errors(found, text) for text in right]
    nearest = min(range(len(right)), key=lambda place: errors[place].rate)
    return TextScores(errors[nearest], word_errors(found, right[nearest]), found in right, anls(found, right))


@final
class OCRMetric(Metric):
    """Error rates of the whole corpus (all edits over the length of all references), and means over records.

    Records without a reference are not counted; one whose reference is the empty text is.

    Args:
        white_space: As in `plain_text`.
        lower_case: Whether upper and lower case are the same.
        several: As in `right_texts`.
    """

    def __init__(self, white_space: str = "keep", lower_case: bool = False, several: str = "versions"):
        self._white_space, self._lower_case, self._several = white_space, lower_case, several
        self._characters = self._words = Errors()
        self._count = self._exact = 0
        self._anls = 0.0

    def scores(self, record: Record, prediction: Prediction) -> TextScores | None:
        """Returns the scores of one record, None where the right text is not known; the state stays as it is."""
        right = right_texts(record, self._several)
        if not right:
            return None
        return text_scores(prediction.text, right, white_space=self._white_space, lower_case=self._lower_case)

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's text and the model's, which is the prediction's text."""
        scores = self.scores(record, prediction)
        if scores is None:
            return
        self._characters += scores.characters
        self._words += scores.words
        self._count += 1
        self._exact += scores.exact
        self._anls += scores.anls

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        self._characters += other._characters
        self._words += other._words
        self._count += other._count
        self._exact += other._exact
        self._anls += other._anls

    def compute(self) -> dict[str, Any]:
        """Returns the numbers of `NAMES`."""
        records = max(1, self._count)
        values = (self._characters.rate, self._words.rate, self._exact / records, self._anls / records)
        return dict(zip(NAMES, values, strict=True))

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records."""
        import numpy as np

        from mmtune.metrics.resampling import SummedRows

        rows = []
        for record, prediction in pairs:
            scores = self.scores(record, prediction)
            if scores is None:
                rows.append((0.0,) * 7)
                continue
            characters, words = scores.characters, scores.words
            rates = (characters.edits, characters.length, words.edits, words.length)
            rows.append((1, *rates, scores.exact, scores.anls))
        return SummedRows(np.array(rows, float).reshape(-1, 7), _summed)

    @property
    def count(self) -> int:
        """How many records were counted."""
        return self._count


def _summed(sums: "np.ndarray") -> "dict[str, np.ndarray]":
    from mmtune.metrics.resampling import ratio

    records, edits, characters, word_edits, words, exact, similar = sums
    values = (ratio(edits, characters), ratio(word_edits, words), ratio(exact, records), ratio(similar, records))
    return dict(zip(NAMES, values, strict=True))
