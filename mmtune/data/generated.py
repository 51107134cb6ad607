"""Records that are made when they are asked for, so that a million of them cost no more than those in use."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

from mmtune.records import Record

_KEPT = 2_000
"""Records of a data set that are kept for the next time."""


class GeneratedRecords(Sequence[Record]):
    """A sequence of records, each a pure function of its place.

    Args:
        make: Gives the record of a place; called from several threads.
        name: Gives its id without making it; ids of different places differ.
        places: The places, in order.
    """

    def __init__(self, make: Callable[[int], Record], name: Callable[[int], str], places: range | np.ndarray):
        self._make, self._name, self._places = make, name, places
        self._made = functools.lru_cache(maxsize=_KEPT)(make)

    def ids(self) -> Iterator[str]:
        """Yields the ids, in order."""
        return (self._name(int(place)) for place in self._places)

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "GeneratedRecords":
        """Returns some of the records, by their places in this sequence."""
        return GeneratedRecords(self._make, self._name, np.asarray(self._places)[np.asarray(indices, int)])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "GeneratedRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | GeneratedRecords":
        if isinstance(index, slice):
            return GeneratedRecords(self._make, self._name, self._places[index])
        return self._made(int(self._places[index]))
