"""What the embedded model can do: all tasks on fresh generated scenes, by the command line's own evaluation.

    python -m benchmarks.tiny_scores [--weights FILE] [--n 500] [--seed 9] [--tasks detection vqa ...]

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

RANKED = "ranked"
"""Detection by a list that does not end before it has 25 boxes, the likelier the higher in rank."""

# What is printed of each task, by metric name.
SHOWN = {
    "detection": ("AP", "AP50", "APs", "APm"),
    RANKED: ("AP", "AP50", "APs", "APm"),
    "segmentation": ("mIoU", "AP", "AP50"),
    "vqa": ("accuracy", "per_question_type"),
    "ocr": ("exact_match", "CER"),
    "captioning": ("exact_match", "CIDEr"),
}


def tiny_with(weights: Path | None) -> Model:
    """Returns the embedded model, with the weights of a file in place of its own."""
    import mmtune
    from mmtune.models.load import assign_weights

    model = mmtune.load("tiny")
    if weights is not None:
        assign_weights(model.backbone.weights, weights)
    return model


def scores(model: Model, tasks: Sequence[str], n: int, seed: int, size: int) -> dict[str, dict[str, Any]]:
    """Returns the shown metrics of each task and the seconds it took."""
    import mmtune

    found = {}
    for task in tasks:
        started = time.perf_counter()
        asked, options = ("detection", {"noise_boxes": MAX_OBJECTS}) if task == RANKED else (task, None)
        data = f"shapes:test?n={n}&seed={seed}&size={size}"
        result = mmtune.evaluate(model, task=asked, data=data, options=options)
        shown = {name: result.metrics[name] for name in SHOWN[task] if name in result.metrics}
        found[task] = shown | {"invalid": result.invalid, "seconds": round(time.perf_counter() - started, 1)}
        print(task, json.dumps(found[task]), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and prints a line a task."""
    parser = argparse.ArgumentParser(description="Score the embedded model on fresh generated scenes.")
    parser.add_argument("--weights", type=Path, help="a file of weights in place of the package's")
    parser.add_argument("--n", type=int, default=500, help="scenes a task")
    parser.add_argument("--seed", type=int, default=9, help="seed of the scenes")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--tasks", nargs="*", default=list(SHOWN), choices=list(SHOWN))
    options = parser.parse_args(arguments)
    scores(tiny_with(options.weights), options.tasks, options.n, options.seed, options.size)


if __name__ == "__main__":
    main()
