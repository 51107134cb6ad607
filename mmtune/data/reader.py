"""The interface of a reader: one file a format, recognised by content."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mmtune.data.dataset import FaultLog
from mmtune.records import Record


@dataclass(frozen=True)
class Source:
    """What a user points at.

    Attributes:
        path: A file or folder (for `hub` and `shapes`: the rest of the address).
        split: The name after the colon, or None.
        options: Key-value pairs after a question mark, such as n and seed of `shapes`.
        task: Name of the task that the data is for; readers whose files carry PaliGemma text parse it accordingly.
        need_pictures: False when only the truth is wanted (scoring), so that absent pictures are no fault.
        need_masks: Whether to build masks, which costs time.
    """

    path: Path
    split: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    task: str | None = None
    need_pictures: bool = True
    need_masks: bool = False


@dataclass(frozen=True)
class Content:
    """What a reader returns: records in file order, and class names in the data set's order."""

    records: Sequence[Record]
    classes: Sequence[str] = ()


class Reader(abc.ABC):
    """Reads one format. Stateless; subclasses are final.

    Class attributes:
        name: What `--format` takes.
        expects: One line that says what the format looks like, for messages.
        options: Names of the options that `Source.options` may hold, for readers that leave the check to `read`.
    """

    name: ClassVar[str]
    expects: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def claims(self, path: Path) -> bool:
        """Whether the file or folder is of this format, judged by content, never by name alone."""

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits found at `path`; empty when the data is not split."""
        del path
        return ()

    @abc.abstractmethod
    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads everything that can be used and logs the rest.

        Raises:
            DataError: When nothing can be used: no such file, malformed JSON (with its line), no annotations.
        """
