"""The interface of a task adapter: from records to prompts and targets, from outputs to predictions and scores."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmtune.errors import UsageError
from mmtune.records import Output, Prediction, Query, Record, Target

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from mmtune.codecs.grammar import Automaton
    from mmtune.data.dataset import FaultLog
    from mmtune.data.dense import Objects
    from mmtune.metrics.base import Metric
    from mmtune.models.tokenizer import Tokenizer


class Task(abc.ABC):
    """One way of using the model. A subclass is final and lives in one file; the registry names it by a string.

    Args:
        classes: The class names of the data, in their order; empty for tasks without classes.
        options: The task's own options (a frozen dataclass named `Options` on the class, built by the recipe).

    Class attributes:
        name: The registry's name.
        needs_picture: Whether every record must have a picture.
        needs_classes: Whether the data set must name its classes.
        needs_prompt: Whether nothing can be asked about a picture without a prompt of its own, such as a question.
        scores_truth: Whether evaluation also asks how likely the right answers are (`Prediction.truth`).
        lossy: Metrics in which even a perfect answer falls short, as targets say less than the truth.
        headline: The metric by which checkpoints are compared unless the recipe names another.
        falling: Metrics of which smaller is better, such as error rates; of all others larger is.
        Options: A frozen dataclass of the task's options, all with defaults.
    """

    name: ClassVar[str]
    needs_picture: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = False
    needs_prompt: ClassVar[bool] = False
    scores_truth: ClassVar[bool] = False
    lossy: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[str]
    falling: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type]

    def __init__(self, classes: Sequence[str] = (), options: Any = None):
        self.classes = tuple(classes)
        self.options = self.Options() if options is None else options

    def prepared(self, record: Record) -> Record:
        """Returns the record with what its texts say in code spelled out (masks from segmentation tokens)."""
        return record

    def settled(self) -> Mapping[str, Any]:
        """Returns options that a run must keep, so that its answers are read as they were taught.

        Called on what `for_tokenizer` returns.
        """
        return {}

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Task":
        """Returns the task as a model with this vocabulary is asked: most tasks ask all models alike.

        Raises:
            UsageError: When the vocabulary lacks what the options ask for.
        """
        del tokenizer
        return self

    def ends(self, tokenizer: "Tokenizer") -> tuple[int, ...]:
        """Returns the ids behind which an answer is over; the first is the one that targets end with."""
        return (tokenizer.eos,)

    def check(self, record: Record) -> Sequence[str]:
        """Returns what keeps the record from being used for this task, a sentence each; none: it is usable."""
        del record
        return ()

    def unasked(self, record: Record) -> str | None:
        """Returns why nothing can be asked about a record, be its answer known or not; None: it can be asked about."""
        if self.needs_prompt and not (record.prefix or "").strip():
            return f"expected a question (prefix), which the task {self.name} needs, found none"
        return None

    @abc.abstractmethod
    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the questions that are asked about a record: one, or one per class, ..."""

    def lessons(self, record: Record) -> Sequence[Query]:
        """Returns the questions whose answers are taught, as far as they are not those of `queries`."""
        return self.queries(record)

    @abc.abstractmethod
    def targets(self, record: Record, query: Query, rng: "np.random.Generator | None" = None) -> Sequence[Target]:
        """Returns the right answers to a query: one, or several that share the prompt (five captions of one picture).

        Args:
            record: With `size` known where the task has boxes or masks.
            query: One of `queries(record)` or `lessons(record)`.
            rng: Source of the randomness of training targets (order, noise); None: the plain, deterministic target.
        """

    @abc.abstractmethod
    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Reads the model's answers to a record's queries. Never raises: what cannot be read is counted as invalid."""

    def right_texts(self, record: Record) -> Sequence[str]:
        """Returns the right answers as texts that `Prediction.text` is compared with; none where nobody knows them."""
        return record.texts

    @abc.abstractmethod
    def metric(self) -> "Metric":
        """Returns an empty state of the task's metric."""

    def grammar(self, query: Query, tokenizer: "Tokenizer") -> "Automaton | None":
        """Returns the automaton that constrains decoding, or None for free text."""
        del query, tokenizer
        return None

    @abc.abstractmethod
    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns how many tokens an answer may need, end of sequence included."""

    def budget(self, records: Sequence[Record], tokenizer: "Tokenizer", taught: int) -> int:
        """Returns how many tokens each answer about the records may take, end of sequence included.

        Args:
            records: What is asked about.
            tokenizer: The vocabulary.
            taught: Length of the longest target that the model was taught; 0 where it was not taught this task.
        """
        return max(taught, self.max_tokens(records, tokenizer))

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns a length that no training target of a record's query exceeds, end of sequence included."""
        del query
        return self.max_tokens([record], tokenizer)

    def seen_objects(self, record: Record) -> "Objects | None":
        """Returns what dense supervision teaches the vision tower to see on a picture; None: the task has no objects.

        Labels are places in `classes`, counted from 1.
        """
        del record
        return None

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores result files in the field's official forms, as the options say, without a model.

        It is called on a task without classes: those of the truth count.

        Args:
            truth: What `mmtune.read` takes.
            predictions: A file or folder.
            form: Name of the predictions' form; None: detected.
            log: Takes the faults.

        Returns:
            {"task", "n", "metrics", "invalid"}.
        """
        del truth, predictions, form, log
        raise UsageError(f"the task {self.name} has no official result files to score")

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns a copy of the picture with the prediction drawn on it."""
        del prediction
        return image.copy()

    def as_json(self, prediction: Prediction) -> Mapping[str, Any]:
        """Returns the task's own keys of one item of `mmtune predict --json`."""
        del prediction
        return {}
