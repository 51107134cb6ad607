"""The metrics of visual question answering: accuracy, exact match, ANLS and relaxed accuracy."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, final

from mmtune.metrics.anls import anls
from mmtune.metrics.base import Metric
from mmtune.metrics.relaxed import relaxed_correct
from mmtune.metrics.vqa_normalise import normalised, spaced
from mmtune.records import Prediction, Record

if TYPE_CHECKING:
    from mmtune.metrics.resampling import Pairs, Resampling

SCORINGS = ("auto", "vqa", "okvqa", "aokvqa", "any")
"""How accuracy counts matches; see `answer_accuracy`."""

NAMES = ("accuracy", "exact_match", "ANLS", "relaxed_accuracy")
"""The metrics, in the order of `VQAMetric.compute`."""

# Ten people answered each question of VQA v2, TextVQA, VizWiz and OK-VQA; lists of accepted answers are shorter.
ANNOTATORS = 10
# An answer that three people gave is right.
_ENOUGH = 3

_BY_KIND, _BY_ANSWER_KIND = "per_question_type", "per_answer_type"


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Returns the accuracy of VQA v2 (Antol et al., arXiv 1505.00468): in 0..1.

    min(1, matches / 3) among all answers but one, averaged over the answer that is left out. Answers are normalised
    only where the human ones are not all the same, as the official code has it.

    Args:
        prediction: The answer of the model.
        answers: What people answered, ten times as a rule; without any the accuracy is 0.
    """
    matches, count = _matches(prediction, answers), len(answers)
    if not count:
        return 0.0
    without_one = min(1.0, max(matches - 1, 0) / _ENOUGH)
    without_another = min(1.0, matches / _ENOUGH)
    return (matches * without_one + (count - matches) * without_another) / count


def plain_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Returns min(1, matches / 3) among all answers, compared as they are: no normalization, no leave-one-out.

    PaliGemma's rule for OK-VQA, A-OKVQA and VizWiz (big_vision, `evaluators/proj/paligemma/transfers/vqa.py`), and the
    official one for a direct answer of A-OKVQA (allenai/aokvqa, `evaluation/eval_predictions.py`).
    """
    return min(1.0, list(answers).count(prediction) / _ENOUGH)


def any_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1 where the prediction is one of the accepted answers, else 0."""
    return float(_matches(prediction, answers) > 0)


def answer_accuracy(prediction: str, answers: Sequence[str], scoring: str = "auto") -> float:
    """Returns the accuracy of an answer by one of `SCORINGS`.

    Args:
        prediction: The answer of the model.
        answers: Those of the data.
        scoring: "vqa": `vqa_accuracy`; "okvqa" and "aokvqa": `plain_accuracy`; "any": `any_accuracy`; "auto": "vqa"
            for ten or more answers, which are those of ten people, and "any" for fewer, which are a list of accepted
            ones.
    """
    if scoring == "auto":
        scoring = "vqa" if len(answers) >= ANNOTATORS else "any"
    rules = {"vqa": vqa_accuracy, "okvqa": plain_accuracy, "aokvqa": plain_accuracy, "any": any_accuracy}
    return rules[scoring](prediction, answers)


def most_common(answers: Iterable[str]) -> str:
    """Returns the most frequent answer, the earliest of several; of none the empty text."""
    counts = Counter(answers)
    return counts.most_common(1)[0][0] if counts else ""


def right_answers(record: Record, choose: bool = False) -> tuple[str, ...]:
    """Returns the answers that count as right for a record.

    Args:
        record: With answers in `texts`, or with choices.
        choose: Whether the question is one of multiple choice, where the data has choices.
    """
    question = record.question
    if choose and question is not None and question.choices:
        return () if question.correct is None else (question.choices[question.correct],)
    return record.texts


