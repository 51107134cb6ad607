"""Where image tokens are kept: in memory for a run, or on disk for all runs with the same tower."""

import hashlib
import os
from collections.abc import Collection, Hashable
from pathlib import Path

import numpy as np

from mmtune.data.confinement import open_file
from mmtune.data.images import BytesPicture, FilePicture
from mmtune.files import atomic
from mmtune.records import Picture

GIB = 2**30


def identity(picture: Picture) -> Hashable:
    """Returns what tells pictures of a run apart: records with the same file have the same."""
    return picture if isinstance(picture, FilePicture | BytesPicture) else id(picture)


class MemoryStore:
    """Image tokens in memory, by picture.

    Args:
        shape: (tokens, width) of one picture's.
        dtype: Their dtype.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype):
        self._arrays: dict[Hashable, np.ndarray] = {}
        self.shape, self.dtype = shape, dtype

    def key(self, picture: Picture) -> Hashable:
        """Returns what a picture is known by."""
        return identity(picture)

    def get(self, key: Hashable) -> np.ndarray | None:
        """Returns (tokens, width), or None."""
        return self._arrays.get(key)

    def make_room(self, keys: Collection[Hashable]) -> None:
        """Does nothing: what does not fit into memory is not kept at all."""

    def put(self, key: Hashable, features: np.ndarray) -> None:
        """Keeps what belongs to a key."""
        self._arrays[key] = features


class DiskStore:
    """Image tokens in files, memory-mapped, by the content of the picture, its preparation and the tower.

    Each picture has a file of its own, which takes its name when it is whole: runs side by side and a kill at any
    moment do no harm. What was not used for longest goes where there is no room.

    Args:
        folder: Where they lie; shared by all towers.
        tower: Digest of the tower's weights, the preparation and the dtype.
        shape: (tokens, width) of one picture's.
        dtype: Their dtype.
        limit: Most bytes that all files of the folder may take.
    """

    def __init__(self, folder: Path, tower: str, shape: tuple[int, int], dtype: np.dtype, limit: float):
        self.folder, self.shape, self.dtype = folder, shape, dtype
        self._tower, self._limit = tower, limit

    @property
    def size(self) -> int:
        """Bytes of one picture's."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def key(self, picture: Picture) -> Hashable:
        """Returns a digest of the picture's bytes; of its pixels where it has no file.

        Raises:
            OSError, DataError: When it cannot be read.
        """
        digest = hashlib.blake2b(self._tower.encode(), digest_size=20)
        if isinstance(picture, FilePicture):
            digest.update(f"file {picture.upright} ".encode())
            with open_file(picture.path, picture.root) as file:
                while block := file.read(2**20):
                    digest.update(block)
        elif isinstance(picture, BytesPicture):
            digest.update(b"file True ")
            digest.update(picture.data)
        else:
            pixels = np.asarray(picture.open())
            digest.update(f"pixels {pixels.shape} ".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()

    def get(self, key: Hashable) -> np.ndarray | None:
        """Returns (tokens, width), or None where there is no whole file."""
        file = self._file(key)
        try:
            if file.stat().st_size != self.size:
                return None
            os.utime(file)  # used just now
            return np.memmap(file, self.dtype, "r", shape=self.shape)
        except OSError:
            return None

    def put(self, key: Hashable, features: np.ndarray) -> None:
        """Writes what belongs to a key. Raises OSError when there is no room."""
        with atomic(self._file(key)) as temporary:
            features.tofile(temporary)

    def make_room(self, keys: Collection[Hashable]) -> None:
        """Deletes what was not used for longest until the files of some keys have room beside the rest.

        Files of these keys stay; they count once, whether they are there already or not.
        """
        wanted = {self._file(key) for key in keys}
        others = []
        for file in self.folder.glob("??/*"):
            try:
                found = file.stat()
            except OSError:  # another run has deleted it
                continue
            if file not in wanted:
                others.append((found.st_mtime, found.st_size, file))
        over = sum(size for _, size, _ in others) + len(wanted) * self.size - self._limit
        for _, size, file in sorted(others):
            if over <= 0:
                return
            file.unlink(missing_ok=True)
            over -= size

    def _file(self, key: Hashable) -> Path:
        name = str(key)
        return self.folder / name[:2] / name[2:]
