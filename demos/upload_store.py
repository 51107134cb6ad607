"""Uploaded data sets: each is seen by its visitor alone, within a quota, and is removed when it was long not used."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmtune.data.confinement import OPTION
from mmtune.errors import UsageError

from .limits import LIMITS, Limits
from .path_names import PathNames
from .uploads import data_root, safe_name, unpacked
from .visitors import is_identity

_GIGABYTE = 2**30


@dataclass(frozen=True)
class Upload:
    """A data set that a visitor sent.

    Attributes:
        folder: The store's folder of it.
        root: Where it begins.
        size: Its bytes, unpacked.
    """

    folder: Path
    root: Path
    size: int

    @property
    def address(self) -> str:
        """What it is read by, confined to its folder; so it stands in the command and the recipe of a run."""
        return f"{self.root}?{OPTION}=1"


class UploadStore:
    """The uploads of a server, in `FOLDER/VISITOR/NAME`. Those of earlier servers are found again.

    Args:
        folder: Where they lie.
        names: Is told what their folders are called.
        limits: Quota and age.
        clock: Seconds since the epoch, as files have them.
    """

    def __init__(
        self,
        folder: Path,
        names: PathNames,
        limits: Limits = LIMITS,
        clock: Callable[[], float] = time.time,
    ):
        self.folder, self._names, self._limits, self._clock = folder, names, limits, clock
        self._lock = threading.RLock()
        self._uploads: dict[tuple[str, str], Upload] = {}
        for place in sorted(folder.glob("*/*")):
            if is_identity(place.parent.name) and place.is_dir():
                self._keep(place)

    def of(self, visitor: str) -> dict[str, str]:
        """Returns the addresses of a visitor's data sets by name, the latest used last."""
        with self._lock:
            own = [(name, upload) for (whose, name), upload in self._uploads.items() if whose == visitor]
        return {name: upload.address for name, upload in sorted(own, key=lambda item: _used(item[1].folder))}

    def add(self, visitor: str, files: Sequence[str | Path], taken: Collection[str] = ()) -> str:
        """Takes in a data set and returns its name.

        Args:
            visitor: Whose it is.
            files: As in `unpacked`.
            taken: Names that it may not have.

        Raises:
            DataError: When it is too large or no zip.
            UsageError: When the quota is used up.
        """
        stem = safe_name(Path(files[0]).stem) if len(files) == 1 else "upload"
        with self._lock:
            own = [upload.size for (whose, _), upload in self._uploads.items() if whose == visitor]
            left = min(self._limits.visitor_bytes - sum(own), self._limits.all_bytes - self._total())
            hours = f"data sets are removed {self._limits.upload_hours:g} hours after their last use"
            if len(own) >= self._limits.visitor_sets:
                raise UsageError(f"you have {len(own)} data sets here, which is the most: {hours}")
            if sum(own) >= self._limits.visitor_bytes:
                most = self._limits.visitor_bytes / _GIGABYTE
                raise UsageError(f"your data sets take {most:g} GB, which is the most: {hours}")
            if left <= 0:
                raise UsageError(f"there is no space left for data sets at the moment: {hours}")
            name = free_name(stem, [*taken, *(name for whose, name in self._uploads if whose == visitor)])
            place = self.folder / visitor / name
            shutil.rmtree(place, ignore_errors=True)
            unpacked(files, place, replace(self._limits, unpacked=min(self._limits.unpacked, left)))
            self._keep(place)
        return name

    def touch(self, address: str) -> None:
        """Notes that a data set is used now, so that it is kept longer."""
        with self._lock:
            for upload in self._uploads.values():
                if upload.address == address and upload.folder.is_dir():
                    os.utime(upload.folder, (self._clock(), self._clock()))

    def is_gone(self, address: str) -> bool:
        """Whether an address is that of an upload which is no longer there."""
        path = Path(address.rpartition("?")[0])
        return path.is_relative_to(self.folder) and not path.exists()

    def remove_old(self, used: Collection[str] = ()) -> None:
        """Removes the data sets that were not used for `limits.upload_hours`, except those at some addresses."""
        oldest = self._clock() - 3600 * self._limits.upload_hours
        with self._lock:
            for key, upload in list(self._uploads.items()):
                if upload.address not in used and _used(upload.folder) < oldest:
                    del self._uploads[key]
                    self._names.remove(upload.root)
                    shutil.rmtree(upload.folder, ignore_errors=True)

    def _keep(self, place: Path) -> None:
        size = sum(file.lstat().st_size for file in place.rglob("*") if file.is_file())
        upload = Upload(place, data_root(place), size)
        self._uploads[place.parent.name, place.name] = upload
        self._names.add(upload.root, place.name)

    def _total(self) -> int:
        return sum(upload.size for upload in self._uploads.values())


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name that is not taken: itself, or with a number."""
    number, free = 1, name
    while free in taken or free == "data":
        number += 1
        free = f"{name}-{number}"
    return free


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
