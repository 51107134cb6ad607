"""Which JSON files at a path hold questions about pictures, which splits they are, and which belong together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.confinement import is_inside, open_file
from mmtune.data.tables import SPLIT_NAMES, natural_key, split_key
from mmtune.errors import DataError, unknown_name

QUESTIONS, ANNOTATIONS, ITEMS = "questions", "annotations", "items"
"""VQA v2's questions, its answers to them, and files that hold both."""

_HEAD = 256 * 1024  # such files are large, and begin with what they are
_MOST_FILES = 200  # a folder with more has one for each picture, which is another format
_APART = ("Questions", "Annotations", "questions", "annotations")
_LIST = rb'"%s"\s*:\s*\['
_QUESTION = re.compile(rb'"(question|query)"\s*:\s*"')
_PICTURE = re.compile(
    rb'"(image|imgname|image_filename|file_path|image_local_name|file_name|image_id|imageId|qas)"\s*:\s*["\d\[]'
)
_TABLE = re.compile(rb'\{\s*"[^"]*"\s*:\s*\{')  # GQA's: an object of objects
_MARKS = re.compile(r"^(v\d_)?((OpenEnded|MultipleChoice)_)?(mscoco_)?|_?(questions|annotations)$")


@dataclass(frozen=True)
class QuestionFile:
    """A file.

    Attributes:
        path: Where it is.
        kind: `QUESTIONS`, `ANNOTATIONS` or `ITEMS`.
        split: What is left of its name ("train2014" of `v2_OpenEnded_mscoco_train2014_questions.json`), that of its
            folder if nothing is, or "".
    """

    path: Path
    kind: str
    split: str


def question_files(path: Path) -> Sequence[QuestionFile]:
    """Returns the files at a path, those in folders a level below it included, the splits in the usual order."""
    if path.is_file():
        return _known([path])
    files = sorted((*path.glob("*.json"), *path.glob("*/*.json")), key=lambda file: natural_key(file.as_posix()))
    if len(files) > _MOST_FILES:
        return ()
    return sorted(_known(files), key=lambda file: split_key(file.split)[0])


def choose(files: Sequence[QuestionFile], split: str, path: Path) -> Sequence[QuestionFile]:
    """Returns the files of a split: by its name, or by a word of it, without the year if you like (`val`).

    Raises:
        DataError: When there is none.
    """
    exact = [file for file in files if file.split == split]
    chosen = exact or [file for file in files if split in _words(file.split)]
    if not chosen:
        raise DataError(f"{path}: {unknown_name('split', split, {file.split for file in files if file.split})}")
    return chosen


def partner(file: QuestionFile, kind: str) -> Path | None:
    """Returns the answers that belong to questions, or the reverse, or None.

    That is the file of the same split in the same folder, or in one beside it such as `Annotations`; without one, the
    only file of its kind in the same folder.
    """
    folder = file.path.parent
    around = [place for name in _APART if is_inside(place := folder.parent / name)]
    beside = [other for other in _known(folder.glob("*.json")) if other.kind == kind]
    apart = [other for place in around for other in _known(place.glob("*.json")) if other.kind == kind]
    same = [other.path for other in (*beside, *apart) if other.split == file.split]
    found = same or [other.path for other in beside]
    return found[0] if same or len(found) == 1 else None


def _known(files: Iterable[Path]) -> list[QuestionFile]:
    return [QuestionFile(file, kind, _split_name(file)) for file in files if (kind := _kind(file))]


def _kind(file: Path) -> str | None:
    """Returns what a file holds, judged by its beginning."""
    if file.suffix.lower() != ".json":
        return None
    try:
        with open_file(file) as stream:
            text = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return None
    opened = text[:1]
    if opened == b"{" and re.search(_LIST % b"annotations", text) and b'"question_id"' in text and b'"answers"' in text:
        return ANNOTATIONS
    if not _QUESTION.search(text) or not _PICTURE.search(text):
        return None
    if opened == b"{" and re.search(_LIST % b"questions", text):
        return QUESTIONS
    # Not JSON lines, which begin with an object that holds plain values.
    if opened == b"[" or _TABLE.match(text) or (opened == b"{" and re.search(_LIST % b"data", text)):
        return ITEMS
    return None


def _split_name(file: Path) -> str:
    name = _MARKS.sub("", file.stem)
    return name or (file.parent.name if file.parent.name in SPLIT_NAMES else "")


def _words(split: str) -> set[str]:
    words = re.split(r"[^A-Za-z0-9]+", split)
    return {*words, *(re.sub(r"\d+$", "", word) for word in words)}
