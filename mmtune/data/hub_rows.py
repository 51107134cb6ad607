"""The rows of a hub data set, from an Arrow table or from a metadata file: their values and their pictures."""

import abc
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from mmtune.data.dataset import FaultLog
from mmtune.data.finding import picture_index
from mmtune.data.hub_columns import Layout, columns_of_features, columns_of_rows, layout_of
from mmtune.data.hub_tables import RowPicture, missing_pictures, undecoded
from mmtune.data.images import FilePicture, size_of
from mmtune.data.json_lines import json_rows
from mmtune.data.tables import TableFile
from mmtune.records import Picture

if TYPE_CHECKING:
    from datasets import Dataset


_ROWS = 1000  # rows of a table that are held as Python objects at once


class HubRows(abc.ABC):
    """The rows of one split.

    Attributes:
        split: Its name, or "".
        layout: Which column is what.
        columns: The names of all columns.
    """

    split: str
    layout: Layout
    columns: tuple[str, ...]

    @abc.abstractmethod
    def __iter__(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        """Yields a row's number, its place for messages, and the values that the layout uses."""

    @abc.abstractmethod
    def picture(self, number: int, row: Mapping[str, Any]) -> Picture | str:
        """Returns the picture of a row, or why there is none."""

    @abc.abstractmethod
    def size(self, picture: Picture) -> tuple[int, int]:
        """Returns (width, height) of a picture in pixels; raises `DataError` when it is none."""


@final
class ArrowRows(HubRows):
    """Rows of an Arrow table on the disk; pictures stay there."""

    def __init__(self, split: str, rows: "Dataset", where: str, base: Path, task: str | None):
        self.split = split
        self.columns = tuple(rows.column_names)
        self.layout = layout_of(columns_of_features(rows.features), task)
        self._rows, self._base = rows, base
        self._where = f"{where}:{split}" if split else where

    def __iter__(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        used = [name for name in self.layout.used if name != self.layout.image]
        if not used:
            for number in range(len(self._rows)):
                yield number, self._place(number), {}
            return
        rows: Any = self._rows.select_columns(used).with_format("arrow")
        number = 0
        # From Arrow, not by the library's own iteration, which opens files and addresses that cells name.
        for batch in rows.iter(batch_size=_ROWS):
            for row in batch.to_pylist():
                yield number, self._place(number), row
                number += 1

    def picture(self, number: int, row: Mapping[str, Any]) -> Picture | str:
        """See `HubRows.picture`."""
        del row
        return self._missing.get(number) or self._picture(number)

    def size(self, picture: Picture) -> tuple[int, int]:
        """See `HubRows.size`."""
        return picture.size() if isinstance(picture, RowPicture) else size_of(picture)

    def _place(self, number: int) -> str:
        return f"{self._where} row {number}"

    def _picture(self, number: int) -> Picture:
        return RowPicture(self._pictures, str(self.layout.image), number, self._base, self._place(number))

    @cached_property
    def _pictures(self) -> "Dataset":
        return undecoded(self._rows, str(self.layout.image))

    @cached_property
    def _missing(self) -> Mapping[int, str]:
        return missing_pictures(self._pictures, str(self.layout.image), self._base)


@final
class MetadataRows(HubRows):
    """Lines of a metadata.jsonl beside the pictures that it names."""

    def __init__(self, file: TableFile, log: FaultLog, task: str | None):
        self.split = file.split
        self._folder = file.path.parent
        self._rows = tuple(json_rows(file.path, log))
        columns = columns_of_rows(row.values for row in self._rows)
        self.columns = tuple(columns)
        self.layout = layout_of(columns, task)
        self._index = picture_index(self._folder, (file.split,) if file.split else ())

    def __iter__(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        for row in self._rows:
            yield row.number, row.place, row.values

    def picture(self, number: int, row: Mapping[str, Any]) -> Picture | str:
        """See `HubRows.picture`."""
        del number
        name = row.get(str(self.layout.image))
        if not isinstance(name, str) or not name:
            return f"the line names no file as {self.layout.image}"
        path = self._index.find(name)
        return f"there is no file {name} near {self._folder}" if path is None else FilePicture(path)

    def size(self, picture: Picture) -> tuple[int, int]:
        """See `HubRows.size`."""
        return size_of(picture)
