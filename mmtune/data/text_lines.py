"""Reader of pictures with their text in a file beside them: `0001.png` and `0001.gt.txt`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, final

from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FOLDERS, FileIndex
from mmtune.data.images import SUFFIXES, FilePicture
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import SPLIT_NAMES, TableFile, choose_split, natural_key, split_key
from mmtune.data.text_files import TRUTH, read_text, text_stem
from mmtune.errors import DataError
from mmtune.records import Record

_DEPTH = 3  # folders below the one given, in which texts are looked for
_BINARISED = (".nrm", ".bin")  # how OCRopus marks the pictures that it made from the scan


@final
class TextLines(Reader):
    """Reads the ground truth of OCR engines (kraken, OCRopus, Tesseract, Calamari): a text file a picture.

    `0001.gt.txt` has the text of `0001.png` (or `.jpg`, `.tif`, `0001.nrm.png`, `0001.bin.png`), in the same folder or
    in `images`, mostly a line, but whole pages do as well. Folders below are read too; `train`, `val` and `test` are
    splits. Where no file ends in `.gt.txt`, `--format text_lines` takes `0001.txt`.

    Text is UTF-8; it is composed (NFC), and the newline at its end is dropped. A record's id is the path without the
    suffix. An empty file is a fault: nobody wrote it yet.
    """

    name: ClassVar[str] = "text_lines"
    expects: ClassVar[str] = "a folder of pictures, each with a text file such as 0001.gt.txt beside it, or such a file"

    def claims(self, path: Path) -> bool:
        """Whether there is a file that ends in `.gt.txt`."""
        return any(_is_truth(file) for file in _files(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the sub-folders that are splits."""
        return tuple(part.split for part in _parts(path) if part.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        path = source.path
        if path.is_file():
            return Content(tuple(_records([path], path.parent, source, log)))
        parts = _parts(path)
        if parts[0].split:
            _note_strays(path, parts, log)
        parts = choose_split(path, parts, source.split)
        found = [file for part in parts for file in _files(part.path)]
        texts = [file for file in found if _is_truth(file)]
        texts = texts or [file for file in found if _is_text(file, source)]
        if not texts:
            raise DataError(f"{path}: expected {self.expects}; found no such file")
        records = tuple(_records(texts, path, source, log))
        if source.need_pictures:
            _note_pictures(found, texts, path, log)
        return Content(records)


def _records(texts: Sequence[Path], root: Path, source: Source, log: FaultLog) -> Iterator[Record]:
    index: dict[Path, FileIndex] = {}
    for file in texts:
        stem = text_stem(file.name)
        record_id = (file.parent.relative_to(root) / stem).as_posix()
        try:
            text = read_text(file)
        except DataError as error:
            log.add(file, record_id, "unreadable text", f"{error}; the record was left out")
            continue
        if not text:
            problem = "expected the text of a picture, but the file is empty; the record was left out"
            log.add(file, record_id, "empty text", problem)
            continue
        places = index.setdefault(file.parent, FileIndex(_places(file.parent)))
        picture = next(filter(None, (places.find_stem(stem + mark) for mark in ("", *_BINARISED))), None)
        if picture is None and source.need_pictures:
            problem = f"expected a picture such as {stem}.png beside the text, found none; the record was left out"
            log.add(file, record_id, "missing picture", problem)
            continue
        yield Record(record_id, None if picture is None else FilePicture(picture), texts=(text,), source=str(file))


def _places(folder: Path) -> Sequence[Path]:
    """Returns where the pictures of a folder's texts may lie; never in another split."""
    beside = () if folder.name in SPLIT_NAMES else tuple(folder.parent / name for name in FOLDERS)
    return (folder, *(folder / name for name in FOLDERS), *beside)


def _is_text(file: Path, source: Source) -> bool:
    """Whether a file without the telling ending is the text of a picture, as far as pictures are needed."""
    if file.suffix.lower() != ".txt":
        return False
    return not source.need_pictures or FileIndex(_places(file.parent)).find_stem(text_stem(file.name)) is not None


def _note_pictures(files: Sequence[Path], texts: Sequence[Path], root: Path, log: FaultLog) -> None:
    """Notes the pictures that have no text."""
    known = {(file.parent, text_stem(file.name)) for file in texts}
    anywhere = {stem for _, stem in known}
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            continue
        stems = {file.stem, *(file.stem.removesuffix(mark) for mark in _BINARISED)}
        apart = file.parent.name in FOLDERS  # whose texts lie elsewhere
        if not (stems & anywhere if apart else {(file.parent, stem) for stem in stems} & known):
            problem = f"expected its text in {file.stem}{TRUTH}, there is none; the picture was left out"
            log.add(file, file.relative_to(root).as_posix(), "picture without text", problem)


def _note_strays(path: Path, parts: Sequence[TableFile], log: FaultLog) -> None:
    """Notes the texts that lie outside the splits."""
    for file in _files(path):
        if _is_truth(file) and not any(file.is_relative_to(part.path) for part in parts):
            problem = "expected all texts in the folders of the splits; it was left out"
            log.add(file, None, "text outside the splits", problem)


def _is_truth(file: Path) -> bool:
    return file.name.lower().endswith(TRUTH)


def _parts(path: Path) -> Sequence[TableFile]:
    """Returns the folders of the splits, or the path itself as the only part, with split ""."""
    if path.is_dir():
        folders = [folder for folder in path.iterdir() if folder.is_dir() and folder.name in SPLIT_NAMES]
        parts = [TableFile(folder.name, folder) for folder in folders if any(_is_truth(f) for f in _files(folder))]
        if parts:
            return sorted(parts, key=lambda part: split_key(part.split))
    return (TableFile("", path),)


def _files(path: Path) -> Iterator[Path]:
    """Yields the file, or the files of a folder and of those below it, in natural order, hidden ones left out."""
    if path.is_file():
        yield path
        return
    for base, folders, files in os.walk(path):
        depth = len(Path(base).relative_to(path).parts)
        folders[:] = [] if depth == _DEPTH else sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        yield from (Path(base) / name for name in sorted(files, key=natural_key) if not name.startswith("."))
