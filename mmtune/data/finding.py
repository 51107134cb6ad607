"""Finding the files that annotations name, in data sets that were moved about, without a look at the disk per guess."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mmtune.data.confinement import is_inside
from mmtune.data.images import SUFFIXES

FOLDERS = ("images", "JPEGImages", "Images", "image", "imgs", "img", "PNG", "pictures", "photos")
"""Names under which data sets keep their pictures, beside or above their annotations."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """The entries of one folder, by their own name and by their name in lower case."""

    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    stems: dict[str, str] = field(default_factory=dict)


class FileIndex:
    """Finds files in a few folders, each listed once.

    A name is looked up as it stands, then without its leading folders: `data/obj_train_data/7.jpg` is found as
    `7.jpg`. Upper and lower case are told apart only where both exist. Two different names never give the same file
    by leaving folders away: the second is not found, rather than given another record's picture.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = tuple(dict.fromkeys(folders))
        self._listings: dict[Path, _Listing] = {}
        self._taken: dict[Path, str] = {}
        self._found: dict[str, Path | None] = {}

    def find(self, name: str) -> Path | None:
        """Returns the file of that name, a relative or absolute path with slashes or backslashes, or None."""
        if name not in self._found:
            self._found[name] = self._look(name)
        return self._found[name]

    def _look(self, name: str) -> Path | None:
        name = name.replace("\\", "/")
        if name.startswith("/") and is_inside(Path(name)) and os.path.isfile(name):
            return Path(name)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            for folder in self._folders:
                found = self._walk(folder, parts[start:])
                if found is not None:
                    free = start == 0 or self._taken.setdefault(found, name) == name
                    return (Path(os.path.realpath(found)) if ".." in parts else found) if free else None
        return None

    def find_stem(self, stem: str) -> Path | None:
        """Returns the picture whose name (a path, below one of the folders) without its suffix is `stem`, or None."""
        parent, _, last = stem.rpartition("/")
        for folder in self._folders:
            place = folder / parent if parent else folder
            found = self._listing(place).stems.get(last)
            if found is not None:
                return place / found
        return None

    def _walk(self, folder: Path, parts: Sequence[str]) -> Path | None:
        for part in parts[:-1]:
            step = part if part == ".." else _entry(self._listing(folder).folders, part)
            if step is None:
                return None
            folder = folder / step
        found = _entry(self._listing(folder).files, parts[-1])
        return None if found is None else folder / found

    def _listing(self, folder: Path) -> _Listing:
        listing = self._listings.get(folder)
        if listing is None:
            listing = self._listings[folder] = _listed(folder)
        return listing


def _listed(folder: Path) -> _Listing:
    if not is_inside(folder):
        return _Listing()
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return _Listing()
    files.sort(reverse=True)  # of several names that differ in case or suffix only, the first one wins
    pictures = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES]
    return _Listing(_by_name(files), _by_name(folders), {PurePosixPath(name).stem: name for name in pictures})


def _by_name(names: Iterable[str]) -> dict[str, str]:
    names = list(names)
    return {name.lower(): name for name in names} | {name: name for name in names}


def _entry(names: dict[str, str], name: str) -> str | None:
    return names.get(name) or names.get(name.lower())


def picture_places(folder: Path, subfolders: Sequence[str] = ()) -> tuple[Path, ...]:
    """Returns the folders where the pictures of an annotation file usually lie, the likeliest first.

    Args:
        folder: The folder of the annotation file.
        subfolders: Names to look into first, such as that of the split; they may lie below `images` as well.
    """
    bases = (folder, folder.parent)
    inner = [place / name for name in subfolders for base in bases for place in (base / "images", base)]
    return (folder, *inner, *(base / name for base in bases for name in FOLDERS), folder.parent)


def picture_index(folder: Path, subfolders: Sequence[str] = ()) -> FileIndex:
    """Returns an index of `picture_places`."""
    return FileIndex(picture_places(folder, subfolders))
