"""Writing YOLO in Ultralytics' layout: data.yaml, images/ and labels/."""

from collections.abc import Sequence
from pathlib import Path

from mmtune.data.dataset import FaultLog
from mmtune.data.placing import Item


def write_yolo(items: Sequence[Item], classes: Sequence[str], folder: Path, log: FaultLog) -> int:
    """Writes a label file a picture, and data.yaml. Crowd regions are left out, as the format cannot mark them.

    Args:
        items: The records, with their pictures in the folder's `images`.
        classes: Class names, which get the numbers 0, 1, ...
        folder: An existing folder.
        log: Takes the fault "unknown size": rows are fractions of the picture's size.

    Returns:
        How many records were written.
    """
    import yaml

    numbers = {name: number for number, name in enumerate(classes)}
    (folder / "images").mkdir(exist_ok=True)
    (folder / "labels").mkdir()
    written = 0
    for item in items:
        record = item.record
        if record.size is None:
            problem = "expected a picture or its size, as YOLO's rows are fractions of it; the record was left out"
            log.add(record.source, record.id, "unknown size", problem)
            continue
        width, height = record.size
        rows = [
            f"{numbers[box.label]} {(box.x0 + box.x1) / 2 / width:.12g} {(box.y0 + box.y1) / 2 / height:.12g} "
            f"{box.width / width:.12g} {box.height / height:.12g}\n"
            for box in record.boxes
            if not box.crowd
        ]
        (folder / "labels" / f"{item.stem}.txt").write_text("".join(rows), encoding="utf-8")
        written += 1
    # There is one split only, and Ultralytics wants both names.
    content = {"train": "images", "val": "images", "names": dict(enumerate(classes))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return written
