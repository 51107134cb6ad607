"""Reading files of texts that were read off pictures, before anything is known of the truth."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import short
from mmtune.data.receipts import FIELDS
from mmtune.data.tables import natural_key
from mmtune.data.text_files import FOUND, TRUTH, decoded_text, read_text, text_stem
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.metrics.text_results import TextKind, TextResult, read_text_results

FORMATS = ("text", "tsv", "json", "jsonl", "sroie")
"""Forms of result files: a text file a picture; lines `id<TAB>text`; JSON; predictions of mmtune; SROIE's facts."""

FACTS = "sroie"

EXPECTED = (
    "a folder of text files named after the pictures, lines of an id, a tab and a text, JSON such as "
    '[{"id": "1", "text": "..."}] or {"1": "..."}, predictions of mmtune (a JSON object a line with record and text), '
    'or SROIE\'s files such as 1.json with {"company": "...", "total": "..."}'
)

KIND = TextKind(
    noun="text",
    owner="picture",
    ids=("record", "id", "image", "image_id", "file_name", "filename", "img_path", "image_path"),
    texts=("text", "prediction", "answer", "ocr", "suffix", "transcription"),
    expected=EXPECTED,
    item="an object with the id of a picture and a text",
)


def told_format(path: Path, form: str | None) -> str:
    """Returns which of `FORMATS` a file or folder has.

    Args:
        path: The file or folder.
        form: What the user says, or None.

    Raises:
        UsageError: For an unknown form.
        DataError: When there is no such file or folder.
    """
    if form is not None and form not in FORMATS:
        raise UsageError(unknown_name("form of texts", form, FORMATS))
    if not path.exists():
        raise DataError(f"{path}: expected {EXPECTED}; there is no such file or folder")
    if form is not None:
        return form
    if path.is_dir():
        files = [file.suffix.lower() for file in path.rglob("*") if file.is_file()]
        return FACTS if ".json" in files and ".txt" not in files else "text"
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return "jsonl"
    if suffix == ".json":
        return FACTS if _is_facts(load_json(path)) else "json"
    lines = [line for line in decoded_text(path).split("\n") if line.strip()]
    is_text = path.name.lower().endswith((TRUTH, *FOUND)) or not lines or not all("\t" in line for line in lines)
    return "text" if is_text and suffix != ".tsv" else "tsv"


def read_readings(path: Path, form: str, log: FaultLog) -> list[TextResult]:
    """Returns the texts in a file or folder; what cannot be used is logged.

    Args:
        path: See `EXPECTED`.
        form: As `told_format` gives it.
        log: Takes "malformed text" and "unreadable text".

    Raises:
        DataError: When it cannot be read as that form.
    """
    if form == "text":
        return list(_texts(path, log))
    if form == FACTS:
        return list(_facts(path, log))
    if path.is_dir():
        raise DataError(f"{path}: expected a file for the form {form}, found a folder")
    return list(read_text_results(path, form, KIND, log))


def _texts(path: Path, log: FaultLog) -> Iterator[TextResult]:
    """Yields the text of each file: `1.ocr.txt` and `1.pred.txt`, where there are none `1.txt` and `1.gt.txt`."""
    if path.is_file():
        yield TextResult(str(path), text_stem(path.name), read_text(path))
        return
    files = sorted((file for file in path.rglob("*.txt") if file.is_file()), key=lambda file: natural_key(str(file)))
    marked = [file for file in files if file.name.lower().endswith(FOUND)]
    plain = [file for file in files if not file.name.lower().endswith(TRUTH)]
    for file in marked or plain or files:
        key = (file.parent.relative_to(path) / text_stem(file.name)).as_posix()
        try:
            yield TextResult(str(file), key, read_text(file))
        except DataError as error:
            log.add(file, key, "unreadable text", f"{error}; it was left out")


def _is_facts(content: Any) -> bool:
    """Whether JSON holds facts of a receipt, or of several by their names."""
    if not isinstance(content, Mapping):
        return False
    objects = [value for value in content.values() if isinstance(value, Mapping)]
    return any(set(FIELDS) & one.keys() for one in (content, *objects))


def _facts(path: Path, log: FaultLog) -> Iterator[TextResult]:
    """Yields a text a fact; its id is `1/total`."""
    files = [path]
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.suffix.lower() in (".json", ".txt"))
        files = sorted(found, key=lambda file: natural_key(str(file)))
    for file in files:
        key = (file.parent.relative_to(path) / file.stem).as_posix() if path.is_dir() else file.stem
        try:
            content = load_json(file)
        except DataError as error:
            log.add(file, key, "unreadable text", f"{error}; it was left out")
            continue
        if not isinstance(content, Mapping):
            problem = f"expected a JSON object of facts, found {short(content)}; it was left out"
            log.add(file, key, "malformed text", problem)
            continue
        several = [(name, one) for name, one in content.items() if isinstance(one, Mapping)]
        for name, facts in several or [(key, content)]:
            for field, text in facts.items():
                if isinstance(text, (str, int, float)):
                    yield TextResult(str(file), f"{name}/{field}", str(text))
                else:
                    problem = f"expected a text as {field}, found {short(text)}; it was left out"
                    log.add(file, f"{name}/{field}", "malformed text", problem)
