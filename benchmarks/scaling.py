"""How a LoRA step grows: `python -m benchmarks.scaling [batch sequence image rank boxes] [--size mini] [--json FILE]`.

One thing at a time is changed, the others stay as in `python -m benchmarks lora`: 4 pictures, 64 target tokens, rank 8.
Each measurement is a process of its own; seconds are the median of its steps.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.attempt import attempt
from benchmarks.speed.measuring import MALLOC
from benchmarks.speed.sizes import RANK, SIZES, TARGET

BATCH = 4
_TOKENS_OF_A_BOX = 6  # four locations, a label, what stands between two
AXES = {
    "batch": (1, 2, 4, 8, 16),
    "sequence": (16, 64, 128, 256),
    "image": (112, 224, 336, 448),
    "rank": (4, 8, 32, 128),
    "boxes": (1, 5, 10, 25, 50),
}


@dataclass(frozen=True)
class Setting:
    """What is measured: pictures, target tokens, side of a picture in pixels, rank."""

    batch: int = BATCH
    sequence: int = TARGET
    image: int = 224
    rank: int = RANK


def setting(axis: str, value: int) -> Setting:
    """Returns the usual setting with one thing changed."""
    if axis == "boxes":
        return Setting(sequence=value * _TOKENS_OF_A_BOX)
    return replace(Setting(), **{axis: value})


def measure_here(size: str, chosen: Setting, repetitions: int) -> None:
    """Measures steps in this process and prints a line of JSON."""
    import numpy as np

    from benchmarks.speed.measuring import measure
    from benchmarks.speed.ours import model_of, trainer_of
    from mmtune.data.batch import Row, collate

    begun = time.time()
    shapes = replace(SIZES[size], image=chosen.image)
    model = model_of(shapes, "lora")
    trainer = trainer_of(model, full=False, rank=chosen.rank)
    rng = np.random.default_rng(0)

    def row() -> Row:
        image = rng.integers(0, 256, (shapes.image, shapes.image, 3), np.uint8)
        prompt, answer = (rng.integers(5, shapes.vocabulary, n).tolist() for n in (8, chosen.sequence))
        return Row(prompt, [answer], [[1.0] * len(answer)], image)

    batch = collate([row() for _ in range(chosen.batch)], model.spec.image_tokens)

    def run(steps: int) -> None:
        trainer.fit((batch for _ in range(steps)), steps_per_epoch=steps, shuffle=False, verbose=0)

    measure(begun, run, repetitions, block=2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and measures."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="How a training step grows.")
    parser.add_argument("axes", nargs="*", help=f"what is changed: {', '.join(AXES)}; all where none is named")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="sizes of the model")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements in a process, of two steps each")
    parser.add_argument("--json", type=Path, help="write all rows here")
    options = parser.parse_args(arguments)
    wrong = [axis for axis in options.axes if axis not in AXES]
    if wrong:
        parser.error(f"unknown: {', '.join(wrong)}; expected {', '.join(AXES)}")
    console = Console()
    results: dict[str, list[dict[str, Any]]] = {}
    for axis in options.axes or AXES:
        table = Table(axis, "seconds a step", "of the smallest", "peak GiB")
        rows = results[axis] = []
        for value in AXES[axis]:
            found = _in_a_process(options.size, setting(axis, value), options.repetitions)
            rows.append({axis: value, "seconds": statistics.median(found["seconds"]), "peak_gib": found["peak_gib"]})
            seconds = rows[-1]["seconds"]
            times = seconds / rows[0]["seconds"]
            table.add_row(str(value), f"{seconds:.3f}", f"{times:.2f}", f"{found['peak_gib']:.2f}")
        console.print(table)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


def _in_a_process(size: str, chosen: Setting, repetitions: int) -> dict[str, Any]:
    program = f"from benchmarks.scaling import *; measure_here({size!r}, {chosen!r}, {repetitions})"
    done = attempt([sys.executable, "-c", program], more=MALLOC)
    if done.failure:
        raise RuntimeError(f"{done.failure}\n{done.errors}")
    return json.loads(done.line)


if __name__ == "__main__":
    main()
