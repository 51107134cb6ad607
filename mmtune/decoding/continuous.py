"""Continuous batching: a row whose answer has ended takes the next request, so that a long answer holds nobody up."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.decoding.buckets import bucket
from mmtune.decoding.constraint import Constraint
from mmtune.decoding.engine import Prefix, begin, go_on, seat
from mmtune.decoding.joining import Rules
from mmtune.decoding.opening import constraint_of, encoded, keys_of, pictures, read
from mmtune.decoding.requests import Decoded, Request, Weights, decoded
from mmtune.decoding.sampling import Sampler

# Requests take their rows in groups of a quarter of all rows: one at a time would leave the loop too often, and groups
# of all sizes would each be compiled.
_SHARE = 4


@final
class Pool:
    """Rows of a loop, each of them with a request or none.

    What the loop does not change is kept here, an entry a row: the request, its random key, the length of its prefix.

    Args:
        weights: The model.
        requests: Those of one group (`opening.groups`), at least as many as rows.
        max_tokens: Most tokens of an answer.
        sampler: Greedy or sampling.
        rows: Requests at once, a power of two.
        rules: Grammars that are on the device.
    """

    def __init__(
        self,
        weights: Weights,
        requests: Sequence[Request],
        *,
        max_tokens: int,
        sampler: Sampler,
        rows: int,
        rules: Rules,
    ) -> None:
        self._weights, self._requests, self._sampler = weights, requests, sampler
        self._limit, self._new = max_tokens, bucket(max_tokens)
        self._waiting = deque(range(len(requests)))
        self._features = _Features(weights, requests)
        self._constraint = constraint_of(weights, requests, rules)
        self._keys = keys_of(requests, sampler)
        self._group = max(1, rows // _SHARE)
        # The first group stands in all rows until others take theirs.
        first = [self._waiting.popleft() for _ in range(self._group)]
        times = rows // self._group
        prefix = jax.tree.map(lambda array: jnp.concatenate([array] * times), self._read(first))
        self._tables = self._rules_of(first * times)
        self._row_keys = self._keys[jnp.asarray(first * times)]
        self._lengths = prefix.lengths
        self._holds: list[int | None] = [*first, *[None] * (rows - self._group)]
        self._writing = begin(prefix, self._tables, new=self._new, pad=weights.pad)
        self._refill()

    def answers(self) -> Iterator[tuple[int, Decoded]]:
        """Yields the place of each request and its answer, as soon as it is there."""
        while any(place is not None for place in self._holds):
            yield from self._ended()

    def _ended(self) -> list[tuple[int, Decoded]]:
        """Writes until a group of rows has ended, all of them where nobody waits, and returns their answers."""
        weights, rows = self._weights, len(self._holds)
        self._writing = go_on(
            weights.tree,
            weights.spec,
            self._writing,
            self._lengths,
            weights.adapter,
            self._row_keys,
            jnp.int32(self._limit),
            self._writing.turn + self._new,
            jnp.int32(self._group if self._waiting else rows),
            self._tables,
            sampler=self._sampler,
            ends=weights.ends,
            pad=weights.pad,
        )
        done, answers = np.asarray(self._writing.done), decoded(self._writing.written)
        found = []
        for row, place in enumerate(self._holds):
            if place is not None and done[row]:
                found.append((place, answers[row]))
                self._holds[row] = None
        self._refill()
        return found

    def _refill(self) -> None:
        """Gives the rows that are free to those who wait, a group at a time."""
        free = [row for row, place in enumerate(self._holds) if place is None]
        while self._waiting and len(free) >= self._group:
            places = [self._waiting.popleft() for _ in range(min(self._group, len(self._waiting)))]
            rows, free = free[: len(places)], free[len(places) :]
            for row, place in zip(rows, places, strict=True):
                self._holds[row] = place
            missing = self._group - len(places)  # at the end: the last one is seated several times
            self._seat([*rows, *rows[-1:] * missing], [*places, *places[-1:] * missing])

    def _seat(self, rows: Sequence[int], places: Sequence[int]) -> None:
        prefix, rules, seats = self._read(places), self._rules_of(places), jnp.asarray(rows)
        start = jnp.zeros(len(places), jnp.int32) if rules is None else rules.start
        self._writing = seat(self._writing, prefix, seats, start, jnp.int32(self._weights.pad))
        self._row_keys = self._row_keys.at[seats].set(self._keys[jnp.asarray(places)])
        self._lengths = self._lengths.at[seats].set(prefix.lengths)

    def _read(self, places: Sequence[int]) -> Prefix:
        chosen = [self._requests[place] for place in places]
        return read(self._weights, chosen, self._features.of(chosen, max(places)), self._new)

    def _rules_of(self, places: Sequence[int]) -> Constraint | None:
        if self._constraint is None:
            return None
        return self._constraint._replace(start=self._constraint.start[jnp.asarray(places)])


@final
class _Features:
    """Image features; those of a picture that later requests ask about are kept."""

    def __init__(self, weights: Weights, requests: Sequence[Request]) -> None:
        self._weights = weights
        self._last = {id(request.image): place for place, request in enumerate(requests)}
        self._kept: dict[int, Any] = {}

    def of(self, requests: Sequence[Request], reached: int) -> Any:
        """Returns a row a request, None for text models.

        Args:
            requests: What is wanted.
            reached: The last place that is no longer waiting.
        """
        if self._weights.spec.vision is None:
            return None
        fresh = pictures(request for request in requests if id(request.image) not in self._kept)
        order, parts = [*self._kept, *fresh], [*self._kept.values()]
        if fresh:
            parts.append(encoded(self._weights, list(fresh.values())))
        known = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        self._kept = {
            picture: known[row : row + 1] for row, picture in enumerate(order) if self._last[picture] > reached
        }
        return known[jnp.asarray([order.index(id(request.image)) for request in requests])]
