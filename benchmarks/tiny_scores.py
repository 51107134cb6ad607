"""What the embedded model can do: all tasks on fresh generated scenes, by the command line's own evaluation.

    python -m benchmarks.tiny_scores [--weights FILE] [--n 500] [--seed 9] [--objects 25] [--rows vqa ...]

Scenes of `shapes:test` come from other streams than those it was trained on.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.data.scene_shapes import MAX_OBJECTS
from mmtune.model import Model

_BOXES, _MASKS = ("AP", "AP50", "APs", "APm"), ("mIoU", "AP", "AP50")
_VIEWS = {"views": 8}
_TILES = {"views": 2, "tiles": 2}

ROWS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "detection": ("detection", {}, _BOXES),
    "ranked": ("detection", {"noise_boxes": MAX_OBJECTS}, _BOXES),  # lists that end no sooner than with 25 boxes
    "detection_views": ("detection", _VIEWS, _BOXES),
    "detection_tiles": ("detection", _TILES, _BOXES),
    "segmentation": ("segmentation", {}, _MASKS),
    "segmentation_views": ("segmentation", _VIEWS, _MASKS),
    "segmentation_tiles": ("segmentation", _TILES, _MASKS),
    "vqa": ("vqa", {}, ("accuracy", "per_question_type")),
    "ocr": ("ocr", {}, ("exact_match", "CER")),
    "captioning": ("captioning", {}, ("exact_match", "CIDEr")),
}
"""Task, options, and which of its metrics are printed."""


def tiny_with(weights: Path | None) -> Model:
    """Returns the embedded model, with the weights of a file in place of its own."""
    import mmtune
    from mmtune.models.load import assign_weights

    model = mmtune.load("tiny")
    if weights is not None:
        assign_weights(model.backbone.weights, weights)
    return model


def scores(
    model: Model, rows: Sequence[str], n: int, seed: int, size: int, objects: int = MAX_OBJECTS
) -> dict[str, dict[str, Any]]:
    """Returns the shown metrics of each row and the seconds it took."""
    import mmtune

    found = {}
    for row in rows:
        started = time.perf_counter()
        task, options, shown = ROWS[row]
        data = f"shapes:test?n={n}&seed={seed}&size={size}&max_objects={objects}"
        result = mmtune.evaluate(model, task=task, data=data, options=options)
        metrics = {name: result.metrics[name] for name in shown if name in result.metrics}
        found[row] = metrics | {"invalid": result.invalid, "seconds": round(time.perf_counter() - started, 1)}
        print(row, json.dumps(found[row]), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and prints a line a row."""
    parser = argparse.ArgumentParser(description="Score the embedded model on fresh generated scenes.")
    parser.add_argument("--weights", type=Path, help="a file of weights in place of the package's")
    parser.add_argument("--n", type=int, default=500, help="scenes a row")
    parser.add_argument("--seed", type=int, default=9, help="seed of the scenes")
    parser.add_argument("--objects", type=int, default=MAX_OBJECTS, help="most shapes in a scene")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args(arguments)
    scores(tiny_with(options.weights), options.rows, options.n, options.seed, options.size, options.objects)


if __name__ == "__main__":
    main()
