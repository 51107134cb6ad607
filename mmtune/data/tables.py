"""What the readers of tables (JSON lines, CSV, the hub's data sets) share: files per split, texts, ids."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.errors import DataError, unknown_name
from mmtune.records import Record

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of files and folders that mean a split wherever they stand."""

_ALIKE = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))
_MARKS = re.compile(r"^_?(annotations?|labels?|metadata)[._-]|[._-]?(annotations?|labels?|metadata)$")
_OWN = ("suffix", "texts")  # PaliGemma's form, and ours
_MEANT = {
    "captioning": ("captions", "caption", "sentences", "sentence", "comment"),
    "ocr": ("text", "transcription", "words"),
    "vqa": ("answers", "answer"),
}
_SUBFOLDERS = (".", "dataset", "data", "annotations")


@dataclass(frozen=True)
class TableFile:
    """An annotation file and the split that it holds; "" where the data is not split."""

    split: str
    path: Path


def natural_key(text: str) -> tuple[Any, ...]:
    """Returns a sorting key by which img2 stands before img10.

    >>> sorted(["img10", "img2"], key=natural_key)
    ['img2', 'img10']
    """
    parts = re.split(r"(\d+)", text)
    return tuple(int(part) if part.isdecimal() else part for part in parts), text


def table_files(
    path: Path, suffixes: Sequence[str], accepts: Callable[[Path], bool] = lambda _: True
) -> tuple[TableFile, ...]:
    """Finds annotation files: `path` itself, the files of a folder, or one per sub-folder that is a split.

    `_annotations.train.jsonl`, `train_labels.csv` and `train/_annotations.csv` are all the split train. Several files
    are several splits, named by what is left of their names.

    Args:
        path: A file or folder.
        suffixes: Lower-case endings such as ".jsonl".
        accepts: Whether a file of a folder is one of them, judged by its content.

    Returns:
        The files in the order train, val, test, others; a single one without a split's name has split "".
    """
    if path.is_file():
        return (TableFile("", path),)
    for folder in (path / name for name in _SUBFOLDERS):
        found = [TableFile(_split_name(file.stem), file) for file in _tables_in(folder, suffixes) if accepts(file)]
        if not found and folder.is_dir():
            parts = sorted((sub for sub in folder.iterdir() if sub.name in SPLIT_NAMES), key=lambda sub: sub.name)
            found = [TableFile(sub.name, file) for sub in parts for file in _tables_in(sub, suffixes) if accepts(file)]
        if len(found) == 1 and found[0].split not in SPLIT_NAMES:
            return (replace(found[0], split=""),)
        if found:
            return tuple(sorted(found, key=lambda file: split_key(file.split)))
    return ()


def metadata_files(path: Path) -> tuple[TableFile, ...]:
    """Returns the metadata.jsonl or metadata.csv files of a folder of pictures in the form of the hub."""
    if path.is_file():
        return (TableFile("", path),) if path.stem == "metadata" and path.suffix in (".jsonl", ".csv") else ()
    return table_files(path, (".jsonl", ".csv"), lambda file: file.stem == "metadata")


def split_key(split: str) -> tuple[int, str]:
    """Returns a sorting key by which train stands before val, test and the rest."""
    return (SPLIT_NAMES.index(split) if split in SPLIT_NAMES else len(SPLIT_NAMES), split)


def choose_split(path: Path, found: Sequence[TableFile], split: str | None) -> Sequence[TableFile]:
    """Returns the files of the wanted split, or all of them when none is wanted.

    Raises:
        DataError: When there is no such split.
    """
    if split is None:
        return found
    alike = next((group for group in _ALIKE if split in group), (split,))
    chosen = [file for file in found if file.split == split] or [file for file in found if file.split in alike]
    if not chosen:
        names = [file.split for file in found if file.split]
        raise DataError(f"{path}: {unknown_name('split', split, names)}")
    return chosen


def as_texts(value: Any) -> tuple[str, ...] | None:
    """Returns the texts in a cell: a string, a list of strings, or a list of {"raw" | "text" | "answer" | ...: str}.

    Returns:
        None when the value is none of these; an empty tuple for None and the empty list.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("raw", "text", "caption", "answer") if key in value), 0)
        return None if isinstance(value, Mapping) else as_texts(value)
    if not isinstance(value, Sequence):
        return None
    texts: list[str] = []
    for item in value:
        inner = as_texts(item)
        if inner is None:
            return None
        texts.extend(inner)
    return tuple(texts)


def first_key(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Returns the first of the `wanted` names that is there."""
    there = set(names)
    return next((name for name in wanted if name in there), None)


def text_names(names: Sequence[str], task: str | None) -> tuple[str, ...]:
    """Returns the names of texts, those first that count first for a task.

    Where a row has several, that is its own form, then what the task asks for: the answer to a question, not the text
    on its picture.
    """
    own = (name for name in names if name in _OWN)
    meant = (name for name in names if name in _MEANT.get(task or "", ()))
    return tuple(dict.fromkeys((*own, *meant, *names)))


def with_unique_ids(records: Sequence[Record], marks: Sequence[str]) -> tuple[Record, ...]:
    """Adds "#mark" to every id that several records share.

    Args:
        records: In the order of the files.
        marks: The line or row of each record; with the split where the data has several.
    """
    counts = Counter(record.id for record in records)
    return tuple(
        replace(record, id=f"{record.id}#{mark}") if counts[record.id] > 1 else record
        for record, mark in zip(records, marks, strict=True)
    )


def _split_name(stem: str) -> str:
    return _MARKS.sub("", stem)


def _tables_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file()]
    return sorted((file for file in files if not file.name.startswith(".")), key=lambda file: natural_key(file.name))
