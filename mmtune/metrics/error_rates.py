"""Error rates of read text: edit distances over the length of what stands there, for characters and for words."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.codecs.plain_text import plain_text


@dataclass(frozen=True, slots=True)
class Errors:
    """How far texts are from their references; sums of these are those of a corpus.

    Attributes:
        edits: Fewest insertions, deletions and substitutions that turn the one into the other.
        length: Length of the references, in the same units (characters or words).
    """

    edits: int = 0
    length: int = 0

    @property
    def rate(self) -> float:
        """Edits per unit of the references; above 1 where more was written than stands there.

        Over references of length 0 it is 0 where nothing was written either, else 1.
        """
        return self.edits / self.length if self.length else float(self.edits > 0)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.edits + other.edits, self.length + other.length)


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the Levenshtein distance of two texts, or of two lists of words: each edit costs 1."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(one, other)


def character_errors(prediction: str, reference: str) -> Errors:
    """Returns the errors counted in code points, of both texts as they are."""
    return Errors(edit_distance(prediction, reference), len(reference))


def word_errors(prediction: str, reference: str) -> Errors:
    """Returns the errors counted in words: what stands between white space, punctuation included."""
    words = reference.split()
    return Errors(edit_distance(prediction.split(), words), len(words))


def cer(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Returns the character error rate of a corpus: all edits over the length of all references.

    Texts are compared in the form that `plain_text` gives them: NFC, without white space at their ends. The unit is
    the code point of NFC: é counts once, however it was typed; a letter with a mark for which Unicode has no composed
    character counts as two.

    Args:
        predictions: What was read.
        references: What stands there, in the same order.

    Returns:
        0 or more; 0 for no texts at all.
    """
    pairs = zip(map(plain_text, predictions), map(plain_text, references), strict=True)
    return sum((character_errors(*pair) for pair in pairs), Errors()).rate


def wer(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Returns the word error rate of a corpus; arguments and result as those of `cer`."""
    pairs = zip(map(plain_text, predictions), map(plain_text, references), strict=True)
    return sum((word_errors(*pair) for pair in pairs), Errors()).rate
