"""Result files of texts by their ids, as captions, answers and readings all are: read, and matched with the truth."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import json_rows, short
from mmtune.data.tables import first_key
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError
from mmtune.metrics.coco import id_key


@dataclass(frozen=True, kw_only=True)
class TextKind:
    """What the texts of a task are called, and under which keys they stand.

    Attributes:
        noun: "caption", in messages and in the names of faults.
        owner: "picture": what a text belongs to.
        ids, texts: Keys of the id ("id" among them) and of the text, those that count first.
        lists: Keys of the list in a file that holds an object.
        expected: A sentence on the files that can be read.
        item: What one item should be.
    """

    noun: str
    owner: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    lists: tuple[str, ...] = ("results", "predictions", "data", "annotations")
    expected: str
    item: str


@dataclass(frozen=True, slots=True)
class TextResult:
    """One line or item of a result file.

    Attributes:
        where: File and place.
        id: Of what it belongs to.
        text: What it says.
        id_key, text_key: Under which keys these stood; empty in a file of lines.
    """

    where: str
    id: str
    text: str
    id_key: str = ""
    text_key: str = ""


def read_text_results(path: Path, form: str, kind: TextKind, log: FaultLog) -> Iterator[TextResult]:
    """Yields the texts of a file; what is none of them is logged as "malformed <noun>".

    Args:
        path: The file.
        form: "tsv": lines `id<TAB>text`; "jsonl": an object a line, unless the file is named .json; anything else: a
            JSON list of objects, an object that holds such a list, or one of texts by their ids.
        kind: What they are.
        log: Takes the faults.

    Raises:
        DataError: When it cannot be read as that form.
    """
    if form == "tsv":
        yield from _lines(path, kind, log)
    elif form == "jsonl" and path.suffix.lower() != ".json":
        for row in json_rows(path, log):
            yield from _item(row.values, row.place, kind, log)
    else:
        yield from _json(load_json(path), path, kind, log)


def matched(
    results: Iterable[TextResult],
    find: Callable[[TextResult], str | None],
    kind: TextKind,
    paths: tuple[Path | str, Path | str],
    log: FaultLog,
) -> tuple[dict[str, TextResult], int]:
    """Returns the results by what they belong to, and how many could not be used.

    Args:
        results: From `read_text_results`, read within this call so that its faults are counted.
        find: Returns a name for what a result belongs to; None: the truth does not have it.
        kind: What they are.
        paths: Of the results and of the truth, for messages.
        log: Takes "unknown <owner>" and "duplicate <noun>".

    Raises:
        DataError: When no result belongs to the truth.
    """
    before = len(log.faults)
    found: dict[str, TextResult] = {}
    for result in results:
        key = find(result)
        if key is None:
            problem = f"expected a {kind.owner} of the truth, found {result.id!r}, which it does not have (or twice)"
            log.add(result.where, result.id, f"unknown {kind.owner}", f"{problem}; the {kind.noun} was left out")
        elif key in found:
            problem = f"the {kind.noun} of this {kind.owner} in {found[key].where} was kept, not this second one"
            log.add(result.where, result.id, f"duplicate {kind.noun}", problem)
        else:
            found[key] = result
    refused = log.faults[before:]
    if not found:
        first = f"; the first fault: {refused[0].file}: {refused[0].problem}" if refused else ""
        raise DataError(f"{paths[0]}: expected {kind.noun}s for the {kind.owner}s of {paths[1]}, found none{first}")
    return found, len(refused)


def _lines(path: Path, kind: TextKind, log: FaultLog) -> Iterator[TextResult]:
    # Unlike str.splitlines, which knows more than the ends of lines.
    for number, line in enumerate(decoded_text(path).split("\n"), start=1):
        key, tab, text = line.rstrip("\r").partition("\t")
        if tab and key.strip():
            yield TextResult(f"{path}:{number}", key.strip(), text)
        elif line.strip():
            problem = f"expected an id, a tab and the {kind.noun}, found {short(line)}; the line was left out"
            log.add(f"{path}:{number}", None, f"malformed {kind.noun}", problem)


def _json(content: Any, path: Path, kind: TextKind, log: FaultLog) -> Iterator[TextResult]:
    if isinstance(content, Mapping):
        inner = next((content[key] for key in kind.lists if isinstance(content.get(key), list)), None)
        if inner is None:  # by their ids: texts, or objects as in A-OKVQA
            first = kind.texts[0]
            rows = ((key, row if isinstance(row, Mapping) else {first: row}) for key, row in content.items())
            inner = [dict(row) | {"id": key} for key, row in rows]
        content = inner
    if not isinstance(content, list):
        raise DataError(f"{path}: expected {kind.expected}; found {type(content).__name__}")
    for position, item in enumerate(content):
        yield from _item(item, f"{path}, item {position}", kind, log)


def _item(item: Any, where: str, kind: TextKind, log: FaultLog) -> Iterator[TextResult]:
    values = item if isinstance(item, Mapping) else {}
    key_name, text_name = first_key(values, kind.ids) or "", first_key(values, kind.texts) or ""
    key, text = values.get(key_name), values.get(text_name)
    if type(text) in (int, float):
        text = str(text)
    named = isinstance(key, (int, str, float)) and not isinstance(key, bool)
    if named and isinstance(text, str):
        yield TextResult(where, id_key(key), text, key_name, text_name)
        return
    problem = f"expected {kind.item}, found {short(item)}; it was left out"
    log.add(where, id_key(key) if named else None, f"malformed {kind.noun}", problem)
