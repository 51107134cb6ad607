"""Opening what the hub's library knows: saved data sets, parquet files, folders with metadata, names on the hub."""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.confinement import current_root, is_inside, open_file
from mmtune.data.json_files import load_json
from mmtune.data.tables import SPLIT_NAMES, TableFile, natural_key, split_key
from mmtune.errors import DataError
from mmtune.records import Picture

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image

_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")


@dataclass(frozen=True, slots=True)
class RowPicture:
    """A picture in a row of an Arrow table, which stays on the disk until it is opened.

    Attributes:
        rows: The table with the undecoded pictures.
        column: The name of their column.
        row: The row's index.
        base: Folder to which paths in the table are relative.
        name: What to show to a user.
        root: The folder that a picture's file must lie in, of a confined data set; None: any.
    """

    rows: "Dataset" = field(repr=False)
    column: str
    row: int
    base: Path
    name: str
    root: Path | None = field(default_factory=current_root, repr=False, compare=False)

    def open(self) -> "Image.Image":
        """Returns the upright picture in mode RGB; raises `DataError` when it cannot be decoded."""
        return self._held().open()

    def size(self) -> tuple[int, int]:
        """Returns (width, height) in pixels, read from the header; raises `DataError` when it is no picture."""
        from mmtune.data.images import size_of

        return size_of(self._held())

    def _held(self) -> Picture:
        from mmtune.data.images import BytesPicture, FilePicture

        value = self.rows[self.row][self.column]
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
        if isinstance(data, bytes):
            return BytesPicture(data, self.name)
        path = data if isinstance(data, str) else path
        if isinstance(path, str):
            return FilePicture(self.base / path, root=self.root)
        raise DataError(f"{self.name}: expected a picture, but the cell is empty or of another kind")


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def saved_splits(path: Path) -> Mapping[str, "Dataset"]:
    """Returns the tables of a folder written by `save_to_disk`, memory-mapped; "" for one that is not split.

    Raises:
        DataError: When the library cannot load it.
    """
    import datasets

    try:
        _refuse_outside(path)
        found = datasets.load_from_disk(str(path))
    except DataError:
        raise
    except Exception as error:  # the library raises anything from ValueError to pyarrow's own
        raise DataError(f"{path}: expected a folder written by save_to_disk; {_reason(error)}") from error
    return _by_split(found)


def _refuse_outside(path: Path) -> None:
    """Refuses a confined data set whose files lie outside it: the library would open them.

    Raises:
        DataError: When one does.
    """
    if current_root() is None:
        return
    if not all(map(is_inside, _named_files(path))):
        raise DataError(f"{path}: one of its files lies outside the folder, which is not allowed here")


def _named_files(path: Path) -> Iterator[Path]:
    """Yields the files that the library opens for a folder written by `save_to_disk`."""
    index = path / "dataset_dict.json"
    yield index
    splits = load_json(index).get("splits", []) if index.is_file() else [""]
    for folder in (path / str(split) for split in splits):
        state = folder / "state.json"
        yield from (state, folder / "dataset_info.json")
        if is_inside(state) and state.is_file():
            yield from (folder / str(table.get("filename")) for table in load_json(state).get("_data_files", []))


def parquet_files(path: Path) -> Sequence[TableFile]:
    """Returns the parquet files at a path with their splits, told by their names or folders, else ""."""
    if path.is_file():
        return (TableFile("", path),) if _is_parquet(path) else ()
    files = [file for pattern in ("*", "*/*", "*/*/*") for file in path.glob(f"{pattern}.parquet")]
    files.sort(key=lambda file: natural_key(file.as_posix()))
    found = [TableFile(_parquet_split(file), file) for file in files]
    return sorted(found, key=lambda file: split_key(file.split))


def parquet_split(files: Sequence[Path]) -> "Dataset":
    """Returns the table of one split's files. It is kept as Arrow in the library's cache and memory-mapped.

    Raises:
        DataError: When a file is no parquet file, or the files differ in their columns.
    """
    import datasets

    names = ", ".join(str(file) for file in files[:3])
    try:
        with _quiet():
            loaded = datasets.load_dataset("parquet", data_files={"train": [str(file) for file in files]})
    except Exception as error:  # as above
        raise DataError(f"{names}: expected parquet files of the same columns; {_reason(error)}") from error
    return loaded["train"]


def hub_splits(name: str, config: str | None, revision: str | None) -> Mapping[str, "Dataset"]:
    """Returns the splits of a data set on the hub, from the cache where it was loaded before.

    Raises:
        DataError: When it cannot be had; the message says what to do.
    """
    import datasets

    try:
        with _quiet():
            return _by_split(datasets.load_dataset(name, config, revision=revision))
    except Exception as error:  # as above, and those of the connection
        raise DataError(
            f"hf://{name}: expected a data set on the Hugging Face hub, or in its cache, but {_reason(error)}; check "
            "the name and the connection, or load it where there is a network, write it with save_to_disk and give "
            "that folder (HF_DATASETS_OFFLINE=1 uses a copy in the cache at once)"
        ) from error


def _by_split(found: Any) -> Mapping[str, "Dataset"]:
    from datasets import DatasetDict

    return {str(split): rows for split, rows in found.items()} if isinstance(found, DatasetDict) else {"": found}


def undecoded(rows: "Dataset", column: str) -> "Dataset":
    """Returns the table of the pictures alone, as they are stored."""
    import datasets

    pictures = rows.with_format(None).select_columns([column])
    if isinstance(pictures.features[column], datasets.Image):
        return pictures.cast_column(column, datasets.Image(decode=False))
    return pictures


def missing_pictures(pictures: "Dataset", column: str, base: Path) -> Mapping[int, str]:
    """Returns the rows without a picture, and what is there instead; nothing is decoded."""
    import pyarrow as pa

    found: dict[int, str] = {}
    start = 0
    tables: Any = pictures.with_format("arrow")
    for batch in tables.iter(batch_size=1000):
        cells = batch.column(column)
        paths = cells
        if pa.types.is_struct(cells.type):
            fields = dict(zip((one.name for one in cells.type), cells.combine_chunks().flatten(), strict=True))
            held = fields["bytes"].is_valid().to_pylist() if "bytes" in fields else [False] * len(cells)
            paths = fields["path"] if "path" in fields else pa.nulls(len(cells), pa.string())
        else:
            held = [pa.types.is_binary(cells.type) and ok for ok in cells.is_valid().to_pylist()]
        for row, (has_bytes, path) in enumerate(zip(held, _strings(paths), strict=True), start):
            if not has_bytes and path is None:
                found[row] = "the cell is empty"
            elif not has_bytes and not (is_inside(base / str(path)) and (base / str(path)).is_file()):
                found[row] = f"there is no file {path}"
        start += len(batch)
    return found


def _strings(paths: Any) -> Iterator[str | None]:
    import pyarrow as pa

    is_text = pa.types.is_string(paths.type) or pa.types.is_large_string(paths.type)
    yield from paths.to_pylist() if is_text else [None] * len(paths)


def _is_parquet(path: Path) -> bool:
    try:
        with open_file(path) as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False


def _parquet_split(file: Path) -> str:
    shard = _SHARD.fullmatch(file.stem)
    candidates = ([shard[1]] if shard else []) + ([file.stem] if file.stem in SPLIT_NAMES else [])
    return next(iter(candidates), file.parent.name if file.parent.name in SPLIT_NAMES else "")


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library's progress bars and its warnings about every try off the screen; the end is one message."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
