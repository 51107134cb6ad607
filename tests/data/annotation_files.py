"""Small pictures and annotation files for the tests of the readers."""

import json
from pathlib import Path
from typing import Any

from PIL import Image


def photo(path: Path, size: tuple[int, int] = (100, 80), orientation: int | None = None) -> Path:
    """Writes a grey picture of (width, height) as stored, with an EXIF orientation where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", size, "grey").save(path, exif=exif)
    return path


def coco_file(path: Path, annotations: list[Any], **content: Any) -> Path:
    """Writes a COCO file with one picture (id 1, a.jpg, 100 x 80) and the classes cat (1) and dog (2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(base | content))
    return path


def coco_box(bbox: Any = (10, 20, 30, 40), **more: Any) -> dict[str, Any]:
    """Returns an annotation of picture 1 and class 1."""
    return {"id": 7, "image_id": 1, "category_id": 1, "bbox": bbox, "iscrowd": 0} | more


def voc_file(
    path: Path, objects: str = "", size: str = "<width>100</width><height>80</height>", name: str = ""
) -> Path:
    """Writes a Pascal VOC file for the picture named as the file, or as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = name or f"{path.stem}.jpg"
    text = f"<annotation>\n<filename>{name}</filename>\n<size>{size}<depth>3</depth></size>\n{objects}\n</annotation>\n"
    path.write_text(text)
    return path


def voc_object(name: str = "cat", edges: tuple[Any, Any, Any, Any] = (10, 20, 40, 60), more: str = "") -> str:
    """Returns an <object> with xmin, ymin, xmax, ymax."""
    tags = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{tags}</bndbox></object>\n"
