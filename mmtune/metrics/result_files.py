"""Reading files of detections into rows, before anything is known of the truth that they belong to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.data.dataset import FaultLog
from mmtune.data.json_files import load_json
from mmtune.data.masks import mask_edges, segmentation_counts
from mmtune.data.objects import number, numbers, whole
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.metrics.coco import id_key

FORMS = ("abs_xywh", "abs_xyx2y2", "rel_xywh")
"""Forms of a folder of text files, `class score a b c d` a line: corner and size in pixels, two corners in pixels,
centre and size in fractions of the picture."""

FORMATS = ("coco", "jsonl", *FORMS)

NAME_FILES = ("obj.names", "classes.names", "classes.txt", "names.txt", "labels.txt")
EXPECTED = (
    "a COCO results list, a COCO dict with annotations, predictions of mmtune (a JSON object a line, or a list of "
    "them), or a folder of text files with `class score` and four numbers a line"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One detection as written.

    Attributes:
        where: File and line or item.
        image: The picture by number, path, file name or stem.
        label: The class by name or number.
        score: Finite.
        values: Four finite numbers, whose meaning the form tells.
        mask: What stands for its mask in the file, not yet judged; None where there is none.
    """

    where: str
    image: Any
    label: Any
    score: float
    values: tuple[float, ...]
    mask: Any = None


@dataclass
class Rows:
    """The content of a file or folder of detections.

    Attributes:
        form: One of `FORMS`; None: to be told from the values.
        coco: Whether classes that are given by number are COCO categories.
        numbered: Whether pictures are given by `image_id` rather than by name.
        names: Class names by the number that the rows use, where the files say so.
        rows: In the order of the files.
        images: Pictures that the files mention, whether or not they have detections.
        invalid: How many parts of the model's text could not be parsed, by picture.
    """

    form: str | None
    coco: bool = False
    numbered: bool = False
    names: dict[str, str] | None = None
    rows: list[Row] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    invalid: dict[Any, int] = field(default_factory=dict)


def read_rows(path: Path, format: str | None, log: FaultLog) -> Rows:  # noqa: A002 - the command line's word
    """Reads a file or folder of detections; lines that cannot be used are logged.

    Args:
        path: See `EXPECTED`.
        format: One of `FORMATS`, or None: told from the content.
        log: Takes the faults "malformed line", "no score" and "no geometry".

    Raises:
        UsageError: For an unknown format.
        DataError: When there is no such file, or it is of none of the formats.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(unknown_name("format of detections", format, FORMATS))
    if not path.exists():
        raise DataError(f"{path}: expected {EXPECTED}; there is no such file or folder")
    path = only_file(path)
    if path.is_dir():
        if format in ("coco", "jsonl"):
            raise DataError(f"{path}: expected a file for the format {format}, found a folder")
        return _text_folder(path, format, log)
    if format in FORMS:
        raise DataError(f"{path}: expected a folder of text files for the format {format}, found a file")
    if path.suffix.lower() == ".jsonl" or (format == "jsonl" and path.suffix.lower() != ".json"):
        return _own(path, _json_lines(path, log), log)
    content = load_json(path)
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), list):
        return _coco(path, content["annotations"], content, log)
    if isinstance(content, list):
        if format == "jsonl" or is_own(content):
            return _own(path, [(f"{path}, item {index}", item) for index, item in enumerate(content)], log)
        return _coco(path, content, {}, log)
    raise DataError(f"{path}: expected {EXPECTED}; found {type(content).__name__} without annotations")


def only_file(path: Path) -> Path:
    """Returns the one JSON file in a folder that holds nothing else to read, any other path as it is."""
    if not path.is_dir():
        return path
    files = [file for file in path.iterdir() if file.suffix.lower() in (".txt", ".json", ".jsonl")]
    return files[0] if len(files) == 1 and files[0].suffix.lower() != ".txt" else path


def told_file(path: Path, form: str | None, formats: Sequence[str], what: str, expected: str) -> Path:
    """Returns the file that results are read from, see `only_file`.

    Args:
        path: What the user points at.
        form: The form that the user says it has, or None.
        formats: The forms there are.
        what: The results' name, such as "captions".
        expected: What the file should be.

    Raises:
        UsageError: For an unknown form.
        DataError: When there is no such file.
    """
    if form is not None and form not in formats:
        raise UsageError(unknown_name(f"form of {what}", form, formats))
    if not path.exists():
        raise DataError(f"{path}: expected {expected}; there is no such file")
    path = only_file(path)
    if path.is_dir():
        raise DataError(f"{path}: expected {expected}; found a folder")
    return path


def is_own(content: Sequence[Any]) -> bool:
    """Whether a JSON list holds mmtune's predictions rather than COCO results."""
    return any(isinstance(item, Mapping) and "boxes" in item for item in content)


