"""Grammars of several rows in one table, so that questions with a grammar each share a batch."""

from collections.abc import Sequence
from typing import final

import jax.numpy as jnp
import numpy as np

from mmtune.codecs.grammar import Automaton
from mmtune.decoding.constraint import Constraint, on_device

# Sets of grammars that are kept: with questions of multiple choice every batch has one of its own.
_MOST = 16


def join(automata: Sequence[Automaton]) -> tuple[Automaton, list[int]]:
    """Returns one automaton with the states of all, and the state in which each of them begins.

    No transition leads from one into another. Two tokens share a class where they do in each of the automata.

    Args:
        automata: At least one, over the same vocabulary and with the same `fill`.
    """
    classes = np.stack([automaton.token_class for automaton in automata])
    used = np.flatnonzero(classes.any(axis=0))
    # A row for each automaton: which of its classes a joint class is.
    own, joint = np.unique(classes[:, used], axis=1, return_inverse=True)
    token_class = np.zeros(classes.shape[1], np.int32)
    token_class[used] = joint.reshape(-1) + 1
    tables, starts, states = [], [], 0
    for automaton, columns in zip(automata, own, strict=True):
        table = automaton.next_state[:, columns]
        tables.append(np.where(table >= 0, table + states, -1))
        starts.append(automaton.start + states)
        states += len(table)
    next_state = np.pad(np.concatenate(tables), ((0, 0), (1, 0)), constant_values=-1).astype(np.int32)
    distance = np.concatenate([automaton.distance for automaton in automata])
    locations, tolerance = (max(getattr(a, name) for a in automata) for name in ("locations", "tolerance"))
    return Automaton(token_class, next_state, starts[0], distance, automata[0].fill, locations, tolerance), starts


@final
class Rules:
    """The grammars of batches on the device: each set of them is joined and uploaded once."""

    def __init__(self) -> None:
        self._known: dict[frozenset[Automaton], tuple[Constraint, dict[Automaton, int]]] = {}

    def constraint(self, grammars: Sequence[Automaton], vocabulary_size: int, eos: int) -> Constraint:
        """Returns what the rows of a batch may write.

        Args:
            grammars: One a row, as `join` takes them.
            vocabulary_size: Rows of the model's vocabulary.
            eos: Id of the token that ends a sequence.
        """
        key = frozenset(grammars)
        if key not in self._known:
            if len(self._known) == _MOST:
                del self._known[next(iter(self._known))]  # the oldest
            automata = list(dict.fromkeys(grammars))  # unlike a set's, this order is the same in every process
            joined, starts = join(automata)
            tables = on_device(joined, vocabulary_size, eos)
            self._known[key] = tables, dict(zip(automata, starts, strict=True))
        tables, begin = self._known[key]
        return tables._replace(start=jnp.asarray([begin[grammar] for grammar in grammars], jnp.int32))
