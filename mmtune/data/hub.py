"""Reader of the Hugging Face hub's data sets: saved, in parquet files, as a folder with metadata, or by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from mmtune.data.csv import Csv
from mmtune.data.dataset import FaultLog
from mmtune.data.hub_boxes import BOX_FORMATS
from mmtune.data.hub_records import records_of
from mmtune.data.hub_rows import ArrowRows, HubRows, MetadataRows
from mmtune.data.hub_tables import hub_splits, is_saved, parquet_files, parquet_split, saved_splits
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import TableFile, choose_split, metadata_files, split_key, with_unique_ids
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Record

if TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = ("boxes", "name", "revision")


@final
class Hub(Reader):
    """Reads what the library `datasets` knows.

    - A folder written by `save_to_disk`; parquet files (`train-00000-of-00001.parquet`, `train/0000.parquet`); a folder
      of pictures with metadata.jsonl or .csv; `hf://org/name`, with the options `name` (configuration) and `revision`.
    - Columns: image; objects with bbox (x, y, width, height in pixels, unless a column bbox_format or the option
      `boxes=xyxy` says otherwise), category, area and is_crowd; caption(s), text, prefix and suffix, question and
      answer(s), label.
    - Pixels stay on the disk until a picture is opened.
    """

    name = "hub"
    expects = "a folder written by save_to_disk, parquet files, a folder with metadata.jsonl, or hf://org/name"

    def claims(self, path: Path) -> bool:
        """Whether there is a saved data set, a metadata.jsonl or a parquet file."""
        return _is_ours(path)

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits of local data."""
        if is_saved(path):
            return tuple(sorted(filter(None, saved_splits(path)), key=split_key))
        files = _metadata(path) or parquet_files(path)
        return tuple(dict.fromkeys(file.split for file in files if file.split))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        for option in source.options:
            if option not in OPTIONS:
                raise UsageError(unknown_name("option of a hub data set", option, OPTIONS))
        if source.options.get("boxes", "xywh") not in BOX_FORMATS:
            raise UsageError(unknown_name("form of boxes", source.options["boxes"], BOX_FORMATS))
        if source.path.exists() and not _is_ours(source.path) and metadata_files(source.path):
            return Csv().read(source, log)  # metadata.csv
        records: list[Record] = []
        marks: list[str] = []
        classes: dict[str, None] = {}
        tables = _tables(source, log)
        for rows in tables:
            for number, record in records_of(rows, source, log, classes):
                records.append(record)
                marks.append(f"{rows.split}:{number}" if len(tables) > 1 else str(number))
        return Content(with_unique_ids(records, marks), tuple(classes))


def _is_ours(path: Path) -> bool:
    return is_saved(path) or bool(_metadata(path)) or bool(parquet_files(path))


def _metadata(path: Path) -> Sequence[TableFile]:
    return [file for file in metadata_files(path) if file.path.suffix == ".jsonl"]


def _tables(source: Source, log: FaultLog) -> Sequence[HubRows]:
    path = source.path
    if not path.exists():
        name = path.as_posix()
        return _arrow(hub_splits(name, source.options.get("name"), source.options.get("revision")), source)
    if is_saved(path):
        return _arrow(saved_splits(path), source)
    metadata = _metadata(path)
    if metadata:
        return [MetadataRows(file, log, source.task) for file in choose_split(path, metadata, source.split)]
    files = parquet_files(path)
    if not files:
        raise DataError(f"{path}: expected {Hub.expects}; found none of these")
    chosen: dict[str, list[Path]] = {}
    for file in choose_split(path, files, source.split):
        chosen.setdefault(file.split, []).append(file.path)
    base = path if path.is_dir() else path.parent
    return [ArrowRows(split, parquet_split(parts), str(path), base, source.task) for split, parts in chosen.items()]


def _arrow(splits: Mapping[str, "Dataset"], source: Source) -> Sequence[HubRows]:
    names = [TableFile(split, source.path) for split in sorted(splits, key=split_key)]
    chosen = choose_split(source.path, names, source.split)
    return [ArrowRows(one.split, splits[one.split], str(source.path), source.path, source.task) for one in chosen]
