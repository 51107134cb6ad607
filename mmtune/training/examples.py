"""From records to training rows: one example a query, tokenised anew in every epoch."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from mmtune.data.augment import Augment, augment
from mmtune.data.batch import NO_PIXELS, Row
from mmtune.data.dataset import FaultLog
from mmtune.data.dense import DenseTargets, Objects, dense_targets
from mmtune.data.images import size_of
from mmtune.data.pixels import to_square
from mmtune.errors import DataError
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Fault, Query, Record, Target
from mmtune.task import Task


@dataclass(frozen=True)
class Example:
    """One question about one record, with the most tokens that its row may take.

    Attributes:
        record, query: What is asked.
        text_length: Upper bound of the row's text tokens.
        target_length: Upper bound of its predicted tokens.
        longest: Upper bound of one target, end of sequence included.
        fault: Why it cannot be trained on; its row then has no weight.
    """

    record: Record
    query: Query
    text_length: int
    target_length: int
    longest: int
    fault: Fault | None = None


class Tokens(NamedTuple):
    """A target, token by token.

    Attributes:
        ids: What the decoder reads, the token that ends it included.
        weights: Weights in the loss.
        labels: What is to be predicted: the same, but for spans of which another text is shown.
    """

    ids: list[int]
    weights: list[float]
    labels: list[int]


def tokenise(target: Target, tokenizer: Tokenizer, end: int | None = None) -> Tokens:
    """Returns a target's tokens, the one that ends it included with weight 1.

    Args:
        target: Its spans.
        tokenizer: The vocabulary.
        end: Id of the token that ends it; None: the end of sequence.
    """
    tokens = Tokens([], [], [])
    for span in target:
        labels = tokenizer.encode(span.text)
        ids, weights = labels, [span.weight] * len(labels)
        if span.shown is not None:
            ids = tokenizer.encode(span.shown)
            pairs = enumerate(zip(ids, labels, strict=False))
            same = next((place for place, (read, taught) in pairs if read != taught), len(ids))
            labels = [*ids[:same], *labels[same : same + 1], *ids[same + 1 :]]
            weights = [span.weight if place <= same else 0.0 for place in range(len(ids))]
        tokens.ids.extend(ids)
        tokens.weights.extend(weights)
        tokens.labels.extend(labels)
    last = tokenizer.eos if end is None else end
    return Tokens([*tokens.ids, last], [*tokens.weights, 1.0], [*tokens.labels, last])


def examples_of(record: Record, task: Task, tokenizer: Tokenizer, max_tokens: int | None = None) -> Iterator[Example]:
    """Yields what a record teaches, at least one example; those with a fault cannot be trained on.

    Args:
        record: Any.
        task: The adapter, made for the tokenizer.
        tokenizer: The vocabulary.
        max_tokens: Longest target, eos included; None: no limit.
    """
    if task.needs_picture and record.size is None and record.picture is not None:
        try:
            record = replace(record, size=size_of(record.picture))
        except DataError as error:
            yield _unusable(record, "unreadable picture", str(error))
            return
    if problems := list(task.check(record)):
        yield _unusable(record, "unusable for the task", problems[0])
        return
    for query in task.lessons(record):
        try:
            bound = task.target_bound(record, query, tokenizer)
            prompt = len(tokenizer.prompt(query.prompt, query.closed))
        except DataError as error:
            yield _unusable(record, "unusable for the model", str(error))
            continue
        if max_tokens is not None and bound > max_tokens:
            problem = f"the answer to '{query.prompt}' has up to {bound} tokens, max_tokens is {max_tokens}"
            yield _unusable(record, "target too long", problem)
            continue
        count = len(task.targets(record, query))
        yield Example(record, query, prompt + count * (bound - 1), count * bound, bound)


def _unusable(record: Record, kind: str, problem: str) -> Example:
    return Example(record, Query(""), 0, 0, 0, Fault(record.source, record.id, kind, problem))


def list_examples(
    records: Sequence[Record], task: Task, tokenizer: Tokenizer, log: FaultLog, max_tokens: int | None = None
) -> list[Example]:
    """Returns all examples that can be trained on; the others are logged.

    Args:
        records: The data.
        task: The adapter.
        tokenizer: The vocabulary.
        log: Takes the faults.
        max_tokens: Longest target, eos included; None: no limit.
    """
    task = task.for_tokenizer(tokenizer)
    examples = [example for record in records for example in examples_of(record, task, tokenizer, max_tokens)]
    log.faults += [example.fault for example in examples if example.fault is not None]
    return [example for example in examples if example.fault is None]


class ImageTokens(Protocol):
    """Image tokens that are known already."""

    @property
    def blank(self) -> np.ndarray:
        """Those of no picture, (tokens, width) of zeros."""
        ...

    def of(self, record: Record) -> np.ndarray:
        """Returns (tokens, width) of a record's picture; raises `DataError` when it cannot be decoded."""
        ...


class RowMaker:
    """Makes the row of an example in an epoch: the same row whenever and wherever it is asked for.

    Args:
        examples: All examples.
        task: The adapter.
        tokenizer: The vocabulary.
        image_size: Side of the model's square picture, None for text models.
        changes: Augmentation.
        seed: Seed of order, noise and augmentation.
        dense_side: Patches a side of dense targets; 0: none are made.
        resample, draft: How pictures are brought to that side, see `mmtune.data.pixels.to_square`.
        features: Image tokens where these are kept; None: rows have pictures.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        task: Task,
        tokenizer: Tokenizer,
        image_size: int | None,
        changes: Augment,
        seed: int,
        dense_side: int = 0,
        resample: str = "bilinear",
        draft: bool = False,
        features: ImageTokens | None = None,
    ):
        self.examples = examples
        self.faults: dict[str, Fault] = {}
        self._task = task.for_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._end = self._task.ends(tokenizer)[0]
        self._image_size, self._resample, self._draft = image_size, resample, draft
        self._changes = changes if changes != Augment() else None
        self._seed = seed
        self._dense_side = dense_side
        self._features = features
        self._lock = threading.Lock()

    def __call__(self, index: int, epoch: int) -> Row:
        """Returns the row. What cannot be trained on becomes a row without weight, noted in `faults`."""
        example = self.examples[index]
        if example.fault is not None:
            return self._without_weight(example, example.fault)
        record, weight = example.record, 1.0
        rng = np.random.default_rng([self._seed, epoch, index])
        image, features = self._unseen()
        if self._image_size is not None and self._task.needs_picture:
            try:
                if self._features is not None:
                    features = self._features.of(record)
                else:
                    record, image = self._picture(record, rng)
            except DataError as error:
                self._note(Fault("", record.id, "unreadable picture", str(error)))
                weight = 0.0
        targets = self._task.targets(record, example.query, rng)
        tokens = [tokenise(target, self._tokenizer, self._end) for target in targets]
        return Row(
            self._tokenizer.prompt(example.query.prompt, example.query.closed),
            [suffix.ids for suffix in tokens],
            [[weight * w for w in suffix.weights] for suffix in tokens],
            image,
            record.id,
            self._dense(record, rng) if self._dense_side else None,
            [suffix.labels for suffix in tokens],
            features,
        )

    def _without_weight(self, example: Example, fault: Fault) -> Row:
        self._note(fault)
        image, features = self._unseen()
        nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
        dense = dense_targets([nothing], self._dense_side, np.random.default_rng(0)) if self._dense_side else None
        prompt = self._tokenizer.prompt(example.query.prompt, example.query.closed)
        return Row(prompt, [[self._end]], [[0.0]], image, example.record.id, dense, features=features)

    def _note(self, fault: Fault) -> None:
        with self._lock:
            self.faults[fault.record or ""] = fault

    def _unseen(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Returns the picture and the image tokens of a row that shows none."""
        if self._image_size is None:
            return None, None
        if not self._task.needs_picture:
            return NO_PIXELS, None
        if self._features is not None:
            return None, self._features.blank
        return np.zeros((self._image_size, self._image_size, 3), np.uint8), None

    def _dense(self, record: Record, rng: np.random.Generator) -> DenseTargets | None:
        objects = self._task.seen_objects(record)
        return None if objects is None else dense_targets([objects], self._dense_side, rng)

    def _picture(self, record: Record, rng: np.random.Generator) -> tuple[Record, np.ndarray]:
        assert self._image_size is not None
        if record.picture is None:
            raise DataError(f"{record.source}: record {record.id} has no picture")
        if self._changes is None:
            return record, to_square(record.picture, self._image_size, self._resample, self._draft)
        opened = record.picture.open()
        whole = self._task.prepared(replace(record, size=record.size or opened.size))
        opened, record = augment(opened, whole, rng, self._changes)
        return record, to_square(opened, self._image_size, self._resample)
