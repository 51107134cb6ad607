"""Instruction tuning of text models: a conversation in the model's own chat template, its answers to be written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.chat import (
    PLAIN,
    TEMPLATES,
    conversations,
    history,
    opened,
    taught_places,
    template_of,
    turn_fault,
)
from mmtune.errors import RecipeError, UsageError
from mmtune.metrics.instruct import right_answers
from mmtune.records import Output, Prediction, Query, Record, Target, Turn
from mmtune.settings import choice_problems
from mmtune.task import Task

if TYPE_CHECKING:
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.base import Metric
    from mmtune.models.tokenizer import Tokenizer

AUTO = "auto"
_UNKNOWN = 256  # tokens of an answer that nobody knows


@dataclass(frozen=True, kw_only=True)
class InstructOptions:
    """The options of instruction tuning.

    Attributes:
        template: How a conversation is written: "gemma", "llama3", "chatml", "plain" (the text and a newline, as
            PaliGemma is asked), "text" (nothing around it: the model goes on with the text), or "auto": by the control
            tokens that the model's vocabulary has, plain without any.
        turns: Which answers of a conversation are taught: "all" or only the "last". Evaluation asks for the last one.
    """

    template: str = AUTO
    turns: str = "all"

    def __post_init__(self) -> None:
        choices = {"template": (AUTO, *TEMPLATES), "turns": ("all", "last")}
        problems = choice_problems(self, choices)
        if problems:
            raise RecipeError(problems)


@final
class Instruct(Task):
    """Questions and conversations without pictures."""

    name: ClassVar[str] = "instruct"
    needs_picture: ClassVar[bool] = False
    scores_truth: ClassVar[bool] = True
    headline: ClassVar[str] = "perplexity"
    falling: ClassVar[tuple[str, ...]] = ("perplexity",)
    Options: ClassVar[type] = InstructOptions
    options: InstructOptions

    def __init__(self, classes: Sequence[str] = (), options: InstructOptions | None = None):
        super().__init__(classes, options)
        self._template = TEMPLATES.get(self.options.template, PLAIN)

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Instruct":
        """Returns the task with the template of the vocabulary.

        Raises:
            UsageError: When the vocabulary lacks a control token of the template that the options name.
        """
        name = self.options.template
        template = template_of(tokenizer) if name == AUTO else opened(TEMPLATES[name], tokenizer)
        if lacking := template.missing(tokenizer):
            raise UsageError(
                f"options.template: the model's vocabulary has no control token {lacking[0]}, which the template "
                f"{name} needs: choose another one, or auto"
            )
        task = Instruct(self.classes, replace(self.options, template=template.name))
        task._template = template
        return task

    def ends(self, tokenizer: "Tokenizer") -> tuple[int, ...]:
        """Returns the end of a turn, where the template has one, and all ends of a sequence."""
        return self._template.ends(tokenizer)

    def check(self, record: Record) -> Sequence[str]:
        """Returns what keeps a conversation from being taught."""
        courses = conversations(record) or (history(record),)
        problems: dict[str, None] = {}
        if record.picture is not None:
            problems["expected a conversation in text alone, found a picture, which nobody would see: use vqa"] = None
        for turns in courses:
            if fault := turn_fault(turns):
                problems[fault[1]] = None
            for piece in self._template.pieces:
                if any(piece in turn.text for turn in turns):
                    problems[f"expected texts without control tokens of the template, found {piece}"] = None
        return tuple(problems)

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the one query: all that was said before the last answer that is taught."""
        courses = conversations(record)
        turns = courses[0][: taught_places(courses[0])[-1]] if courses else history(record)
        return (self._query(turns),) if turns else ()

    def lessons(self, record: Record) -> Sequence[Query]:
        """Returns what was said before the first answer that is taught: the target goes on from there.

        A template that cannot write the end of an answer within a text asks for each answer by itself.
        """
        courses = conversations(record)
        if not courses or self.options.turns == "last":
            return self.queries(record) if courses else ()
        turns = courses[0]
        places = taught_places(turns)[: 1 if self._template.end else None]
        return tuple(self._query(turns[:place]) for place in places)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns the answers from the query on, with the user's turns between them as spans without weight."""
        del rng
        found: dict[Target, None] = {}
        for turns in conversations(record):
            places = taught_places(turns)
            for place in places:
                if self._template.prompt(turns[:place]) == query.prompt:
                    last = places[-1] if self._template.end else place
                    found[self._template.target(turns[: last + 1], place)] = None
        return tuple(found)

    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Takes the text as it is; one without any is invalid."""
        texts = [output.text for _, output in answers]
        return Prediction(
            record.id,
            prompt="\n".join(query.prompt for query, _ in answers),
            text="\n".join(texts),
            tokens=tuple(pair for _, output in answers for pair in zip(output.tokens, output.logprobs, strict=False)),
            invalid=sum(not text.strip() for text in texts),
        )

    def right_texts(self, record: Record) -> Sequence[str]:
        """Returns the right answers to the last question."""
        return right_answers(record)

    def metric(self) -> "Metric":
        """Returns an empty state."""
        from mmtune.metrics.instruct import InstructMetric

        return InstructMetric()

    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest answer that is asked for, end included, rounded up to 16.

        Where an answer is not known that is at least 256.
        """
        answers = [right_answers(record) for record in records]
        least = 0 if all(answers) and answers else _UNKNOWN
        longest = max((len(tokenizer.encode(text)) + 1 for texts in answers for text in texts), default=0)
        return 16 * math.ceil(max(least, longest) / 16)

    def budget(self, records: Sequence[Record], tokenizer: "Tokenizer", taught: int) -> int:
        """Returns the length of the longest answer that is asked for, where the right ones are known.

        What was taught is no measure then: a target may be a whole conversation, and only one answer is asked for.
        """
        if records and all(conversations(record) for record in records):
            return self.max_tokens(records, tokenizer)
        return super().budget(records, tokenizer, taught)

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest target, end included."""
        targets = self.targets(record, query)
        return max(sum(len(tokenizer.encode(span.text)) for span in target) for target in targets) + 1

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores files of answers, `id<TAB>text` or JSON lines, against the truth of any reader."""
        from mmtune.metrics.instruct_results import score_instruct

        return score_instruct(truth, predictions, form, log)

    def as_json(self, prediction: Prediction) -> Mapping[str, Any]:
        """Returns the perplexity of the right answers, where they are known."""
        from mmtune.metrics.instruct import InstructMetric

        if prediction.truth is None:
            return {}
        metric = InstructMetric()
        metric.update(Record(prediction.record), prediction)
        return {"perplexity": metric.perplexity}

    def _query(self, turns: Sequence[Turn]) -> Query:
        return Query(self._template.prompt(turns), closed=self._template.closed)
