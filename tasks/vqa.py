"""Visual question answering: `answer en what colour is the cat?` -> `black`."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.errors import DataError, RecipeError
from mmtune.metrics.vqa import SCORINGS, most_common, right_answers
from mmtune.metrics.vqa_normalise import spaced
from mmtune.records import Prediction, Query, Record, Span, Target
from mmtune.settings import choice_problems
from mmtune.text_task import TextTask, longest_text

if TYPE_CHECKING:
    from PIL import Image

    from mmtune.codecs.grammar import Automaton
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.base import Metric
    from mmtune.models.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

VERB = "answer "
"""What a prompt of PaliGemma's begins with; a record's prefix that begins so is the prompt."""

# PaliGemma's transfer to A-OKVQA, multiple choice, separates the choices so.
_CHOOSE, _SEPARATOR = " choose from: ", " \t "


@dataclass(frozen=True, kw_only=True)
class VQAOptions:
    """The options of visual question answering.

    Attributes:
        prompt: "answer": `answer en` and the question; "bare": the question alone, as PaliGemma asks in DocVQA and
            ChartQA; "choose": as "answer", and behind a question that brings choices ` choose from: ` and these.
        lang: The language of the answer, in the prompt.
        answers: Of several answers, which one is taught: "most_common" or "sample", one of them at random each time.
        scoring: How accuracy counts matches: "vqa", "okvqa", "aokvqa", "any" or "auto", see
            `mmtune.metrics.vqa`.
        lower_case: Whether answers are taught in lower case, as in InfoVQA and ST-VQA, and scored so.
    """

    prompt: str = "answer"
    lang: str = "en"
    answers: str = "most_common"
    scoring: str = "auto"
    lower_case: bool = False

    def __post_init__(self) -> None:
        choices = {
            "prompt": ("answer", "bare", "choose"),
            "answers": ("most_common", "sample"),
            "scoring": SCORINGS,
        }
        problems = choice_problems(self, choices)
        if not self.lang or len(self.lang.split()) != 1:
            problems.append(f"options.lang: expected the code of a language such as en, got {self.lang!r}")
        if problems:
            raise RecipeError(problems)


@final
class VQA(TextTask):
    """Questions about pictures."""

    name: ClassVar[str] = "vqa"
    needs_prompt: ClassVar[bool] = True
    unknown_length: ClassVar[int] = 32  # the limit of PaliGemma's VQA transfers
    headline: ClassVar[str] = "accuracy"
    Options: ClassVar[type] = VQAOptions
    options: VQAOptions

    def check(self, record: Record) -> Sequence[str]:
        """Returns whether a question or an answer is missing."""
        problems = []
        if not (record.prefix or "").strip():
            problems.append("expected a question (prefix), found none")
        if not self.taught(record):
            found = "empty ones" if record.texts else "none"
            wanted = "an answer"
            if self._choices(record):
                wanted, found = "an answer that is one of the choices, or correct_choice_idx", "neither"
            problems.append(f"expected {wanted}, found {found}")
        return problems

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the one query; it has labels where it offers choices."""
        prefix, choices = (record.prefix or "").strip(), self._choices(record)
        if prefix.startswith(VERB):
            return (Query(prefix, choices),)
        question = " ".join(prefix.split())
        if self.options.prompt == "bare":
            return (Query(question),)
        offer = f"{_CHOOSE}{_SEPARATOR.join(choices)}" if choices else ""
        return (Query(f"{VERB}{self.options.lang} {question}{offer}", choices),)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns one target: the most frequent answer, or with `rng` and the option "sample" a random one."""
        del query
        answers = self.taught(record)
        if not answers:
            raise ValueError(f"record {record.id} has no answer; `check` refuses it")
        if self.options.answers == "sample" and rng is not None:
            return ((Span(answers[rng.integers(len(answers))]),),)
        return ((Span(most_common(answers)),),)

    def read(self, text: str) -> str:
        """Takes the text as one line."""
        return spaced(text)

    def is_valid(self, query: Query, text: str) -> bool:
        """Returns whether there is an answer, and one of the choices where there are some."""
        return bool(text) and (not query.labels or text in query.labels)

    def metric(self) -> "Metric":
        """Returns an empty state."""
        from mmtune.metrics.vqa import VQAMetric

        return VQAMetric(self.options.scoring, self.options.prompt == "choose", self.options.lower_case)

    def grammar(self, query: Query, tokenizer: "Tokenizer") -> "Automaton | None":
        """Returns the grammar of the query's choices; None without any, or where one of them cannot be written."""
        from mmtune.codecs.choices import choice_grammar

        if not query.labels:
            return None
        try:
            return choice_grammar(tokenizer, query.labels)
        except DataError as error:
            _log.warning("'%s' is answered freely: %s", query.prompt, error)
            return None

    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest answer or choice, end included, rounded up to 16."""
        choices = {text for record in records for text in self._choices(record)}
        longest = 16 * math.ceil(longest_text(choices, tokenizer) / 16)
        return max(longest, super().max_tokens(records, tokenizer))

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest answer that may be taught, end included."""
        del query
        answers = self.taught(record)
        return longest_text(answers if self.options.answers == "sample" else (most_common(answers),), tokenizer)

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores VQA results, DocVQA's and other public forms, against the truth of any reader."""
        from mmtune.metrics.vqa_results import score_vqa

        options = self.options
        return score_vqa(
            truth,
            predictions,
            form,
            log,
            scoring=options.scoring,
            choose=options.prompt == "choose",
            lower_case=options.lower_case,
        )

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns the picture with the question and the answer beneath."""
        from mmtune.reports.captioned import draw_text

        return draw_text(image, [prediction.prompt, prediction.text])

    def _choices(self, record: Record) -> tuple[str, ...]:
        """Returns what the question offers to choose from, as it is taught; nothing unless the options say so."""
        if self.options.prompt != "choose" or record.question is None:
            return ()
        return self._spaced(record.question.choices)

    def taught(self, record: Record) -> tuple[str, ...]:
        """Returns the right answers as they are taught, those without text left out."""
        return self._spaced(right_answers(record, self.options.prompt == "choose"))

    def _spaced(self, answers: Sequence[str]) -> tuple[str, ...]:
        spaced_answers = (spaced(answer.lower() if self.options.lower_case else answer) for answer in answers)
        return tuple(answer for answer in spaced_answers if answer)
