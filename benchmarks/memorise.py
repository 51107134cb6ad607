"""Can the embedded model learn a few real pictures by heart? If not, something between file and loss is wrong.

    python -m benchmarks.memorise FOLDER [--task detection] [--out runs/memorise]

FOLDER is a data set of any format that the task reads; it is trained on and scored on the same pictures, of which
detection takes the first 16. Boxes and masks are learned with all weights, texts by an adapter (LoRA).
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmtune

PHOTOS = 16

_OBJECTS: dict[str, Any] = {
    "full": True,
    "batch_size": 8,
    "eval_every": 100,
    "optimizer": {"learning_rate": 1.5e-3, "beta_2": 0.98},
    "options": {"order": "raster"},
}
_TEXTS: dict[str, Any] = {
    "lora": mmtune.LoRA(rank=16, alpha=32, vision=True),
    "batch_size": 8,
    "eval_every": 50,
    "steps": 250,
    "optimizer": {"learning_rate": 4e-3, "beta_2": 0.98},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "detection": _OBJECTS | {"steps": 700},
    "segmentation": _OBJECTS | {"steps": 700},
    "ocr": _TEXTS,
    "captioning": _TEXTS,
}
SHOWN = {
    "detection": ("AP50", "AP"),
    "segmentation": ("AP50", "AP", "mIoU"),
    "ocr": ("exact_match", "CER"),
    "captioning": ("exact_match",),
}


def memorise(folder: str | Path, out: str | Path, task: str = "detection", verbose: bool = True) -> mmtune.Run:
    """Trains `tiny` on a data set and scores it on the same."""
    records = mmtune.read(folder, task=task)
    photos = records[:PHOTOS] if task == "detection" else records
    return mmtune.train("tiny", task=task, data=photos, val=photos, out=out, verbose=verbose, **SETTINGS[task])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the metrics and the time."""
    parser = argparse.ArgumentParser(description="Learn a few real pictures by heart.")
    parser.add_argument("folder")
    parser.add_argument("--task", default="detection", choices=list(SETTINGS))
    parser.add_argument("--out", default="runs/memorise")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    run = memorise(options.folder, options.out, options.task)
    shown = "  ".join(f"{name} {run.metrics[name]:.4f}" for name in SHOWN[options.task])
    print(f"{shown}  in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
