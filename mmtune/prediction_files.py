"""`predictions.jsonl`: an answer a line, written and read back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.masks import segmentation_counts
from mmtune.data.objects import number, numbers, whole
from mmtune.errors import DataError
from mmtune.files import atomic, json_text
from mmtune.records import Box, Likelihood, Mask, Prediction, Record
from mmtune.task import Task


def prediction_json(task: Task, record: Record, prediction: Prediction) -> dict[str, Any]:
    """Returns one item of `mmtune predict --json` and one line of `predictions.jsonl`."""
    item: dict[str, Any] = {"image": record.picture.name if record.picture else None, "record": record.id}
    item |= {"task": task.name, "prompt": prediction.prompt, "text": prediction.text, "invalid": prediction.invalid}
    item |= task.as_json(prediction)
    if prediction.truth is not None:
        item["truth"] = {"logprob": prediction.truth.logprob, "tokens": prediction.truth.tokens}
    item["tokens"] = [{"text": text, "logprob": round(float(logprob), 6)} for text, logprob in prediction.tokens]
    return item


def write_predictions(task: Task, pairs: Iterable[tuple[Record, Prediction]], file: Path) -> None:
    """Writes one JSON line a record."""
    with atomic(file) as temporary, temporary.open("w", encoding="utf-8") as out:
        for record, prediction in pairs:
            out.write(json_text(prediction_json(task, record, prediction)) + "\n")


def read_predictions(file: Path) -> list[Prediction]:
    """Returns the predictions of a file that `write_predictions` wrote; of several of one record the first counts.

    Raises:
        DataError: When the file cannot be read, or a line is no prediction.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # texts may hold Unicode's other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected predictions, an object a line, but it cannot be read ({error})") from error
    found: dict[str, Prediction] = {}
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prediction = _prediction(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{file}, line {place}: expected a prediction as `mmtune train` and `mmtune eval` write it, found "
                f"{line[:60]!r}: evaluate again"
            ) from error
        found.setdefault(prediction.record, prediction)
    return list(found.values())


def _prediction(item: Mapping[str, Any]) -> Prediction:
    """Returns a prediction; raises one of Python's own errors for what is none."""
    truth = item.get("truth")
    masks = item.get("masks", ())
    return Prediction(
        _text(item["record"]),
        _text(item.get("prompt", "")),
        _text(item.get("text", "")),
        boxes=tuple(_box(box) for box in item.get("boxes", ())),
        masks=tuple(_mask(mask) for mask in masks),
        tokens=tuple((_text(token["text"]), float(token["logprob"])) for token in item.get("tokens", ())),
        invalid=int(item.get("invalid", 0)),
        truth=None if truth is None else Likelihood(float(truth["logprob"]), int(truth["tokens"])),
    )


def _box(item: Mapping[str, Any]) -> Box:
    edges = _known(numbers(item["box"], 4))
    return Box(_text(item["label"]), *edges, score=_score(item))


def _mask(item: Mapping[str, Any]) -> Mask:
    size: Sequence[int] = [_known(whole(side)) for side in item["rle"]["size"]]
    counts, _ = segmentation_counts(item["rle"], (size[1], size[0]))
    return Mask(_text(item["label"]), (size[0], size[1]), _known(counts), _score(item))


def _score(item: Mapping[str, Any]) -> float | None:
    return None if item.get("score") is None else _known(number(item["score"]))


def _known(value: Any) -> Any:
    if value is None:
        raise ValueError("unusable")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value
