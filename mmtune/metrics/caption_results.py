"""Caption results: COCO's and other public forms, scored without a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import json_rows, short
from mmtune.data.tables import first_key, natural_key
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.metrics.caption import CaptionMetric
from mmtune.metrics.coco import id_key
from mmtune.metrics.result_files import only_file
from mmtune.metrics.result_matching import RecordIndex
from mmtune.records import Prediction, Record

FORMATS = ("coco", "jsonl", "tsv", "lines")
"""Forms of result files: COCO's caption results (JSON); predictions of mmtune; lines `id<TAB>text`; a caption a line,
for a truth that is a text file as well, or a folder of them."""

EXPECTED = (
    'caption results such as [{"image_id": 1, "caption": "a cat"}], predictions of mmtune (a JSON object a line with '
    "record and text), lines of an id, a tab and a caption, or (with such files as truth) a caption a line"
)

_ID_KEYS = ("image_id", "record", "image", "id", "file_name", "filename")
_TEXT_KEYS = ("caption", "text", "prediction", "suffix")
_LISTS = ("annotations", "results", "predictions", "data")


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of a result file.

    Attributes:
        where: File and place.
        id: Of the picture: its number, or the record's id or name.
        text: What it says.
        numbered: Whether the id is an `image_id` before it is a name.
    """

    where: str
    id: str
    text: str
    numbered: bool = False


def score_captions(truth: str | Path, predictions: str | Path, form: str | None, log: FaultLog) -> dict[str, Any]:
    """Scores a file of captions.

    Args:
        truth: Pictures with their captions, in any form that `mmtune.data.read` takes; the pictures themselves are not
            needed. For captions that are lines: a text file, or a folder of them (`ref1.txt`, `ref2.txt`), whose lines
            are the right captions in the same order.
        predictions: See `EXPECTED`. A picture without a caption counts as one whose caption is empty.
        form: One of `FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed caption", "unknown picture", "duplicate caption" and "missing
            caption" of the predictions.

    Returns:
        {"task", "n": pictures of the truth that have a caption, "metrics": see `CaptionMetric`, "invalid": how many
        captions of the file could not be used}.

    Raises:
        UsageError: For an unknown form.
        DataError: When truth or predictions cannot be used at all.
    """
    path = Path(predictions)
    form = told_format(path, form)
    path = only_file(path)
    metric = CaptionMetric()
    if form == "lines":
        _score_lines(Path(truth), path, metric)
        return {"task": "captioning", "n": metric.count, "metrics": metric.compute(), "invalid": 0}
    from mmtune.data.read import read

    data = read(str(truth), task="captioning", need_pictures=False)
    log.faults.extend(data.faults)
    known = [record for record in data if record.texts]
    if not known:
        raise DataError(f"{truth}: expected pictures with captions, found none that has one: nothing can be scored")
    before = len(log.faults)
    found = _matched(read_captions(path, form, log), data, log)
    refused = log.faults[before:]
    if not found:
        first = f"; the first fault: {refused[0].file}: {refused[0].problem}" if refused else ""
        raise DataError(f"{path}: expected captions of the pictures of {truth}, found none{first}")
    for record in known:
        if record.id not in found:
            problem = "there is no caption of this picture of the truth; it counts as an empty one"
            log.add(str(path), record.id, "missing caption", problem)
        text = found[record.id].text if record.id in found else ""
        metric.update(record, Prediction(record.id, "", text))
    return {"task": "captioning", "n": metric.count, "metrics": metric.compute(), "invalid": len(refused)}


def told_format(path: Path, form: str | None) -> str:
    """Returns which of `FORMATS` a file has.

    Raises:
        UsageError: For an unknown form.
        DataError: When there is no such file.
    """
    if form is not None and form not in FORMATS:
        raise UsageError(unknown_name("form of captions", form, FORMATS))
    if not path.exists():
        raise DataError(f"{path}: expected {EXPECTED}; there is no such file")
    path = only_file(path)
    if path.is_dir():
        raise DataError(f"{path}: expected {EXPECTED}; found a folder")
    if form is not None:
        return form
    if path.suffix.lower() in (".json", ".jsonl"):
        return "coco" if path.suffix.lower() == ".json" else "jsonl"
    lines = [line for line in decoded_text(path).split("\n") if line.strip()]
    return "tsv" if lines and all("\t" in line for line in lines) else "lines"


