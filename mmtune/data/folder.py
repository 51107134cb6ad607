"""Reader of folders of pictures: a sub-folder per label, or no labels at all."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FOLDERS
from mmtune.data.images import SUFFIXES, FilePicture
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import SPLIT_NAMES, TableFile, choose_split, metadata_files, natural_key, split_key
from mmtune.errors import DataError
from mmtune.records import Record

_COMPANIONS = frozenset([".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".md", ".yaml", ".yml", ".ini", ".db"])
"""Suffixes of files that lie beside pictures for good reasons, and are no fault."""

_COMPANION_STEMS = ("license", "licence", "readme", "notice")


@final
class Folder(Reader):
    """Reads a folder of pictures.

    With sub-folders, each is a label: `cats/1.jpg` has the text "cats". With `train`, `val` or `test` above the labels,
    these are splits; the classes are those of all splits. Without sub-folders the records have no truth, which serves
    to predict. Files are in natural order, 2.jpg before 10.jpg. Hidden files and the usual companions (a licence,
    texts, annotations, Thumbs.db) are passed over; other files that are no pictures are faults.
    """

    name = "folder"
    expects = "a folder of pictures, with a sub-folder per label or without; train, val and test may stand above"

    def claims(self, path: Path) -> bool:
        """Whether a folder, or one a level or two below it, has a picture."""
        if not path.is_dir() or metadata_files(path):
            return False
        return any(_is_picture(file) for file in _walk(path, depth=3))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the sub-folders that are splits."""
        return tuple(part.split for part in _parts(path) if part.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        if not source.path.is_dir():
            raise DataError(f"{source.path}: expected a folder of pictures; there is none")
        parts = _parts(source.path)
        if parts[0].split:
            _note_strays(source.path, {part.path for part in parts}, log)
        labels = {label for part in parts for label in _labels(part.path) if _has_pictures(part.path / label)}
        records = [
            record
            for part in choose_split(source.path, parts, source.split)
            for record in _records(part.path, source.path, log)
        ]
        return Content(records, sorted(labels, key=natural_key))


def _parts(path: Path) -> Sequence[TableFile]:
    """Returns the folders of the splits, or the folder itself as the only part, with split ""."""
    folders = _folders(path)
    splits = [folder for folder in folders if folder.name in SPLIT_NAMES]
    # A class may be called "test"; then there is no train, and other classes stand beside it.
    if splits and (len(splits) == len(folders) or "train" in {folder.name for folder in splits}):
        return sorted((TableFile(folder.name, folder) for folder in splits), key=lambda part: split_key(part.split))
    return (TableFile("", path),)


def _labels(part: Path) -> Sequence[str]:
    names = [folder.name for folder in _folders(part)]
    return () if len(names) == 1 and names[0] in FOLDERS else names


def _records(part: Path, root: Path, log: FaultLog) -> Iterator[Record]:
    """Yields the records of one part, label by label; pictures that stand beside the labels are faults."""
    labels = _labels(part)
    if not labels:
        for file in _pictures(part, log):
            yield _record(file, root, ())
        return
    for file in _pictures(part, log, depth=1):
        problem = f"expected all pictures in the folders of the labels ({', '.join(labels[:5])}, ...); it was left out"
        log.add(file, _id(file, root), "picture without label", problem)
    for label in labels:
        is_empty = True
        for file in _pictures(part / label, log):
            is_empty = False
            yield _record(file, root, (label,))
        if is_empty:
            problem = f"expected pictures of '{label}', the folder has none; it is no class"
            log.add(part / label, None, "label without pictures", problem)


def _record(file: Path, root: Path, texts: tuple[str, ...]) -> Record:
    return Record(_id(file, root), FilePicture(file), texts=texts, source=str(file))


def _id(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _note_strays(root: Path, parts: set[Path], log: FaultLog) -> None:
    for file in _pictures(root, log, depth=1):
        problem = "expected all pictures below the folders of the splits; it was left out"
        log.add(file, _id(file, root), "picture outside the splits", problem)
    for folder in _folders(root):
        if folder not in parts and _has_pictures(folder):
            problem = f"the folder has pictures but is no split ({', '.join(SPLIT_NAMES)}); it was left out"
            log.add(folder, None, "folder outside the splits", problem)


def _pictures(folder: Path, log: FaultLog, depth: int | None = None) -> Iterator[Path]:
    for file in _walk(folder, depth):
        if _is_picture(file):
            yield file
        elif not _is_companion(file):
            problem = f"expected a picture ({', '.join(sorted(SUFFIXES))}), received '{file.name}'; it was left out"
            log.add(file, None, "not a picture", problem)


def _has_pictures(folder: Path) -> bool:
    return any(_is_picture(file) for file in _walk(folder))


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def _is_companion(file: Path) -> bool:
    return file.suffix.lower() in _COMPANIONS or file.stem.lower() in _COMPANION_STEMS


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _folders(path: Path) -> Sequence[Path]:
    try:
        found = [entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry.name)]
    except OSError as error:
        raise DataError(f"{path}: expected a folder that can be listed: {error.strerror}") from error
    return sorted(found, key=lambda folder: natural_key(folder.name))


def _walk(folder: Path, depth: int | None = None) -> Iterator[Path]:
    """Yields the files below a folder that are not hidden, folder by folder, in natural order."""
    for base, folders, files in os.walk(folder):
        below = len(Path(base).relative_to(folder).parts) + 1
        folders[:] = (
            [] if below == depth else sorted((name for name in folders if not _is_hidden(name)), key=natural_key)
        )
        for name in sorted(files, key=natural_key):
            if not _is_hidden(name):
                yield Path(base) / name
