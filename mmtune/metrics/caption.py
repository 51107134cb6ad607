"""The metrics of captions: CIDEr, BLEU and ROUGE-L as pycocoevalcap computes them, and exact match."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

from mmtune.metrics.base import Metric
from mmtune.metrics.bleu import bleu
from mmtune.metrics.cider import cider
from mmtune.metrics.ptb import tokenize
from mmtune.metrics.rouge import rouge_l
from mmtune.records import Prediction, Record

if TYPE_CHECKING:
    from mmtune.metrics.resampling import Pairs, Resampling

NAMES = ("CIDEr", "BLEU1", "BLEU2", "BLEU3", "BLEU4", "ROUGE_L", "exact_match")


@final
class CaptionMetric(Metric):
    """CIDEr, BLEU1 to BLEU4, ROUGE_L, and exact_match.

    - exact_match: share of captions that equal one of the right ones but for white space.

    Records without a right caption are not scored. CIDEr weighs words by how many of the records have them, so that
    it is known only at the end, and that of a few records says little. Texts are kept as they came and cut together, in
    the order of the updates: the official tokenizer looks at the beginning of the next caption, if rarely.

    Args:
        lower_case: Whether exact_match overlooks case; the other metrics always do.
        java: Whether to compute METEOR and SPICE as well, see `mmtune.metrics.caption_java`.
    """

    def __init__(self, *, lower_case: bool = False, java: bool = False):
        self._lower_case, self._java = lower_case, java
        self._found: list[str] = []
        self._right: list[tuple[str, ...]] = []

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's right captions and the model's."""
        if record.texts:
            self._found.append(prediction.text)
            self._right.append(record.texts)

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        self._found.extend(other._found)
        self._right.extend(other._right)

    @property
    def count(self) -> int:
        """How many records there are that can be scored."""
        return len(self._found)

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records; METEOR and SPICE are left out.

        Captions are cut into words once, all together: no resample changes how.
        """
        from mmtune.metrics.caption_resampling import CaptionResampling

        known = [place for place, (record, _) in enumerate(pairs) if record.texts]
        for place in known:
            self.update(*pairs[place])
        exact = [
            _is_exact(found, right, self._lower_case) for found, right in zip(self._found, self._right, strict=True)
        ]
        return CaptionResampling(*tokens_of(self._found, self._right), exact, known)

    def compute(self) -> dict[str, Any]:
        """Returns the metrics; all are 0 for an empty state."""
        scores = caption_scores(self._found, self._right, lower_case=self._lower_case)
        if self._java and self._found:
            from mmtune.metrics.caption_java import java_scores

            scores |= java_scores(*tokens_of(self._found, self._right))
        return scores


def caption_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, lower_case: bool = False
) -> dict[str, float]:
    """Returns the metrics of `NAMES`.

    Args:
        captions: One a picture.
        references: The right captions of each picture, at least one each.
        lower_case: Whether exact_match overlooks case.
    """
    pairs = list(zip(captions, references, strict=True))
    exact = sum(_is_exact(caption, right, lower_case) for caption, right in pairs)
    found, right = tokens_of(captions, references)
    rouge = sum(rouge_l(caption, one) for caption, one in zip(found, right, strict=True))
    words = [words_of(tokens) for tokens in found], [[words_of(tokens) for tokens in one] for one in right]
    count = max(1, len(pairs))
    scores = (cider(*words), *bleu(*words), rouge / count, exact / count)
    return dict(zip(NAMES, scores, strict=True))


def _is_exact(caption: str, references: Sequence[str], lower_case: bool) -> bool:
    """Whether a caption equals one of its references but for white space."""

    def plain(text: str) -> str:
        return " ".join(text.lower().split() if lower_case else text.split())

    return plain(caption) in map(plain, references)


Tokens = tuple[str, ...]


def tokens_of(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Returns the tokens of captions and of their references, each cut in one go, as pycocoevalcap does."""
    cut = iter(tokenize([text for right in references for text in right]))
    return tokenize(captions), [[next(cut) for _ in right] for right in references]


def words_of(tokens: Tokens) -> Tokens:
    """Returns tokens as BLEU and CIDEr see them: split again at the hard spaces of tokens like "1 1/2"."""
    return tuple(" ".join(tokens).split())
