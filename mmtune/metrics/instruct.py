"""The metrics of instruction tuning: perplexity of the true answers, exact match and ROUGE-L of the model's."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

from mmtune.codecs.chat import conversations, taught_places
from mmtune.metrics.base import Metric
from mmtune.records import Prediction, Record

if TYPE_CHECKING:
    import numpy as np

    from mmtune.metrics.resampling import Pairs, Resampling

NAMES = ("perplexity", "exact_match", "ROUGE_L")

# exp of more is beyond a float.
_MOST = 700.0


@final
class InstructMetric(Metric):
    """Perplexity, exact match and ROUGE-L.

    - perplexity: exp of the mean negative log-likelihood over all tokens of the data set's true answers that are
      taught, so that a long answer weighs more than a short one; the token that ends an answer counts.
    - exact_match: share of answers that equal a right one, white space around them aside.
    - ROUGE_L: mean over the answers of `mmtune.metrics.rouge.rouge_l`, on the words that `mmtune.metrics.ptb` makes.

    The two of the answers are over the records whose answer is known; a conversation's is the last one that is taught.
    """

    def __init__(self) -> None:
        self._logprob, self._tokens = 0.0, 0
        self._answers, self._exact, self._rouge = 0, 0, 0.0

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's truth and prediction."""
        if prediction.truth is not None:
            self._logprob += prediction.truth.logprob
            self._tokens += prediction.truth.tokens
        if right := right_answers(record):
            self._answers += 1
            self._exact += prediction.text.strip() in right
            self._rouge += _rouge_l(prediction.text, right)

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        self._logprob += other._logprob
        self._tokens += other._tokens
        self._answers += other._answers
        self._exact += other._exact
        self._rouge += other._rouge

    def compute(self) -> dict[str, Any]:
        """Returns the metrics; all are 0 for an empty state."""
        count = max(1, self._answers)
        scores = (self.perplexity, self._exact / count, self._rouge / count)
        return dict(zip(NAMES, scores, strict=True))

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records."""
        import numpy as np

        from mmtune.metrics.resampling import SummedRows

        rows = []
        for record, prediction in pairs:
            one = InstructMetric()
            one.update(record, prediction)
            rows.append((one._logprob, one._tokens, one._answers, one._exact, one._rouge))
        return SummedRows(np.array(rows, float).reshape(-1, 5), _summed)

    @property
    def perplexity(self) -> float:
        """The perplexity so far, 0 before the first token."""
        return math.exp(min(-self._logprob / self._tokens, _MOST)) if self._tokens else 0.0

    @property
    def answers(self) -> int:
        """How many records with a known answer there were."""
        return self._answers


def _summed(sums: "np.ndarray") -> "dict[str, np.ndarray]":
    import numpy as np

    from mmtune.metrics.resampling import ratio

    logprob, tokens, answers, exact, rouge = sums
    perplexity = np.exp(np.minimum(ratio(-logprob, tokens), _MOST))
    return dict(zip(NAMES, (perplexity, ratio(exact, answers), ratio(rouge, answers)), strict=True))


def right_answers(record: Record) -> tuple[str, ...]:
    """Returns the right answers to the question that a record asks, without white space around them.

    A conversation asks the last question whose answer is taught: one of weight 0 is no model of an answer.
    """
    return tuple(turns[taught_places(turns)[-1]].text.strip() for turns in conversations(record))


def _rouge_l(text: str, references: Sequence[str]) -> float:
    from mmtune.metrics.ptb import ptb_tokens
    from mmtune.metrics.rouge import rouge_l

    return rouge_l(ptb_tokens(text), [ptb_tokens(reference) for reference in references])
