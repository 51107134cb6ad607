"""A data set: records (not pixels), its classes, and the faults that were set aside while reading it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from mmtune.data.generated import GeneratedRecords
from mmtune.records import Fault, Record


class FaultLog:
    """Collects faults while a reader runs."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def add(self, file: object, record: object | None, kind: str, problem: str) -> None:
        """Notes a fault; see `mmtune.records.Fault` for the meaning of the arguments."""
        self.faults.append(Fault(str(file), None if record is None else str(record), kind, problem))


@dataclass(frozen=True)
class Dataset(Sequence[Record]):
    """A sequence of records with what a user should know about them.

    Attributes:
        records: In the order of the files; in memory, or made when they are asked for.
        classes: Class names in the data set's own order; empty when it has none.
        faults: Everything that was set aside or repaired on the way.
        format: Name of the reader.
        name: What the user asked for.
        partial: Whether records of it were left out since it was read.
    """

    records: Sequence[Record]
    classes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    format: str = ""
    name: str = ""
    partial: bool = False
    _counts: Counter[str] = field(init=False, repr=False, compare=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._counts.update(fault.kind for fault in self.faults)

    @property
    def fault_counts(self) -> dict[str, int]:
        """How many faults there are of each kind, most frequent first."""
        return dict(self._counts.most_common())

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def ids(self) -> Iterator[str]:
        """Yields the records' ids, in order."""
        if isinstance(self.records, GeneratedRecords):
            return self.records.ids()
        return (record.id for record in self.records)

    def chosen(self, indices: Sequence[int]) -> "Dataset":
        """Returns the data set with some of its records only, by their places."""
        if isinstance(self.records, GeneratedRecords):
            return replace(self, records=self.records.chosen(indices), partial=True)
        return replace(self, records=tuple(self.records[index] for index in indices), partial=True)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...
    def __getitem__(self, index: int | slice) -> "Record | Dataset":
        if isinstance(index, slice):
            whole = index.indices(len(self)) == (0, len(self), 1)
            return replace(self, records=self.records[index], partial=self.partial or not whole)
        return self.records[index]
