"""Pictures of what a model would be taught: targets written as text, read back, and drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.dataset import FaultLog
from mmtune.files import atomic
from mmtune.records import Output, Prediction, Record
from mmtune.task import Task

if TYPE_CHECKING:
    from PIL import Image

OVERLAYS = 8

_CELL = 480
_COLUMNS = 4


def write_overlays(records: Sequence[Record], task: Task, out: Path, log: FaultLog) -> tuple[Path, ...]:
    """Writes overlay_1.png, ... and the contact sheet overlays.png; returns the files, the sheet last.

    Args:
        records: Those that the task can use, their sizes known; at most `OVERLAYS` with pictures are drawn, spread
            evenly over them.
        task: The adapter that writes the targets, reads them back and draws them.
        out: The folder, made where it is absent.
        log: Takes "target not readable".
    """
    with_picture = [record for record in records if record.picture is not None]
    count = min(OVERLAYS, len(with_picture))
    chosen = [with_picture[index * len(with_picture) // count] for index in range(count)]
    for number in range(count + 1, OVERLAYS + 1):
        (out / f"overlay_{number}.png").unlink(missing_ok=True)  # of an earlier run with more records
    files: list[Path] = []
    drawn: list[tuple[str, Image.Image]] = []
    for number, record in enumerate(chosen, start=1):
        image, text = _overlay(record, task, log)
        file = out / f"overlay_{number}.png"
        _save(image, file)
        files.append(file)
        drawn.append((f"{record.id}: {text}", image))
    if drawn:
        sheet = out / "overlays.png"
        _save(_contact_sheet(drawn), sheet)
        files.append(sheet)
    return tuple(files)


def reread(record: Record, task: Task) -> Prediction:
    """Returns what a perfect answer is read as: the record's targets, written as text and read back."""
    answers = [
        (query, Output("".join(span.text for span in target)))
        for query in task.queries(record)
        if query.look.plain
        for target in task.targets(record, query)[:1]
    ]
    return task.parse(record, answers)


def _overlay(record: Record, task: Task, log: FaultLog) -> tuple["Image.Image", str]:
    """Returns the picture with the target that was encoded and decoded again, and the target's text."""
    prediction = reread(record, task)
    if prediction.invalid:
        problem = f"{prediction.invalid} parts of the target could not be read back: {prediction.text[:200]}"
        log.add(record.source, record.id, "target not readable", problem)
    assert record.picture is not None
    # A target has no scores: every label would carry the same 1.00.
    plain = replace(
        prediction,
        boxes=tuple(replace(box, score=None) for box in prediction.boxes),
        masks=tuple(replace(mask, score=None) for mask in prediction.masks),
    )
    return task.draw(record.picture.open(), plain), prediction.text


def _save(image: "Image.Image", file: Path) -> None:
    with atomic(file) as temporary:
        image.save(temporary, format="PNG")


def _contact_sheet(drawn: Sequence[tuple[str, "Image.Image"]]) -> "Image.Image":
    """Returns the pictures side by side, each with a line of text under it."""
    from PIL import Image, ImageDraw, ImageFont

    line, margin = 22, 8
    font = ImageFont.load_default(14)
    small = []
    for text, image in drawn:
        copy = image.copy()
        copy.thumbnail((_CELL, _CELL))
        small.append((text, copy))
    rows = [small[start : start + _COLUMNS] for start in range(0, len(small), _COLUMNS)]
    heights = [max(image.height for _, image in row) + line + margin for row in rows]
    width = len(rows[0]) * (_CELL + margin) + margin
    sheet = Image.new("RGB", (width, sum(heights) + margin), "white")
    draw = ImageDraw.Draw(sheet)
    y = margin
    for row, height in zip(rows, heights, strict=True):
        for column, (text, image) in enumerate(row):
            x = margin + column * (_CELL + margin)
            sheet.paste(image, (x, y))
            draw.text((x, y + image.height + 2), _clipped(text, draw, font), fill="black", font=font)
        y += height
    return sheet


def _clipped(text: str, draw: Any, font: Any) -> str:
    """Returns as much of a text, on one line, as a cell is wide."""
    text = "".join(char if char.isprintable() else " " for char in text[:200])
    while text and draw.textlength(text, font=font) > _CELL:
        text = text[: -max(1, len(text) // 20)]
    return text
