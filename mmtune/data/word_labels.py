"""Reader of lists of word pictures: `word_1.png<TAB>Tiredness` and its kin, a line a picture."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, final

from mmtune.data.csv_rows import table_columns
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import SUFFIXES as PICTURES
from mmtune.data.images import FilePicture
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import TableFile, choose_split, table_files
from mmtune.data.word_lists import Entry, list_head, word_list
from mmtune.errors import DataError
from mmtune.records import Record

SUFFIXES = (".json", ".txt")
_PEEKED = 20


@final
class WordLabels(Reader):
    """Reads a list of pictures with the word on each, or a folder with such a list per split.

    - `name<TAB>word`, or `name word` behind a space: the lists of most recognition toolkits, MMOCR's and MJSynth's
      (whose number behind the path stands for the word in the name `115_Lube_45484.jpg`).
    - `name, "word"`: ICDAR's.
    - JSON: MMOCR's `{"data_list": [{"img_path", "instances": [{"text"}]}]}`, a list of objects with the name of a
      picture and a text, or an object of words by the names of their pictures.

    Names may lack the suffix of the picture. Words are kept as they stand: quotes, commas and capitals included.
    Several lines about one picture are several texts of it, in the order of the file. A record's id is the name.

    Splits: `train_label.txt`, `labels.train.txt`, `train/labels.txt`, `train.json`.
    """

    name: ClassVar[str] = "word_labels"
    expects: ClassVar[str] = (
        'a list of pictures and words, `name<TAB>word`, `name word`, `name, "word"` a line or JSON, or a folder'
    )

    def claims(self, path: Path) -> bool:
        """Whether one of the lists names pictures, some of which are there."""
        return bool(_files(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits found at `path`."""
        return tuple(file.split for file in _files(path) if file.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        found = _files(source.path)
        if not found and source.path.is_file():
            found = (TableFile("", source.path),)
        if not found:
            raise DataError(f"{source.path}: expected {self.expects}; found no such file")
        records = [
            record for file in choose_split(source.path, found, source.split) for record in _records(file, source, log)
        ]
        return Content(tuple(records))


def _files(path: Path) -> Sequence[TableFile]:
    """Returns the lists at a path. A folder with the same labels in JSON and in text is read from the JSON."""
    if path.is_file():
        return (TableFile("", path),) if _may_be_list(path) else ()
    return next(filter(None, (table_files(path, (suffix,), _is_list) for suffix in SUFFIXES)), ())


def _is_list(file: Path) -> bool:
    """Whether a file of a folder names pictures that are there."""
    entries = list_head(file)
    if not entries or _has_header(file):
        return False
    index = picture_index(file.parent)
    return any(_picture(index, entry.name) for entry in entries[:: max(1, len(entries) // _PEEKED)])


def _may_be_list(file: Path) -> bool:
    """Whether a file that was pointed at is a list, be its pictures there or not: truth is scored without them."""
    if file.suffix.lower() not in (*SUFFIXES, ".tsv") or _has_header(file):
        return False
    entries = list_head(file)
    named = all(PurePosixPath(entry.name).suffix.lower() in PICTURES for entry in entries)
    tabbed = file.suffix.lower() != ".json" and all(entry.tab for entry in entries)
    return bool(entries) and (named or tabbed or _is_list(file))


def _has_header(file: Path) -> bool:
    """Whether a text file is a table whose columns have names, which another reader knows."""
    columns = None if file.suffix.lower() == ".json" else table_columns(file)
    return columns is not None and columns.header


def _records(file: TableFile, source: Source, log: FaultLog) -> Iterator[Record]:
    index = picture_index(file.path.parent, (file.split,) if file.split else ())
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in word_list(file.path, log):
        by_name[entry.name].append(entry)
    for name, entries in by_name.items():
        where = entries[0].where
        record_id = f"{file.split}/{name}" if file.split else name
        picture = _picture(index, name)
        if picture is None and source.need_pictures:
            problem = f"expected a picture named '{name}' near {file.path.parent}, there is none; it was left out"
            log.add(where, record_id, "missing picture", problem)
            continue
        texts = tuple(entry.text for entry in entries)
        yield Record(record_id, None if picture is None else FilePicture(picture), texts=texts, source=where)


def _picture(index: FileIndex, name: str) -> Path | None:
    return index.find(name) or index.find_stem(name)
