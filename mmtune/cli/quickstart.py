"""`mmtune quickstart`."""

import json as json_format
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtune.errors import UsageError

# The embedded model starts from nothing, so it is taught a handful of scenes by heart: enough to see every part work.
SCENES = "shapes:train?n=24&seed=7&max_objects=3&size=240"
SETTINGS: dict[str, Any] = {
    "steps": 400,
    "batch_size": 8,
    "eval_every": 100,
    "optimizer": {"learning_rate": 1.5e-3, "beta_2": 0.98},
    "options": {"order": "raster"},
}
PICTURES = 4


def quickstart(
    task: Annotated[str, typer.Option(help="Name of the task.")] = "detection",
    out: Annotated[Path, typer.Option(help="Folder for the run, metrics.json and pictures.")] = Path("runs/quickstart"),
) -> None:
    """Fine-tune the embedded model on generated scenes, in a few minutes and without a network.

    The scenes are scored before and after, and the model's answers are drawn. All weights are trained.
    """
    if task != "detection":
        from mmtune.registry import task_class

        task_class(task)
        raise UsageError(f"quickstart has no generated exercise for the task {task} yet; it has one for: detection")
    if (out / "run").exists():
        raise UsageError(f"{out} already holds a quickstart: remove it, or choose another folder with --out")

    from rich.console import Console

    from mmtune.api import evaluate, load, read, train
    from mmtune.files import atomic

    console = Console(stderr=True)
    started = time.perf_counter()
    console.print("loading the embedded model ...")
    model = load("tiny")
    data = read(SCENES, task=task)
    console.print(f"scoring {len(data)} generated scenes before training ...")
    before = evaluate(model, task=task, data=data).metrics
    run = train(model, task=task, data=data, val=data, full=True, out=out / "run", **SETTINGS)
    _draw(run.model, task, [record.picture for record in data[:PICTURES]], out / "predictions.png")
    seconds = round(time.perf_counter() - started, 1)
    result = {"task": task, "before": before, "after": run.metrics, "seconds": seconds}
    with atomic(out / "metrics.json") as temporary:
        temporary.write_text(json_format.dumps(result, indent=2) + "\n")
    console.print(
        f"\nAP50 {before['AP50']:.3f} before, {run.metrics['AP50']:.3f} after, in {seconds:.0f} s. These are the very "
        f"scenes it was trained on: the embedded model starts from nothing and learns them by heart.\n"
        f"predictions.png and metrics.json are in {out}.\n"
        f"Next: mmtune train --task detection --data YOUR_DATA --val 0.1",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _draw(model: Any, task: str, pictures: list[Any], file: Path) -> None:
    """Writes the answers about some pictures side by side."""
    from PIL import Image

    from mmtune.files import atomic
    from mmtune.predicting import predict

    drawn = [answer.draw() for answer in predict(model, pictures, task=task)]
    sheet = Image.new("RGB", (sum(image.width for image in drawn), max(image.height for image in drawn)), "white")
    left = 0
    for image in drawn:
        sheet.paste(image, (left, 0))
        left += image.width
    with atomic(file) as temporary:
        sheet.save(temporary, "PNG")
