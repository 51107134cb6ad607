"""Reading whatever a user points at: addresses, the table of readers, and the way from a reader to a `Dataset`."""

import difflib
import hashlib
import importlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl

from mmtune.data.confinement import OPTION, OutsideError, confined
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.generated import GeneratedRecords
from mmtune.data.images import SUFFIXES as PICTURES
from mmtune.data.json_files import load_json
from mmtune.data.reader import Reader, Source
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Record

ROOT = "MMTUNE_DATA"
"""The environment variable that may name a folder below which relative addresses are looked up as well."""

_READERS = {
    "refcoco": "mmtune.data.refcoco:RefCoco",
    "coco": "mmtune.data.coco:Coco",
    "coco_captions": "mmtune.data.coco_captions:CocoCaptions",
    "flickr": "mmtune.data.flickr:Flickr",
    "voc": "mmtune.data.voc:Voc",
    "yolo": "mmtune.data.yolo:Yolo",
    "chat": "mmtune.data.chat:Chat",
    "vqa": "mmtune.data.vqa:Vqa",
    "receipts": "mmtune.data.receipts:Receipts",
    "text_lines": "mmtune.data.text_lines:TextLines",
    "jsonl": "mmtune.data.jsonl:Jsonl",
    "word_labels": "mmtune.data.word_labels:WordLabels",
    "csv": "mmtune.data.csv:Csv",
    "folder": "mmtune.data.folder:Folder",
    "hub": "mmtune.data.hub:Hub",
    "shapes": "mmtune.data.shapes:Shapes",
}
"""Name -> "module:class", in the order in which they are asked whether a path is theirs."""

_SHAPES, _HUB, _HUB_SCHEME = "shapes", "hub", "hf://"
# Formats that take no options but those of their `Reader.options`.
_WITHOUT_OPTIONS = (
    "coco", "coco_captions", "flickr", "voc", "yolo", "chat", "text_lines", "jsonl", "word_labels", "csv", "folder",
)  # fmt: skip
_SHOWN = 5
_ASKED_FIRST = {"captioning": ("coco_captions", "flickr")}
"""Readers that are asked first for a task: data sets keep annotations for several tasks side by side."""

_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Readers that say what is wrong with a file that no reader knows, by its suffix."""

_TASKS_OF_OBJECTS = ("detection", "segmentation")
_COSTS_BOXES = re.compile("box|class|category|suffix|missing picture|broken|malformed|size")
"""Kinds of faults by which data may lack boxes that it should have."""


@dataclass(frozen=True)
class Address:
    """The parts of what a user writes for DATA.

    Attributes:
        target: A file or folder as written, or the rest of an address behind `hf://`, or "shapes".
        split: The name after the colon, or None.
        options: The key-value pairs after the question mark.
        format: "hub" or "shapes" where the address says so, else None.
    """

    target: str
    split: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    format: str | None = None


def reader_names() -> tuple[str, ...]:
    """Returns the names that `--format` takes, in the order in which readers are tried."""
    return tuple(_READERS)


def reader(name: str) -> Reader:
    """Returns the reader of a format.

    Raises:
        UsageError: When there is no such format.
    """
    if name not in _READERS:
        raise UsageError(unknown_name("format", name, _READERS))
    module, _, attribute = _READERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()


def parse_address(text: str) -> Address:
    """Splits `path[:split][?key=value&...]`, `hf://org/name[:split]` or `shapes[:split][?...]` into its parts.

    A path that exists as written is a path, whatever colons and question marks it has. A folder of one's own that
    is named shapes is written `./shapes`.

    >>> parse_address("shapes:train?n=2000&seed=0")
    Address(target='shapes', split='train', options={'n': '2000', 'seed': '0'}, format='shapes')

    Raises:
        UsageError: When the text is empty, or an option has no value.
    """
    if text.startswith(_HUB_SCHEME):
        rest, split, options = _parts(text.removeprefix(_HUB_SCHEME))
        return Address(rest, split, options, _HUB)
    target, split, options = _parts(text)
    if target == _SHAPES:
        return Address(target, split, options, _SHAPES)
    if _existing(text) is not None:
        return Address(text)
    return Address(target, split, options)


def read(
    data: str | Path,
    *,
    task: str | None = None,
    format: str | None = None,  # noqa: A002 - the command line's name for it
    need_pictures: bool = True,
    need_masks: bool | None = None,
) -> Dataset:
    """Reads a data set in the form it has.

    Args:
        data: A file, a folder, `hf://org/name` or `shapes`, with an optional split after a colon and options after a
            question mark. Relative paths are looked up as given, then below the folder in MMTUNE_DATA. Without a
            split all records are read, each once. The option `confined=1` refuses every file outside the folder,
            whatever the annotations name.
        task: Name of the task that the data is for.
        format: Name of a reader; None: the first that recognises the content.
        need_pictures: False when only the truth is wanted, so that absent pictures are no fault.
        need_masks: Whether to build masks; None: only for the task segmentation.

    Returns:
        The records that can be used, the classes, and the faults of what was set aside.

    Raises:
        UsageError: When the format or an option is unknown.
        DataError: When there is no such path or split, no reader knows the content, or no record can be used.
    """
    address = parse_address(str(data))
    name = format or address.format
    if name is not None:
        reader(name)  # an unknown format is said before a missing path
    options = dict(address.options)
    is_confined = _is_confined(options.pop(OPTION, None), str(data))
    if address.format is not None and format not in (None, address.format):
        raise UsageError(f"{data}: this address is of the format {address.format}, not {format}: leave one of them out")
    if name == _SHAPES != address.format:
        raise UsageError(f"{data}: the format shapes is generated: its address is 'shapes', with options behind it")
    if is_confined and address.format:
        raise UsageError(f"{data}: ?{OPTION}=1 is for files and folders")
    path = Path(address.target) if address.format else _located(address.target)
    root = (path if path.is_dir() else path.parent) if is_confined else None
    source = Source(
        path=path,
        split=address.split,
        options=options,
        task=task,
        need_pictures=need_pictures,
        need_masks=task == "segmentation" if need_masks is None else need_masks,
    )
    try:
        with confined(root):
            return _read(str(data), reader(name) if name is not None else _claiming(path, task), source)
    except OutsideError as error:
        raise DataError(f"{data}: one of its files cannot be read: {error.strerror}") from error


def _read(data: str, chosen: Reader, source: Source) -> Dataset:
    path, task = source.path, source.task
    if chosen.name in _WITHOUT_OPTIONS and source.options.keys() - set(chosen.options):
        takes = f"the options {', '.join(chosen.options)} alone" if chosen.options else "no options"
        raise UsageError(f"{data}: the format {chosen.name} takes {takes} after '?', found {source.options}")
    if source.split is not None and chosen.name in _WITHOUT_OPTIONS and not chosen.splits(path):
        raise DataError(f"{path}: this {chosen.name} data is not split, so that there is no '{source.split}'")
    log = FaultLog()
    content = chosen.read(source, log)
    records = _unique(content.records, log)
    found = Dataset(records, tuple(content.classes), tuple(log.faults), chosen.name, data)
    if not records:
        raise DataError(_nothing_usable(found, path, "record"))
    if (
        task in _TASKS_OF_OBJECTS
        and source.need_pictures
        and not any(record.boxes or record.masks for record in records)
    ):
        about_boxes = tuple(fault for fault in found.faults if _COSTS_BOXES.search(fault.kind))
        raise DataError(_nothing_usable(replace(found, faults=about_boxes), path, "box"))
    return found


def _is_confined(value: str | None, data: str) -> bool:
    if value not in (None, "0", "1"):
        raise UsageError(f"{data}: expected {OPTION}=0 or {OPTION}=1, received {OPTION}={value}")
    return value == "1"


def split_off(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Returns a data set without, and with only, a fraction of its records, chosen by a hash of their ids.

    The choice does not depend on the order of the records, nor on the machine. Faults stay with the first part.

    Args:
        dataset: At least two records.
        fraction: Share of the second part, between 0 and 1; either part gets at least one record.
        seed: Another seed, another choice.

    Raises:
        UsageError: When the fraction is not between 0 and 1.
        DataError: When there are fewer than two records.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"expected a fraction between 0 and 1 to split off, received {fraction}")
    if len(dataset) < 2:
        raise DataError(f"{dataset.name}: expected at least 2 records to split, found {len(dataset)}")
    hashes = [_hash(name, seed) for name in dataset.ids()]
    ranked = sorted(range(len(hashes)), key=hashes.__getitem__)
    count = min(max(round(len(ranked) * fraction), 1), len(ranked) - 1)
    rest, part = dataset.chosen(sorted(ranked[count:])), dataset.chosen(sorted(ranked[:count]))
    return rest, replace(part, faults=())


def as_fraction(val: object) -> float | None:
    """Returns a fraction given as a number or as its text, None for anything else.

    Raises:
        UsageError: When it is not between 0 and 1.
    """
    if isinstance(val, str):
        try:
            val = float(val)
        except ValueError:
            return None
    if not isinstance(val, float | int):
        return None
    if not 0 < val < 1:
        raise UsageError(f"val: expected a fraction between 0 and 1 or a data set, got {val}")
    return val


def _hash(record_id: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{record_id}".encode(errors="surrogatepass"), digest_size=16).digest()


def _parts(text: str) -> tuple[str, str | None, dict[str, str]]:
    rest, question, query = text.partition("?")
    target, colon, split = rest.rpartition(":")
    if not colon or "/" in split:
        target, split = rest, ""
    if not target:
        raise UsageError(f"expected a file, a folder, hf://org/name or shapes, received '{text}'")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if question else {}
    except ValueError as error:
        raise UsageError(f"expected options such as ?n=2000&seed=0, received '?{query}' in '{text}'") from error
    return target, split or None, options


def _existing(target: str) -> Path | None:
    """Returns the path as given, or below the folder in MMTUNE_DATA, if it exists."""
    root = os.environ.get(ROOT)
    path = Path(target).expanduser()
    places = [path] if path.is_absolute() or not root else [path, Path(root) / path]
    return next((place for place in places if place.exists()), None)


def _located(target: str) -> Path:
    found = _existing(target)
    if found is not None:
        return found
    root = os.environ.get(ROOT)
    path = Path(target).expanduser()
    parents = [path.parent] + ([Path(root) / path.parent] if root else [])
    names = [name for parent in parents if parent.is_dir() for name in os.listdir(parent)]
    close = difflib.get_close_matches(path.name, names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    where = f"here or below {root}" if root else f"(the variable {ROOT} may name a folder to look below as well)"
    raise DataError(f"{target}: there is no such file or folder {where}{guess}")


def _claiming(path: Path, task: str | None) -> Reader:
    readers = [reader(name) for name in dict.fromkeys((*_ASKED_FIRST.get(task or "", ()), *_READERS))]
    for candidate in readers:
        if candidate.claims(path):
            return candidate
    _refuse_plainly(path, task)
    expected = "\n".join(f"  {candidate.name}: {candidate.expects}" for candidate in readers)
    raise DataError(
        f"{path}: expected a data set of a known format, but none was recognised; point at its file or folder, or "
        f"name its format. Known formats:\n{expected}"
    )


def _refuse_plainly(path: Path, task: str | None) -> None:
    """Says what is wrong with data that no reader knows, where its name tells what it should be.

    Raises:
        DataError: When the file or folder is empty, is a picture, or is broken JSON, JSON lines or CSV.
    """
    if path.is_dir():
        if not any(path.iterdir()):
            raise DataError(f"{path}: expected a data set, but the folder is empty")
        return
    suffix = path.suffix.lower()
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path}: expected a data set, but the file is empty")
    if suffix in PICTURES:
        raise DataError(f"{path}: expected a data set, found a picture: point at its folder, or at the annotations")
    if suffix == ".json":
        load_json(path)  # with the line at fault
    if suffix in _BY_SUFFIX:
        log = FaultLog()
        content = reader(_BY_SUFFIX[suffix]).read(Source(path, task=task), log)
        if log.faults and not content.records:
            found = Dataset((), faults=tuple(log.faults), format=_BY_SUFFIX[suffix])
            raise DataError(_nothing_usable(found, path, "record"))


def _unique(records: Sequence[Record], log: FaultLog) -> Sequence[Record]:
    """Returns the records whose id did not occur before; the others are logged."""
    if isinstance(records, GeneratedRecords):
        return records
    kept: dict[str, Record] = {}
    for record in records:
        first = kept.setdefault(record.id, record)
        if first is not record:
            problem = f"the id was used in {first.source or 'this data set'} already; this record was left out"
            log.add(record.source, record.id, "duplicate record", problem)
    return tuple(kept.values())


def _nothing_usable(dataset: Dataset, path: Path, what: str) -> str:
    if not dataset.faults:
        return f"{path}: expected at least one {what}, but this {dataset.format} data has none"
    counts = ", ".join(f"{count} x {kind}" for kind, count in dataset.fault_counts.items())
    first = "\n".join(f"  {fault.file}: {fault.problem}" for fault in dataset.faults[:_SHOWN])
    return f"{path}: no {what} of this {dataset.format} data can be used ({counts}). The first faults:\n{first}"
