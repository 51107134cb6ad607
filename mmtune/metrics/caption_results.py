"""Caption results: COCO's and other public forms, scored without a model."""

from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.tables import natural_key
from mmtune.data.text_files import decoded_text
from mmtune.errors import DataError
from mmtune.metrics.caption import CaptionMetric
from mmtune.metrics.result_files import told_file
from mmtune.metrics.result_matching import RecordIndex
from mmtune.metrics.text_results import TextKind, TextResult, matched, read_text_results
from mmtune.records import Prediction, Record

FORMATS = ("coco", "jsonl", "tsv", "lines")
"""Forms of result files: COCO's caption results (JSON); predictions of mmtune; lines `id<TAB>text`; a caption a line,
for a truth that is a text file as well, or a folder of them."""

EXPECTED = (
    'caption results such as [{"image_id": 1, "caption": "a cat"}], predictions of mmtune (a JSON object a line with '
    "record and text), lines of an id, a tab and a caption, or (with such files as truth) a caption a line"
)

KIND = TextKind(
    noun="caption",
    owner="picture",
    ids=("image_id", "record", "image", "id", "file_name", "filename"),
    texts=("caption", "text", "prediction", "suffix"),
    expected=EXPECTED,
    item="an object with image_id and caption",
)


def score_captions(
    truth: str | Path,
    predictions: str | Path,
    form: str | None,
    log: FaultLog,
    metric: CaptionMetric | None = None,
) -> dict[str, Any]:
    """Scores a file of captions.

    Args:
        truth: Pictures with their captions, in any form that `mmtune.data.read` takes; the pictures themselves are not
            needed. For captions that are lines: a text file, or a folder of them (`ref1.txt`, `ref2.txt`), whose lines
            are the right captions in the same order.
        predictions: See `EXPECTED`. A picture without a caption counts as one whose caption is empty.
        form: One of `FORMATS`; None: told from the content.
        log: Takes the faults of the truth, and "malformed caption", "unknown picture", "duplicate caption" and "missing
            caption" of the predictions.
        metric: An empty state; None: that of the task without options.

    Returns:
        {"task", "n": pictures of the truth that have a caption, "metrics": see `CaptionMetric`, "invalid": how many
        captions of the file could not be used}.

    Raises:
        UsageError: For an unknown form.
        DataError: When truth or predictions cannot be used at all.
    """
    path = told_file(Path(predictions), form, FORMATS, "captions", EXPECTED)
    form = form or _format(path)
    metric = CaptionMetric() if metric is None else metric
    if form == "lines":
        _score_lines(Path(truth), path, metric)
        return {"task": "captioning", "n": metric.count, "metrics": metric.compute(), "invalid": 0}
    from mmtune.data.read import read

    data = read(str(truth), task="captioning", need_pictures=False)
    log.faults.extend(data.faults)
    known = [record for record in data if record.texts]
    if not known:
        raise DataError(f"{truth}: expected pictures with captions, found none that has one: nothing can be scored")
    index = RecordIndex(data)

    def find(caption: TextResult) -> str | None:
        record = index.find(caption.id, numbered=caption.id_key in ("image_id", ""))
        return None if record is None else record.id

    captions = read_text_results(path, form, KIND, log)
    found, refused = matched(captions, find, KIND, (path, truth), log)
    for record in known:
        if record.id not in found:
            problem = "there is no caption of this picture of the truth; it counts as an empty one"
            log.add(str(path), record.id, "missing caption", problem)
        text = found[record.id].text if record.id in found else ""
        metric.update(record, Prediction(record.id, "", text))
    return {"task": "captioning", "n": metric.count, "metrics": metric.compute(), "invalid": refused}


def _format(path: Path) -> str:
    """Returns which of `FORMATS` a file seems to have."""
    if path.suffix.lower() in (".json", ".jsonl"):
        return "coco" if path.suffix.lower() == ".json" else "jsonl"
    lines = [line for line in decoded_text(path).split("\n") if line.strip()]
    return "tsv" if lines and all("\t" in line for line in lines) else "lines"


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
                f"{file}: expected {len(captions)} lines, one for each of {predictions}, found {len(lines)}; where the "
                "truth is no such file, captions need ids (an id, a tab and a caption a line)"
            )
    for number, (caption, *right) in enumerate(zip(captions, *columns, strict=True), start=1):
        texts = tuple(text for text in right if text.strip())
        metric.update(Record(str(number), texts=texts), Prediction(str(number), "", caption))
    if not metric.count:
        raise DataError(f"{truth}: expected right captions, found empty lines only: nothing can be scored")


def _truth_files(truth: Path, predictions: Path) -> list[Path]:
    """Returns the text files with right captions: in a folder those named ref..., as any may lie beside them."""
    if truth.is_file():
        return [] if truth.suffix.lower() in (".json", ".jsonl", ".csv") else [truth]
    files = sorted(truth.glob("*.txt"), key=lambda file: natural_key(file.name))
    named = (file for file in files if file.name.lower().startswith("ref"))
    return [file for file in named if file.resolve() != predictions.resolve()]


def _lines(file: Path) -> list[str]:
    """Returns the lines of a file, without the empty one behind the last line's end."""
    lines = [line.rstrip("\r") for line in decoded_text(file).split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines
