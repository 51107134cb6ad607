"""Which examples make up which batch: decided before the run, so that a resumed run goes on exactly where it was."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mmtune.data.batch import Arrays, Row, choose_buckets, collate, stack_dense
from mmtune.training.examples import Example
from mmtune.training.updates import Updates, shared_batches

_WINDOW = 32  # steps that are worked out together at most
_WIDE_MULTIPLE = 64
# Towards the end the vision tower serves the answers alone.
_DENSE_SHARE = 0.8


@dataclass(frozen=True)
class Shape:
    """A compiled shape: text tokens and predicted tokens of every row in it."""

    text_length: int
    target_length: int


@dataclass(frozen=True)
class Batch:
    """One step's examples.

    Attributes:
        shape: What the rows are padded to.
        members: (example index, epoch) of each row.
        dense: Weight of dense supervision.
        answers: Whether the answers are trained; not in the stage that teaches the vision tower to see.
    """

    shape: Shape
    members: tuple[tuple[int, int], ...]
    dense: float = 0.0
    answers: bool = True


def choose_shapes(examples: Sequence[Example], most: int) -> list[Shape]:
    """Returns at most `most` shapes, ascending, that hold all examples with little padding."""
    lengths = choose_buckets([example.text_length for example in examples], most)
    # A longer shape takes leftovers of the shorter ones, so its targets must hold theirs.
    return [Shape(n, max(e.target_length for e in examples if e.text_length <= n)) for n in lengths]


class Plan(Sequence[Batch]):
    """The batches of a run, worked out a window of steps at a time: those of any step without those before it.

    Examples come in a new order in every epoch, one epoch after the other. A window takes the next ones; those of one
    shape share a batch, those left over at its end are padded to the next longer shape, and so every example is used
    once an epoch. A window is about an epoch, of large data a small part of one.

    Args:
        examples: All examples.
        shapes: From `choose_shapes`. Examples that no shape holds get one of their own, a window at a time.
        batch_size: Rows a batch.
        steps: Number of batches.
        seed: Seed of the order.
    """

    def __init__(
        self, examples: Sequence[Example], shapes: Sequence[Shape], batch_size: int, steps: int, seed: int
    ) -> None:
        self._examples, self._shapes = examples, shapes
        self._batch_size, self._steps = batch_size, steps
        self._length = max(1, min(len(examples) // batch_size, _WINDOW))
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(examples))
        )
        self._windows: dict[int, Future[list[Batch]]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= step < self._steps:
            raise IndexError(step)
        number, place = divmod(step, self._length)
        with self._lock:
            for wanted in (number, number + 1):
                if wanted not in self._windows and wanted * self._length < self._steps:
                    self._windows[wanted] = self._pool.submit(self._window, wanted)
            for old in [known for known in self._windows if known < number - 1]:
                del self._windows[old]
            window = self._windows[number]
        return window.result()[place]

    def _window(self, number: int) -> list[Batch]:
        size = self._length * self._batch_size
        waiting: dict[Shape, list[tuple[int, int]]] = {shape: [] for shape in self._shapes}
        overlong: list[tuple[int, int]] = []
        batches: list[Batch] = []
        for place in range(number * size, (number + 1) * size):
            epoch, turn = divmod(place, len(self._examples))
            member = int(self._order(epoch)[turn]), epoch
            shape = _home(self._examples[member[0]], self._shapes)
            rows = overlong if shape is None else waiting[shape]
            rows.append(member)
            if shape is not None and len(rows) == self._batch_size:
                batches.append(Batch(shape, tuple(rows)))
                rows.clear()
        if overlong:
            waiting[self._wide([self._examples[index] for index, _ in overlong])] = overlong
        left: list[tuple[int, int]] = []
        for shape, rows in waiting.items():
            left += rows
            while len(left) >= self._batch_size:
                batches.append(Batch(shape, tuple(left[: self._batch_size])))
                del left[: self._batch_size]
        return batches

    def _wide(self, examples: Sequence[Example]) -> Shape:
        """Returns a shape beyond the planned ones that holds some examples; few different ones come up."""
        last = self._shapes[-1]
        text, target = max(e.text_length for e in examples), max(e.target_length for e in examples)
        return Shape(max(last.text_length, _rounded(text)), max(last.target_length, _rounded(target)))


def _home(example: Example, shapes: Sequence[Shape]) -> Shape | None:
    return next(
        (s for s in shapes if example.text_length <= s.text_length and example.target_length <= s.target_length), None
    )


def _rounded(length: int) -> int:
    return -(-length // _WIDE_MULTIPLE) * _WIDE_MULTIPLE


class Supervised(Sequence[Batch]):
    """A plan with dense supervision: its first steps have nothing else, then its weight falls to zero.

    Args:
        plan: All batches of a run.
        updates: The batches of each update, in the first stage and after it. Those of one have the same weight.
        weight: Weight beside the answers at the second stage's start; zero is reached at four fifths of it.
    """

    def __init__(self, plan: Sequence[Batch], updates: Updates, weight: float) -> None:
        self._plan, self._updates, self._weight = plan, updates, weight
        self._last = _DENSE_SHARE * (len(plan) - updates.dense)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, step: int) -> Batch:  # pyright: ignore[reportIncompatibleMethodOverride]
        batch = self._plan[step]
        if step < self._updates.dense:
            return replace(batch, dense=1.0, answers=False)
        late = self._updates.around(step).start - self._updates.dense
        return replace(batch, dense=self._weight * max(0.0, 1 - late / self._last))


def load_batches(
    plan: Sequence[Batch],
    make_row: Callable[[int, int], Row],
    image_tokens: int,
    first: int = 0,
    own: slice = slice(None),
    by_tokens: bool = False,
    updates: Updates | None = None,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[tuple[Arrays, Arrays]]:
    """Yields the batches of a plan as arrays, prepared ahead in threads by grain.

    With gradient accumulation the batches of an update wait for each other: about two updates' batches are in memory.

    Args:
        plan: All batches of the run.
        make_row: Gives the row of (example index, epoch).
        image_tokens: Number of image tokens before the text.
        first: The batch to begin with.
        own: The rows of a batch that this process feeds.
        by_tokens: See `mmtune.data.batch.collate`.
        updates: The batches of each update, where some share one; see `mmtune.training.updates.share_amounts`.
        threads: How many batches are prepared at once.
        ahead: How many prepared batches may wait.
    """
    import grain

    def load(step: int) -> tuple[Arrays, Arrays]:
        batch = plan[step]
        rows = [make_row(index, epoch) for index, epoch in batch.members[own]]
        if not batch.answers:
            return {"images": np.stack([row.image for row in rows if row.image is not None])}, _dense(rows, batch)
        shape = batch.shape
        inputs, labels = collate(rows, image_tokens, shape.text_length, shape.target_length, by_tokens)
        return inputs, labels | (_dense(rows, batch) if batch.dense > 0 else {})

    start = first if updates is None else updates.around(first).start
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(ahead, updates.accumulation if updates is not None else 0)
    )
    loaded = grain.MapDataset.range(start, len(plan)).map(load).to_iter_dataset(options)
    yield from loaded if updates is None else shared_batches(loaded, updates, first)


def _dense(rows: Sequence[Row], batch: Batch) -> Arrays:
    """Returns the dense targets and their weight, the same for each row so that it splits over devices with them."""
    return stack_dense([row.dense for row in rows]) | {"dense_share": np.full(len(rows), batch.dense, np.float32)}