def _coco(path: Path, items: Sequence[Any], content: Mapping[str, Any], log: FaultLog) -> Rows:
    """Reads a COCO results list, or the annotations of a dict that names its own images and categories."""
    images = {id_key(image["id"]): image["file_name"] for image in _objects(content, "images", "file_name")}
    names = {id_key(item["id"]): str(item["name"]) for item in _objects(content, "categories", "name")}
    result = Rows("abs_xywh", coco=True, numbered=not images, names=names or None)
    result.images = list(images.values())
    for index, item in enumerate(items):
        where = f"{path}, item {index}"
        if not isinstance(item, Mapping) or "image_id" not in item or "category_id" not in item:
            problem = f"expected an object with image_id and category_id, found {item!r:.60}; it was left out"
            log.add(where, None, "malformed line", problem)
            continue
        image = images.get(id_key(item["image_id"]), item["image_id"])
        values, score = _coco_box(item), number(item.get("score"))
        if score is None:
            _no_score(where, image, item.get("score"), log)
        elif values is None:
            found = repr(item.get("bbox", item.get("segmentation")))[:60]
            problem = f"expected four numbers as bbox, or run lengths as segmentation, found {found}; it was left out"
            log.add(where, image, "no geometry", problem)
        else:
            result.rows.append(Row(where, image, item["category_id"], score, values, item.get("segmentation")))
    return result


def _objects(content: Mapping[str, Any], key: str, needed: str) -> Iterator[Mapping[str, Any]]:
    found = content.get(key)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, Mapping) and "id" in item and needed in item:
            yield item


