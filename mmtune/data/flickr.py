"""Reader of the caption files of Flickr8k and Flickr30k."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, final

from mmtune.data.coco_captions import NO_CAPTION
from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FOLDERS, FileIndex
from mmtune.data.images import SUFFIXES, FilePicture
from mmtune.data.json_lines import short
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import TableFile, choose_split, natural_key
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError
from mmtune.records import Record

_TOKEN = re.compile(r"(.+?)#(\d+)\t(.*)")
_MARKED = re.compile(r"\[/EN#\d+(?:/[^\s\[\]]+)+\s+([^\[\]]*)\]")
_LEFT_OVER = re.compile(r"\[/EN#\S*\s?|\]")
_SENTENCES = ("Sentences", "sentences")
_PICTURES = ("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images", *FOLDERS)
_SPLIT_FILE = re.compile(r"(?:Flickr_?(?:8|30)k[._])?(train|dev|val|test)(?:Images)?\.txt", re.IGNORECASE)
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class _Caption:
    """A caption, the name of its picture (with or without suffix), and the file and line that it stands in."""

    picture: str
    text: str
    where: str


@final
class Flickr(Reader):
    r"""Reads Flickr8k and Flickr30k in the forms in which they are handed out.

    - A token file (Flickr8k.token.txt, results_20130124.token): lines `name.jpg#0<TAB>caption`.
    - Flickr30k Entities: a folder `Sentences` with a text file a picture, a caption a line; the markup of phrases,
      `[/EN#12/people A girl]`, is taken out.

    Splits are lists of names beside them: Flickr_8k.trainImages.txt, train.txt. The tables of the same data sets,
    captions.txt (`image,caption`) and results.csv (`image_name| comment_number| comment`), are read by `csv`.
    """

    name: ClassVar[str] = "flickr"
    expects: ClassVar[str] = (
        "a token file (lines name.jpg#0<TAB>caption), or a folder Sentences of text files with captions marked as "
        "[/EN#1/people A girl], beside their pictures"
    )

    def claims(self, path: Path) -> bool:
        """Whether there is a token file, or a folder of marked sentences."""
        return _token_file(path) is not None or _sentences(path) is not None

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the lists of pictures found near the captions."""
        return tuple(part.split for part in _split_files(path))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or everything; see `Reader.read`."""
        token, sentences = _token_file(source.path), _sentences(source.path)
        if token is not None:
            captions, base = _tokens(token, log), token.parent
        elif sentences is not None:
            captions, base = _marked(sentences, log), sentences.parent
        else:
            raise DataError(f"{source.path}: expected {self.expects}; found neither")
        grouped: dict[str, list[_Caption]] = {}
        for caption in captions:
            grouped.setdefault(caption.picture, []).append(caption)
        names = None if source.split is None else _wanted(source.path, source.split)
        index = _index(base, inside=source.path == base)
        paths = {name: index.find(name) or index.find_stem(name) for name in grouped}
        if names is None and source.need_pictures:
            _note_idle(paths.values(), log)
        wanted = {name: found for name, found in grouped.items() if names is None or _stem(name) in names}
        records = (_record(name, paths[name], found, source, log) for name, found in wanted.items())
        return Content(tuple(record for record in records if record is not None))


def _index(base: Path, *, inside: bool) -> FileIndex:
    """Returns an index of the pictures in or below a folder, and unless it is all that was pointed at, beside it."""
    near = [base] if inside else [base, base.parent]
    return FileIndex([place for folder in near for place in (folder, *(folder / name for name in _PICTURES))])


def _record(name: str, path: Path | None, captions: Sequence[_Caption], source: Source, log: FaultLog) -> Record | None:
    where = captions[0].where
    if path is None and source.need_pictures:
        problem = f"expected a picture '{name}' near the captions, there is none; they were left out"
        log.add(where, name, "missing picture", problem)
        return None
    texts = tuple(caption.text for caption in captions)
    return Record(name if path is None else path.name, path and FilePicture(path), texts=texts, source=where)


def _token_file(path: Path) -> Path | None:
    """Returns the token file at a path; of Flickr8k's two the one with whole words."""
    if path.is_file():
        return path if _begins(path, _TOKEN) else None
    found = (file for pattern in ("*token*", "*/*token*") for file in sorted(path.glob(pattern)))
    return next((file for file in found if "lemma" not in file.name and _begins(file, _TOKEN)), None)


def _sentences(path: Path) -> Path | None:
    """Returns the folder of marked sentences at a path."""
    if not path.is_dir():
        return None
    for folder in (path, *(path / name for name in _SENTENCES)):
        file = next(iter(sorted(folder.glob("*.txt"))), None) if folder.is_dir() else None
        if file is not None and _begins(file, re.compile(r".*\[/EN#\d+/")):
            return folder
    return None


def _begins(file: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the first line of a file begins with a pattern."""
    try:
        with open_file(file) as stream:
            head = stream.read(_HEAD).decode("utf-8-sig", errors="replace").lstrip()
    except OSError:
        return False
    return pattern.match(head.split("\n")[0]) is not None


def _tokens(file: Path, log: FaultLog) -> Iterator[_Caption]:
    for number, line in enumerate(decoded_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        found = _TOKEN.fullmatch(line.rstrip("\r"))
        if found is None or not found[3].strip():
            problem = f"expected name#number, a tab and a caption, found {short(line)}; the line was left out"
            log.add(where, None, "malformed line", problem)
            continue
        yield _Caption(found[1], found[3].strip(), where)


def _marked(folder: Path, log: FaultLog) -> Iterator[_Caption]:
    for file in sorted(folder.glob("*.txt"), key=lambda file: natural_key(file.name)):
        empty = True
        for number, line in enumerate(decoded_text(file).split("\n"), start=1):
            text = _MARKED.sub(r"\1", line).strip()
            where = f"{file}:{number}"
            if "[/EN#" in text:
                problem = f"expected phrases such as [/EN#1/people A girl], found {short(line)}; the mark was left out"
                log.add(where, file.stem, "broken markup", problem)
                text = " ".join(_LEFT_OVER.sub("", text).split())
            if text:
                empty = False
                yield _Caption(file.stem, text, where)
        if empty:
            log.add(file, file.stem, "empty caption", "expected captions, the file is empty; it was left out")


def _split_files(path: Path) -> Sequence[TableFile]:
    """Returns the lists of names near the captions by the names of their splits."""
    found = _token_file(path) or _sentences(path)
    if found is None:
        return ()
    folders = [near for near in dict.fromkeys((found.parent, path)) if near.is_dir()]
    files = (file for near in folders for file in sorted(near.glob("*.txt")))
    named = [(match[1].lower(), file) for file in files if (match := _SPLIT_FILE.fullmatch(file.name))]
    order = ("train", "dev", "val", "test")
    return [TableFile(split, file) for split, file in sorted(named, key=lambda pair: order.index(pair[0]))]


def _wanted(path: Path, split: str) -> set[str]:
    """Returns the names of a split's pictures, without suffix."""
    (part, *_) = choose_split(path, _split_files(path), split)
    return {_stem(name.strip()) for name in decoded_text(part.path).split("\n") if name.strip()}


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def _note_idle(used: Iterable[Path | None], log: FaultLog) -> None:
    """Logs the pictures beside used ones that have no caption."""
    known = {path for path in used if path is not None}
    for folder in sorted({path.parent for path in known}):
        for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
            if path.suffix.lower() in SUFFIXES and path not in known:
                problem = "expected a caption of this picture, found none; it was left out"
                log.add(path, path.name, NO_CAPTION, problem)
