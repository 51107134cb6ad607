"""Which examples make up which batch: decided before the run, so that a resumed run goes on exactly where it was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmtune.data.batch import Arrays, Row, choose_buckets, collate, stack_dense
from mmtune.training.examples import Example

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


def make_plan(
    examples: Sequence[Example], shapes: Sequence[Shape], batch_size: int, steps: int, seed: int
) -> list[Batch]:
    """Returns the batches of a run.

    Every epoch is a new permutation. Rows of one shape share a batch; those left over at an epoch's end are padded to
    the next longer shape, and what is left of the longest begins the next epoch: every example is used once an epoch.

    Args:
        examples: All examples.
        shapes: From `choose_shapes`.
        batch_size: Rows a batch.
        steps: Number of batches.
        seed: Seed of the order.
    """
    home = [next(i for i, shape in enumerate(shapes) if e.text_length <= shape.text_length) for e in examples]
    waiting: list[list[tuple[int, int]]] = [[] for _ in shapes]
    batches: list[Batch] = []
    epoch = 0

    def put(place: int, member: tuple[int, int]) -> None:
        waiting[place].append(member)
        if len(waiting[place]) == batch_size:
            batches.append(Batch(shapes[place], tuple(waiting[place])))
            waiting[place].clear()

    while len(batches) < steps:
        for index in np.random.default_rng([seed, epoch]).permutation(len(examples)).tolist():
            put(home[index], (index, epoch))
        for place in range(len(shapes) - 1):
            left, waiting[place] = waiting[place], []
            for member in left:
                put(place + 1, member)
        epoch += 1
    return batches[:steps]


def with_dense(plan: Sequence[Batch], steps: int, weight: float) -> list[Batch]:
    """Returns the plan with dense supervision: its first steps have nothing else, then its weight falls to zero.

    Args:
        plan: All batches of a run.
        steps: Batches of the first stage.
        weight: Weight beside the answers at the second stage's start; zero is reached at four fifths of it.
    """
    last = _DENSE_SHARE * (len(plan) - steps)
    weights = [weight * max(0.0, 1 - number / last) for number in range(len(plan) - steps)]
    first = [replace(batch, dense=1.0, answers=False) for batch in plan[:steps]]
    return first + [replace(batch, dense=w) for batch, w in zip(plan[steps:], weights, strict=True)]


def load_batches(
    plan: Sequence[Batch], make_row: Callable[[int, int], Row], image_tokens: int, threads: int = 2, ahead: int = 4
) -> Iterator[tuple[Arrays, Arrays]]:
    """Yields the batches of a plan as arrays, prepared ahead in threads by grain.

    Args:
        plan: What is left of the run.
        make_row: Gives the row of (example index, epoch).
        image_tokens: Number of image tokens before the text.
        threads: How many batches are prepared at once.
        ahead: How many prepared batches may wait.
    """
    import grain

    def load(batch: Batch) -> tuple[Arrays, Arrays]:
        rows = [make_row(index, epoch) for index, epoch in batch.members]
        if not batch.answers:
            return {"images": np.stack([row.image for row in rows if row.image is not None])}, _dense(rows, batch)
        inputs, labels = collate(rows, image_tokens, batch.shape.text_length, batch.shape.target_length)
        return inputs, labels | (_dense(rows, batch) if batch.dense > 0 else {})

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    yield from grain.MapDataset.source(list(plan)).map(load).to_iter_dataset(options)


def _dense(rows: Sequence[Row], batch: Batch) -> Arrays:
    """Returns the dense targets and their weight, the same for each row so that it splits over devices with them."""
    return stack_dense([row.dense for row in rows]) | {"dense_share": np.full(len(rows), batch.dense, np.float32)}