def _coco_box(item: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Returns x, y, width, height of a result, from its mask where it brings no box."""
    mask = item.get("segmentation")
    if item.get("bbox"):
        return numbers(item.get("bbox"), 4)
    if isinstance(mask, list):
        return _around(mask)
    if not isinstance(mask, Mapping):
        return None
    size = [whole(value) for value in mask.get("size") or ()]
    if len(size) != 2 or size[0] is None or size[1] is None:
        return None
    counts, _ = segmentation_counts(mask, (size[1], size[0]))
    if counts is None:
        return None
    x0, y0, x1, y1 = mask_edges((size[0], size[1]), counts)
    return x0, y0, x1 - x0, y1 - y0


def _around(polygons: list[Any]) -> tuple[float, ...] | None:
    """Returns x, y, width, height around polygons [x0, y0, x1, y1, ...]."""
    found = [numbers(polygon, len(polygon)) if isinstance(polygon, list) else None for polygon in polygons]
    x = [value for points in found for value in (points or ())[::2]]
    y = [value for points in found for value in (points or ())[1::2]]
    return (min(x), min(y), max(x) - min(x), max(y) - min(y)) if x and y else None


def _json_lines(path: Path, log: FaultLog) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a JSON object a line in UTF-8, but it cannot be read: {error}") from error
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        where = f"{path}:{line}"
        try:
            yield where, json.loads(content)
        except json.JSONDecodeError as error:
            problem = f"expected a JSON object, but at column {error.colno}: {error.msg}; the line was left out"
            log.add(where, None, "malformed line", problem)


def _own(path: Path, items: Any, log: FaultLog) -> Rows:
    """Reads mmtune's own predictions: {"record" or "image", "boxes": [{"label", "score", "box": two corners}]}."""
    result = Rows("abs_xyx2y2")
    for where, item in items:
        image = item.get("record") or item.get("image") if isinstance(item, Mapping) else None
        if not isinstance(image, str | int) or not isinstance(item.get("boxes"), list):
            problem = f"expected an object with record (or image) and a list of boxes, found {item!r:.60}; left out"
            log.add(where, image, "malformed line", problem)
            continue
        result.images.append(image)
        result.invalid[image] = result.invalid.get(image, 0) + (whole(item.get("invalid")) or 0)
        masks = item.get("masks")
        masks = masks if isinstance(masks, list) and len(masks) == len(item["boxes"]) else [None] * len(item["boxes"])
        for index, (box, mask) in enumerate(zip(item["boxes"], masks, strict=True)):
            spot = f"{where}, box {index}"
            values = numbers(box.get("box"), 4) if isinstance(box, Mapping) else None
            if values is None or not isinstance(box.get("label"), str):
                problem = f"expected an object with label, score and box [x0, y0, x1, y1], found {box!r:.60}; left out"
                log.add(spot, image, "malformed line", problem)
            elif (score := number(box.get("score"))) is None:
                _no_score(spot, image, box.get("score"), log)
            else:
                runs = mask.get("rle") if isinstance(mask, Mapping) else None
                result.rows.append(Row(spot, image, box["label"], score, values, runs))
    if not result.images:
        raise DataError(f"{path}: expected {EXPECTED}; found no usable line")
    return result


def _text_folder(folder: Path, form: str | None, log: FaultLog) -> Rows:
    """Reads one text file a picture, named after it."""
    names_file = _names_file(folder)
    files = [file for file in sorted(folder.glob("*.txt")) if file.name not in NAME_FILES]
    if not files:
        raise DataError(f"{folder}: expected {EXPECTED}; found a folder without text files")
    result = Rows(form)
    if names_file is not None:
        names = names_file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        result.names = {str(index): name.strip() for index, name in enumerate(names) if name.strip()}
    for file in files:
        result.images.append(file.stem)
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        for line, content in enumerate(text.splitlines(), start=1):
            if not content.strip():
                continue
            row = _text_row(f"{file}:{line}", file.stem, content, log)
            if row is not None:
                result.rows.append(row)
    return result


def _names_file(folder: Path) -> Path | None:
    """Returns the list of class names that lies in the folder or beside it."""
    places = [place / name for place in (folder, folder.parent) for name in NAME_FILES]
    return next((place for place in places if place.is_file()), None)


def _text_row(where: str, image: str, content: str, log: FaultLog) -> Row | None:
    """Reads `class score a b c d`; a class name may have spaces."""
    words = content.split()
    found = [_float(word) for word in words[-5:]]
    values = tuple(value for value in found[-4:] if value is not None)
    if len(values) == 4 and (len(words) == 5 or (len(words) > 5 and found[0] is None)):
        _no_score(where, image, content.strip(), log)
        return None
    if len(words) < 6 or len(values) < 4 or found[0] is None:
        problem = f"expected `class score` and four numbers, found {content.strip()!r:.60}; the line was left out"
        log.add(where, image, "malformed line", problem)
        return None
    return Row(where, image, " ".join(words[:-5]), found[0], values)


def _float(word: str) -> float | None:
    try:
        return number(float(word))
    except ValueError:
        return None


def _no_score(where: str, image: Any, found: Any, log: FaultLog) -> None:
    problem = f"expected a finite number as score, found {found!r:.60}; the detection was left out"
    log.add(where, image, "no score", problem)