@final
class VQAMetric(Metric):
    """Means over questions, all in 0..1: the numbers of `NAMES`.

    - accuracy: `answer_accuracy`.
    - exact_match: the answer is the most frequent one, but for white space around it.
    - ANLS, relaxed_accuracy: of the nearest of the answers.

    Where the data names types of questions or answers there are also per_question_type and per_answer_type:
    {type: {"accuracy", "exact_match"}}. Questions without an answer are not counted.

    Args:
        scoring: One of `SCORINGS`. With "aokvqa" direct answers to questions that the data calls difficult are not
            counted, as in A-OKVQA's official code.
        choose: Whether questions that bring choices are scored by the right choice.
        lower_case: Whether upper and lower case are the same, for models that were taught lower-case answers.
    """

    def __init__(self, scoring: str = "auto", choose: bool = False, lower_case: bool = False):
        self._scoring, self._choose, self._lower_case = scoring, choose, lower_case
        self._sums: dict[tuple[str, str], list[float]] = {}

    def update(self, record: Record, prediction: Prediction) -> None:
        """Adds one record's answers and the model's, which is the prediction's text."""
        answers, text = right_answers(record, self._choose), prediction.text
        if not answers:
            return
        # The one right choice is no vote of several people.
        scoring = self._scoring if answers is record.texts else "any"
        if scoring == "aokvqa" and record.question is not None and record.question.difficult:
            return
        if self._lower_case:
            answers, text = tuple(answer.lower() for answer in answers), text.lower()
        distinct = tuple(dict.fromkeys(answers))
        scores = (
            1.0,
            answer_accuracy(text, answers, scoring),
            float(spaced(text) == spaced(most_common(answers))),
            anls(text, distinct),
            float(relaxed_correct(text, distinct)),
        )
        self._add(("", ""), scores)
        question = record.question
        if question is not None and question.kind:
            self._add((_BY_KIND, question.kind), scores)
        if question is not None and question.answer_kind:
            self._add((_BY_ANSWER_KIND, question.answer_kind), scores)

    def merge(self, other: Self) -> None:
        """Adds another state, such as that of another process."""
        for key, sums in other._sums.items():
            self._add(key, sums)

    def compute(self) -> dict[str, Any]:
        """Returns the means; types in alphabetical order."""
        result: dict[str, Any] = self._means(("", ""))
        for group in (_BY_KIND, _BY_ANSWER_KIND):
            kinds = sorted(kind for name, kind in self._sums if name == group)
            if kinds:
                means = {kind: self._means((group, kind)) for kind in kinds}
                result[group] = {kind: {name: mean[name] for name in NAMES[:2]} for kind, mean in means.items()}
        return result

    def resampling(self, pairs: "Pairs") -> "Resampling":
        """Returns what scores resamples of the records; those of each type of question are left out."""
        import numpy as np

        from mmtune.metrics.resampling import SummedRows, ratio

        rows = []
        for record, prediction in pairs:
            one = VQAMetric(self._scoring, self._choose, self._lower_case)
            one.update(record, prediction)
            rows.append(one._sums.get(("", ""), [0.0] * (len(NAMES) + 1)))
        table = np.array(rows, float).reshape(-1, len(NAMES) + 1)
        return SummedRows(
            table, lambda sums: {name: ratio(total, sums[0]) for name, total in zip(NAMES, sums[1:], strict=True)}
        )

    @property
    def count(self) -> int:
        """How many questions were counted."""
        return int(self._sums.get(("", ""), [0.0])[0])

    def _add(self, key: tuple[str, str], values: Sequence[float]) -> None:
        held = self._sums.get(key, [0.0] * len(values))
        self._sums[key] = [a + b for a, b in zip(held, values, strict=True)]

    def _means(self, key: tuple[str, str]) -> dict[str, float]:
        count, *sums = self._sums.get(key, [0.0] * (len(NAMES) + 1))
        return {name: value / count if count else 0.0 for name, value in zip(NAMES, sums, strict=True)}


def _matches(prediction: str, answers: Sequence[str]) -> int:
    """Returns how many answers equal the prediction, normalised where the answers are not all the same."""
    found, given = spaced(prediction), [spaced(answer) for answer in answers]
    if len(set(given)) > 1:
        found, given = normalised(found), [normalised(answer) for answer in given]
    return given.count(found)
