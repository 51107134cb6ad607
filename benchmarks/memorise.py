"""Can the embedded model learn sixteen photographs by heart? If not, something between file and loss is wrong.

    python -m benchmarks.memorise FOLDER [OUT]

FOLDER is a detection data set of any format; its first 16 records are trained on and scored.
"""

import sys
import time
from pathlib import Path

import mmtune

PHOTOS = 16
STEPS = 700


def memorise(folder: str | Path, out: str | Path, verbose: bool = True) -> mmtune.Run:
    """Trains all weights of `tiny` on the first photographs of a data set and scores it on the same."""
    photos = mmtune.read(folder, task="detection")[:PHOTOS]
    return mmtune.train(
        "tiny",
        task="detection",
        data=photos,
        val=photos,
        full=True,
        out=out,
        steps=STEPS,
        batch_size=8,
        eval_every=100,
        optimizer={"learning_rate": 1.5e-3, "beta_2": 0.98},
        options={"order": "raster"},
        verbose=verbose,
    )


def main(folder: str, out: str = "runs/memorise") -> None:
    """Prints the metrics and the time."""
    started = time.perf_counter()
    run = memorise(folder, out)
    print(f"AP50 {run.metrics['AP50']:.4f}  AP {run.metrics['AP']:.4f}  in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
