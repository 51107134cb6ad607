"""Gradient accumulation: which batches share an update of the weights, and what their losses are divided by.

A batch of its own is divided by what it holds: its answers or tokens, its patches with an object. Batches that share an
update must all be divided by what they hold together, or a token of a short batch would count for more than one of a
long batch. What a batch holds is known only when its rows are made, so the batches of an update are made together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmtune.data.batch import Arrays
from mmtune.data.dense import DenseTargets
from mmtune.recipe import Recipe
from mmtune.training.dense import dense_amounts

UPDATE_WEIGHTS, UPDATE_DENSE, CLOSES = "update_weights", "update_dense", "closes"
"""Labels of a batch that shares its update: see `share_amounts`."""

Loaded = tuple[Arrays, Arrays]


@dataclass(frozen=True)
class Updates(Sequence[range]):
    """The batches of each update of a run.

    Each update takes `accumulation` batches; the last one of a stage takes those that are left.

    Attributes:
        steps: Batches of the run.
        accumulation: Batches an update.
        dense: Batches of the first stage, which has dense supervision alone.
    """

    steps: int
    accumulation: int = 1
    dense: int = 0

    @property
    def dense_updates(self) -> int:
        """Updates of the first stage."""
        return -(-self.dense // self.accumulation)

    def __len__(self) -> int:
        return self.dense_updates - (self.dense - self.steps) // self.accumulation

    def __getitem__(self, number: int) -> range:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= number < len(self):
            raise IndexError(number)
        late = number >= self.dense_updates
        start = (self.dense if late else 0) + (number - late * self.dense_updates) * self.accumulation
        return range(start, min(start + self.accumulation, self.steps if late else self.dense))

    def around(self, step: int) -> range:
        """Returns the batches that share the update of the batch `step`."""
        late = step >= self.dense
        place = step - self.dense if late else step
        return self[late * self.dense_updates + place // self.accumulation]


def updates_of(recipe: Recipe, steps: int) -> Updates:
    """Returns the updates of a run of so many batches."""
    return Updates(steps, recipe.optimizer.accumulation, recipe.dense.steps)


def share_amounts(batches: Sequence[Loaded]) -> list[Loaded]:
    """Returns the batches of one update with what they hold together among their labels.

    Every row has the sum over the rows in its place in all of the batches, so that the sum over the rows of a batch is
    that of the whole update, also where each process makes some of the rows.

    Args:
        batches: Inputs and labels of equally many rows.

    Returns:
        The same with the labels "update_weights" (rows,) float32, where there are tokens; "update_dense" (rows, terms)
        float32, where there is dense supervision; "closes" (rows,) bool, true in the last batch.
    """
    shared: Arrays = {}
    for name, amounts in ((UPDATE_WEIGHTS, _token_amounts), (UPDATE_DENSE, _dense_amounts)):
        known = [found for _, labels in batches if (found := amounts(labels)) is not None]
        if known:
            shared[name] = np.asarray(np.sum(known, axis=0, dtype=np.float64), np.float32)
    rows = len(next(iter(batches[0][1].values())))
    last = len(batches) - 1
    return [
        (inputs, labels | shared | {CLOSES: np.full(rows, number == last)})
        for number, (inputs, labels) in enumerate(batches)
    ]


def _token_amounts(labels: Arrays) -> np.ndarray | None:
    return labels["weights"].sum(axis=1, dtype=np.float64) if "weights" in labels else None


def _dense_amounts(labels: Arrays) -> np.ndarray | None:
    if "dense_share" not in labels:
        return None
    return np.asarray(dense_amounts(DenseTargets(*(labels[f"dense_{name}"] for name in DenseTargets._fields))))


def shared_batches(loaded: Iterable[Loaded], updates: Updates, first: int) -> Iterator[Loaded]:
    """Yields the batches from `first` on, those of an update read together; see `share_amounts`.

    Args:
        loaded: The batches from the beginning of the update of `first`.
        updates: The batches of each update.
        first: The first batch to yield: a resumed run may begin within an update.
    """
    batches = iter(loaded)
    step = first
    while step < updates.steps:
        together = updates.around(step)
        made = share_amounts([next(batches) for _ in together])
        yield from made[step - together.start :]
        step = together.stop
