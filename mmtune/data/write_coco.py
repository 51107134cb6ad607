"""Writing COCO instances."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.data.masks import mask_edges
from mmtune.data.placing import Item
from mmtune.records import Box, Mask, Record


def write_coco(items: Sequence[Item], classes: Sequence[str], file: Path) -> int:
    """Writes one JSON file. Pascal VOC's `difficult` is kept as a key of that name, which our reader knows.

    Image ids are kept where all are numbers and differ; else they count from 1. Without a picture, `file_name` is the
    record's id.

    Args:
        items: The records.
        classes: Class names, which get the category ids 1, 2, ...
        file: What to write.

    Returns:
        How many records were written.
    """
    kept = [item.record.image_id for item in items]
    plain = all(isinstance(image_id, int) for image_id in kept) and len(set(kept)) == len(kept)
    image_ids = kept if plain else range(1, len(items) + 1)
    category_ids = {name: number for number, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, item in zip(image_ids, items, strict=True):
        image = {"id": image_id, "file_name": item.picture or item.record.id}
        if item.record.size is not None:
            image["width"], image["height"] = item.record.size
        images.append(image)
        for box, mask in _objects(item.record):
            annotation = _annotation(box, mask)
            identity = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category_ids[box.label]}
            annotations.append(identity | annotation)
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in category_ids.items()]
    content = {"images": images, "categories": categories, "annotations": annotations}
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return len(items)


def _annotation(box: Box, mask: Mask | None) -> dict[str, Any]:
    segmentation: Any = [] if mask is None else {"size": list(mask.size), "counts": mask.counts.decode("ascii")}
    annotation = {
        "bbox": [box.x0, box.y0, box.width, box.height],
        "area": box.width * box.height if box.area is None else box.area,
        "iscrowd": int(box.crowd),
        "segmentation": segmentation,
    }
    return annotation | ({"difficult": 1} if box.difficult else {})


def _objects(record: Record) -> list[tuple[Box, Mask | None]]:
    """Pairs each box with its mask: each mask goes to the free box of its class that agrees best with its edges."""
    masks: dict[int, Mask] = {}
    boxes = list(record.boxes)
    for mask in record.masks:
        edges = mask_edges(mask.size, mask.counts)
        free = [i for i, box in enumerate(boxes) if i not in masks and box.label == mask.label]
        best = max(free, key=lambda i: _overlap(boxes[i], edges), default=None)
        if best is None or _overlap(boxes[best], edges) == 0:
            best = len(boxes)
            boxes.append(Box(mask.label, *edges, crowd=mask.crowd))
        masks[best] = mask
    return [(box, masks.get(position)) for position, box in enumerate(boxes)]


def _overlap(box: Box, edges: tuple[float, float, float, float]) -> float:
    """Returns intersection over union of a box and (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = edges
    shared = max(min(box.x1, x1) - max(box.x0, x0), 0.0) * max(min(box.y1, y1) - max(box.y0, y0), 0.0)
    union = box.width * box.height + (x1 - x0) * (y1 - y0) - shared
    return shared / union if union > 0 else 0.0
