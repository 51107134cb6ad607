"""The lines and JSON forms in which pictures of words are listed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.codecs.plain_text import plain_text
from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.data.images import SUFFIXES
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import short
from mmtune.data.tables import first_key
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError

NAMES = ("img_path", "image", "file_name", "filename", "image_path", "img", "path", "name")
TEXTS = ("text", "word", "label", "transcription", "gt", "suffix")

_HEAD = 1 << 16
_ICDAR = re.compile(r'(\S.*?),\s*"(.*)"\s*')
_MJSYNTH = re.compile(r"\d+_(.+)_(\d+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture and the word on it.

    Attributes:
        where: File and line, or item.
        name: Of the picture, as listed.
        text: NFC, without white space at its ends.
        tab: Whether a tab stands between them.
    """

    where: str
    name: str
    text: str
    tab: bool = False


def word_list(file: Path, log: FaultLog) -> tuple[Entry, ...]:
    """Returns the entries of a list in its order.

    Args:
        file: A JSON file, or a text file with a line a picture.
        log: Takes "malformed line" and "no word".

    Raises:
        DataError: When the file cannot be read, or nothing in it is a picture with a word.
    """
    is_json = file.suffix.lower() == ".json"
    entries = tuple(_json(file, log) if is_json else _lines(file, decoded_text(file), log))
    if not entries:
        raise DataError(f"{file}: expected the names of pictures with the words on them, found none")
    return entries


def list_head(file: Path) -> tuple[Entry, ...]:
    """Returns entries at the beginning of a file, none where it is no such list."""
    log = FaultLog()
    try:
        if file.suffix.lower() == ".json":
            return word_list(file, log)
        with open_file(file) as stream:
            data = stream.read(_HEAD)
        # The last line may be cut, within a character even.
        lines = data if len(data) < _HEAD else data.rpartition(b"\n")[0]
        return tuple(_lines(file, lines.decode("utf-8-sig"), log))
    except (DataError, OSError, UnicodeDecodeError):
        return ()


def _lines(file: Path, text: str, log: FaultLog) -> Iterator[Entry]:
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    split = _splitter([line for _, line in lines])
    for number, line in lines:
        where, pair = f"{file}:{number}", split(line)
        if pair is None:
            problem = f"expected the name of a picture and a word, found {short(line)}; the line was left out"
            log.add(where, None, "malformed line", problem)
        else:
            yield from _entry(where, *pair, log, tab=split is _tab)


def _splitter(lines: Sequence[str]) -> Callable[[str], tuple[str, str] | None]:
    """Returns the function that most of the lines can be split with; a tab goes before the others."""
    ways = (_tab, _icdar, _space)
    counts = [sum(way(line) is not None for line in lines) for way in ways]
    return ways[counts.index(max(counts))]


def _tab(line: str) -> tuple[str, str] | None:
    name, tab, text = line.partition("\t")
    return (name.strip(), text) if tab and name.strip() else None


def _icdar(line: str) -> tuple[str, str] | None:
    match = _ICDAR.fullmatch(line)
    return (match[1].strip(), re.sub(r'\\(["\\])', r"\1", match[2])) if match else None


def _space(line: str) -> tuple[str, str] | None:
    name, space, text = line.strip().partition(" ")
    if not space or PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return None
    coded = _MJSYNTH.fullmatch(PurePosixPath(name).stem)
    return name, coded[1] if coded and coded[2] == text.strip() else text


def _json(file: Path, log: FaultLog) -> Iterator[Entry]:
    content = load_json(file)
    if isinstance(content, Mapping) and isinstance(content.get("data_list"), list):
        content = content["data_list"]
    expected = "an object with img_path and text"
    if isinstance(content, Mapping):
        content = [{NAMES[0]: name, TEXTS[0]: text} for name, text in content.items()]
        expected = "a text by the name of its picture"
    for position, item in enumerate(content if isinstance(content, list) else ()):
        where, values = f"{file}, item {position}", item if isinstance(item, Mapping) else {}
        name, texts = values.get(first_key(values, NAMES) or ""), _texts(values)
        if isinstance(name, str) and name and texts:
            yield from (entry for text in texts for entry in _entry(where, name, text, log))
        else:
            problem = f"expected {expected}, found {short(item)}; it was left out"
            log.add(where, name if isinstance(name, str) else None, "malformed line", problem)


def _entry(where: str, name: str, text: str, log: FaultLog, *, tab: bool = False) -> Iterator[Entry]:
    plain = plain_text(text)
    if plain:
        yield Entry(where, name, plain, tab)
    else:
        log.add(where, name, "no word", "expected a word, found none; the entry was left out")


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Returns the texts of an item, those of its instances where it has any."""
    instances = values.get("instances")
    items = [item for item in instances if isinstance(item, Mapping)] if isinstance(instances, list) else [values]
    found = [item.get(first_key(item, TEXTS) or "") for item in items]
    # Words such as 2024 may stand there as numbers; a fraction such as 9.90 has lost its last digit by then.
    return [str(text) for text in found if isinstance(text, str) or type(text) is int]