def read_captions(path: Path, form: str, log: FaultLog) -> Iterator[Caption]:
    """Yields the captions of a file; what is none is logged.

    Args:
        path: The file.
        form: Any of `FORMATS` but "lines".
        log: Takes "malformed caption".

    Raises:
        DataError: When it cannot be read as that form.
    """
    if form == "tsv":
        yield from _tabbed(path, log)
        return
    if form == "jsonl" and path.suffix.lower() != ".json":
        for row in json_rows(path, log):
            yield from _item(row.values, row.place, log)
        return
    content = load_json(path)
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _LISTS if isinstance(content.get(key), list)), None)
        content = [{"id": key, "text": text} for key, text in content.items()] if inner is None else inner
    if not isinstance(content, list):
        raise DataError(f"{path}: expected {EXPECTED}; found {type(content).__name__}")
    for position, item in enumerate(content):
        yield from _item(item, f"{path}, item {position}", log)


def _item(item: Any, where: str, log: FaultLog) -> Iterator[Caption]:
    values = item if isinstance(item, Mapping) else {}
    name = first_key(values, _ID_KEYS) or ""
    key, text = values.get(name), values.get(first_key(values, _TEXT_KEYS) or "")
    if isinstance(key, (int, str, float)) and not isinstance(key, bool) and isinstance(text, str):
        yield Caption(where, id_key(key), text, numbered=name == "image_id")
        return
    problem = f"expected an object with image_id and caption, found {short(item)}; it was left out"
    log.add(where, id_key(key) if isinstance(key, (str, int)) else None, "malformed caption", problem)


def _tabbed(path: Path, log: FaultLog) -> Iterator[Caption]:
    # Unlike str.splitlines, which knows more than the ends of lines.
    for number, line in enumerate(decoded_text(path).split("\n"), start=1):
        key, tab, text = line.rstrip("\r").partition("\t")
        if tab and key.strip():
            yield Caption(f"{path}:{number}", key.strip(), text, numbered=True)
        elif line.strip():
            problem = f"expected an id, a tab and a caption, found {short(line)}; it was left out"
            log.add(f"{path}:{number}", None, "malformed caption", problem)


def _matched(captions: Iterator[Caption], data: Dataset, log: FaultLog) -> dict[str, Caption]:
    """Returns the captions by the ids of their records; what belongs to none is logged."""
    index = RecordIndex(data)
    found: dict[str, Caption] = {}
    for caption in captions:
        record = index.find(caption.id, caption.numbered)
        if record is None:
            problem = f"expected a picture of the truth, found {caption.id!r}, which it does not have; it was left out"
            log.add(caption.where, caption.id, "unknown picture", problem)
        elif record.id in found:
            problem = f"the picture has a caption in {found[record.id].where} already, which was kept"
            log.add(caption.where, record.id, "duplicate caption", problem)
        else:
            found[record.id] = caption
    return found


def _score_lines(truth: Path, predictions: Path, metric: CaptionMetric) -> None:
    """Adds each line, with the same line of the truth's files.

    Raises:
        DataError: When the truth is no text, or has another number of lines.
    """
    captions = _lines(predictions)
    files = _truth_files(truth, predictions)
    if not files:
        raise DataError(
            f"{truth}: expected a text file with the right captions in the order of {predictions}, or a folder of them "
            f"(ref1.txt, ref2.txt), found none. Otherwise captions need ids: {EXPECTED}"
        )
    columns = [_lines(file) for file in files]
    for file, lines in zip(files, columns, strict=True):
        if len(lines) != len(captions):
            raise DataError(
                f"{file}: expected {len(captions)} lines, one for each of {predictions}, found {len(lines)}"
            )
    for number, (caption, *right) in enumerate(zip(captions, *columns, strict=True), start=1):
        texts = tuple(text for text in right if text.strip())
        metric.update(Record(str(number), texts=texts), Prediction(str(number), "", caption))
    if not metric.count:
        raise DataError(f"{truth}: expected right captions, found empty lines only: nothing can be scored")


def _truth_files(truth: Path, predictions: Path) -> list[Path]:
    """Returns the text files with right captions: in a folder those named ref..., else all but the predictions."""
    if truth.is_file():
        return [] if truth.suffix.lower() in (".json", ".jsonl", ".csv") else [truth]
    files = sorted(truth.glob("*.txt"), key=lambda file: natural_key(file.name))
    named = [file for file in files if file.name.lower().startswith("ref")]
    return named or [file for file in files if file.resolve() != predictions.resolve()]


def _lines(file: Path) -> list[str]:
    """Returns the lines of a file, without the empty one behind the last line's end."""
    lines = [line.rstrip("\r") for line in decoded_text(file).split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines
