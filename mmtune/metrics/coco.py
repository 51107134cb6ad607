"""COCO's twelve numbers by pycocotools' own evaluator, from plain lists or from official files as they are."""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmtune.data.dataset import FaultLog
from mmtune.data.masks import mask_area, mask_edges, mask_size, segmentation_counts
from mmtune.data.objects import number, numbers, whole
from mmtune.errors import DataError

IouType = Literal["bbox", "segm"]

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order of `COCOeval.stats`; s, m, l: area below 32 squared, up to 96 squared, above it, in pixels."""

Problem = tuple[str, str]
"""The kind of a fault and a sentence about it."""

IGNORED_AREA = -1.0
"""The area of truth that is to be ignored without being crowd: it lies below every size class, and COCOeval ignores
what lies outside the class at hand. It knows no flag for this, for it overwrites `ignore` by `iscrowd`."""


def coco_scores(
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[tuple[int, str]],
    truths: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    iou_type: IouType,
) -> dict[str, Any]:
    """Returns AP and AR as pycocotools computes them.

    Args:
        images: With `id`, for masks `height` and `width`; ties between scores are broken by the order of the ids.
        categories: (id, name).
        truths: With `image_id`, `category_id`, `bbox` (x, y, width, height) or `segmentation` (COCO's run lengths),
            `area` and `iscrowd`. Their own `id` is not looked at: COCOeval takes a match with the id 0 for none.
        detections: The same with `score` instead of `iscrowd`.
        iou_type: Which of `bbox` and `segmentation` is compared.

    Returns:
        The twelve of `NAMES` and per_class {name: {"AP", "AP50"}} in the order of `categories`. What has no truth to
        be measured by, a size class, a class or all of the data, gets pycocotools' -1, as in the official tables.
    """
    ids = [number for number, _ in categories]
    evaluator = coco_evaluator(images, ids, truths, detections, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
        evaluator.summarize()
    numbers = [float(value) for value in evaluator.stats]
    scores: dict[str, Any] = dict(zip(NAMES, numbers, strict=True))
    # (IoU thresholds, recall thresholds, categories by id, sizes, detection limits): all sizes, 100 detections.
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    row = {number: index for index, number in enumerate(sorted(ids))}
    scores["per_class"] = {
        name: {"AP": _mean(precision[:, :, row[number]]), "AP50": _mean(precision[0, :, row[number]])}
        for number, name in categories
    }
    return scores


def coco_evaluator(images: Any, ids: Sequence[int], truths: Any, detections: Any, iou_type: IouType) -> Any:
    """Returns pycocotools' evaluator with the detections of each image matched; for the arguments see `coco_scores`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sides = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        for items in (truths, detections):
            side: Any = COCO()
            side.dataset = {
                "images": [dict(image) for image in images],
                "categories": [{"id": number} for number in ids],
                "annotations": [{**item, "id": index} for index, item in enumerate(items, start=1)],
            }
            side.createIndex()
            sides.append(side)
        evaluator = COCOeval(sides[0], sides[1], iou_type)
        evaluator.evaluate()
    return evaluator


def _mean(precision: Any) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def evaluate_coco(
    truth: Mapping[str, Any],
    detections: Sequence[Any],
    iou_type: IouType = "bbox",
    log: FaultLog | None = None,
    names: tuple[str, str] = ("truth", "detections"),
) -> dict[str, Any]:
    """Scores official COCO files as they are, number for number like pycocotools' `loadRes` and `COCOeval`.

    As there: every image of the truth counts, detections of categories that the truth does not name are left out, the
    key `ignore` has no effect, and detections that bring a box are sorted into the size classes by the box's area
    even where masks are compared. Other than there: ids may be written as numbers or strings in any mixture, an
    annotation may have the id 0 (pycocotools takes a match with it for none), and `iscrowd` and `area` may be absent.

    Args:
        truth: The content of an instances file: `images`, `categories`, `annotations`.
        detections: The content of a results file: `image_id`, `category_id`, `score` and `bbox` or `segmentation`.
        iou_type: "bbox" or "segm".
        log: Takes one fault for each annotation or detection that could not be used.
        names: What to call the two files in the log.

    Returns:
        See `coco_scores`.

    Raises:
        DataError: When a part of the truth is absent.
    """
    log = FaultLog() if log is None else log
    images, categories = _named(truth)
    by_box = bool(detections and isinstance(detections[0], Mapping) and detections[0].get("bbox"))
    sides: list[list[dict[str, Any]]] = []
    for items, is_truth in ((truth["annotations"], True), (detections, False)):
        usable = []
        for index, item in enumerate(items):
            problem = _problem(item, images, categories, is_truth)
            if problem is None:
                image, category = images[id_key(item["image_id"])], categories[id_key(item["category_id"])]
                entry = _entry(item, image, iou_type, is_truth, by_box)
                if isinstance(entry, dict):
                    usable.append({**entry, "image_id": image["id"], "category_id": category[0]})
                    continue
                problem = entry
            record = item.get("image_id") if isinstance(item, Mapping) else None
            log.add(f"{names[0] if is_truth else names[1]}, item {index}", record, *problem)
        sides.append(usable)
    return coco_scores(list(images.values()), list(categories.values()), sides[0], sides[1], iou_type)


def _named(truth: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[int, str]]]:
    """Returns images and (number, name) of categories by the key of their id, numbered from 1 in COCOeval's order."""
    for key in ("images", "categories", "annotations"):
        found = truth.get(key)
        if not isinstance(found, list):
            raise DataError(f"COCO truth needs a list '{key}', found {type(found).__name__}")
        if key == "annotations":
            continue
        for index, item in enumerate(found):
            if not (isinstance(item, Mapping) and isinstance(item.get("id"), int | str)):
                raise DataError(f"item {index} of the COCO truth's '{key}' has no number or string as 'id'")
    images: dict[str, dict[str, Any]] = {}
    for image in sorted(truth["images"], key=lambda image: (isinstance(image["id"], str), image["id"])):
        images.setdefault(id_key(image["id"]), {**image, "id": len(images) + 1})
    spelled = [str(category.get("name", category["id"])) for category in truth["categories"]]
    times = Counter(spelled)
    categories: dict[str, tuple[int, str]] = {}
    for category, name in zip(truth["categories"], spelled, strict=True):
        unique = name if times[name] == 1 else f"{name} ({category['id']})"
        categories.setdefault(id_key(category["id"]), (len(categories) + 1, unique))
    return images, categories


def _problem(item: Any, images: Any, categories: Any, is_truth: bool) -> Problem | None:
    """Returns kind and sentence of what is wrong with an item's ids or score."""
    if not isinstance(item, Mapping):
        return "malformed item", f"expected an object, found {str(item)[:60]}; the item was left out"
    for key, known in (("image_id", images), ("category_id", categories)):
        what = key.removesuffix("_id")
        if key not in item:
            return f"no {key}", f"the item has no '{key}'; it was left out"
        if id_key(item[key]) not in known:
            return f"unknown {what}", f"{key} {item[key]!r} is not among the truth's; the item was left out"
    if not is_truth and number(item.get("score")) is None:
        return "no score", f"expected a finite number as 'score', found {item.get('score')!r}; the item was left out"
    return None


def _entry(
    item: Mapping[str, Any], image: Mapping[str, Any], iou_type: str, is_truth: bool, by_box: bool
) -> dict[str, Any] | Problem:
    """Returns an item in the form that `coco_scores` takes, or kind and sentence of what is wrong with it."""
    box, segmentation = item.get("bbox"), item.get("segmentation")
    if box and numbers(box, 4) is None:
        return "malformed box", f"expected four finite numbers as 'bbox', found {str(box)[:60]}; the item was left out"
    box = box if is_truth or by_box else None
    entry: dict[str, Any] = {"iscrowd": int(bool(item.get("iscrowd", 0)))}
    if not is_truth:
        entry["score"] = item["score"]
    if iou_type == "bbox" and box:
        return entry | {"bbox": box, "area": _area(item, is_truth, box[2] * box[3])}
    if not segmentation and box and not is_truth:
        x, y, width, height = box
        segmentation = [[x, y, x, y + height, x + width, y + height, x + width, y]]
    size = _size(image, segmentation)
    counts, wrong = segmentation_counts(segmentation, size) if all(size) else (None, "an image without a size")
    if counts is None:
        wanted = "'bbox'" if iou_type == "bbox" else "'segmentation' (polygons or run lengths)"
        return "no geometry", f"expected a usable {wanted}, found {wrong}; the item was left out"
    shape = (size[1], size[0])
    own = box[2] * box[3] if box and not is_truth else mask_area(shape, counts)
    if iou_type == "segm":
        mask = {"size": list(shape), "counts": counts}
        return entry | {"segmentation": mask, "area": _area(item, is_truth, own)}
    x0, y0, x1, y1 = mask_edges(shape, counts)
    return entry | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": _area(item, is_truth, own)}


def _area(item: Mapping[str, Any], is_truth: bool, own: float) -> float:
    annotated = number(item.get("area")) if is_truth else None
    return own if annotated is None else annotated


def _size(image: Mapping[str, Any], segmentation: Any) -> tuple[int, int]:
    """Returns (width, height) in pixels as the truth states it, else as the mask does, else (0, 0)."""
    width, height = whole(image.get("width")), whole(image.get("height"))
    if width and height:
        return width, height
    return mask_size(segmentation) or (0, 0)


def id_key(value: Any) -> str:
    """Returns one spelling for an id that a file may hold as number or as string."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
