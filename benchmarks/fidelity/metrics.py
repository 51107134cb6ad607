"""Metrics: what the official scorers count, and when they do not."""

import contextlib
import io
from importlib.metadata import version
from typing import Any

from benchmarks.fidelity.finding import Finding, versioned

_REFERENCES = (
    ("A man rides a wave.", "A surfer, on a big wave!"),
    ("Two dogs run in the park.", "Dogs are running (in a park)."),
    ("A red bus on the street.", "The street has a bus."),
    ("It's a cat's bed.", "A cat sleeps on its bed."),
)
_CAPTIONS = ("A man on a wave.", "Two dogs in the park!", "a red bus", "A cat's bed, isn't it?")


def coco_first_id() -> Finding:
    """The scorer notes the id of what a box was matched with, and takes 0 for no match."""
    from mmtune.metrics.coco import evaluate_coco

    boxes = [[10, 10, 50, 50], [100, 10, 50, 50], [10, 100, 50, 50], [100, 100, 50, 50]]
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes]

    def truth(first: int) -> dict[str, Any]:
        kept = [
            {"id": first + i, "image_id": 1, "category_id": 1, "bbox": box, "area": 2500, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ]
        categories = [{"id": 1, "name": "cat"}]
        return {"images": [{"id": 1, "width": 200, "height": 200}], "categories": categories, "annotations": kept}

    return Finding(
        "Four boxes are found exactly, and the file numbers its annotations from 0: what is their AP?",
        "pycocotools",
        version("pycocotools"),
        _average_precision(truth(0), found),
        f"{versioned('pycocotools')}, numbered from 1",
        _average_precision(truth(1), found),
        evaluate_coco(truth(0), found)["AP"],
        tolerance=1e-6,
        places=3,
    )


def uncut_captions() -> Finding:
    """CIDEr is defined on the tokens of a Java program; without it words keep their capitals and full stops."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    from mmtune.metrics.caption import caption_scores

    def score(right: Any, found: Any) -> float:
        return float(Cider().compute_score(right, found)[0])

    raw = dict(enumerate(map(list, _REFERENCES))), {i: [text] for i, text in enumerate(_CAPTIONS)}
    with contextlib.redirect_stdout(io.StringIO()):
        cut = [
            PTBTokenizer().tokenize({i: [{"caption": text} for text in texts] for i, texts in side.items()})
            for side in raw
        ]
    return Finding(
        "What is the CIDEr of four captions where there is no Java, so that they go to the scorer as they are?",
        "pycocoevalcap",
        version("pycocoevalcap"),
        score(*raw),
        f"{versioned('pycocoevalcap')} with Java's tokenizer",
        score(*cut),
        caption_scores(_CAPTIONS, _REFERENCES)["CIDEr"],
        tolerance=1e-6,
        places=4,
    )


def _average_precision(truth: dict[str, Any], found: list[dict[str, Any]]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        right: Any = COCO()
        right.dataset = truth
        right.createIndex()
        evaluator = COCOeval(right, right.loadRes([dict(item) for item in found]), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])
