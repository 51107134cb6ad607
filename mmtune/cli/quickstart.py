"""`mmtune quickstart`."""

import json as json_format
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmtune.errors import UsageError
from mmtune.run_files import METRICS, REPORT

if TYPE_CHECKING:
    from rich.table import Table

    from mmtune.cli.exercises import Exercise
    from mmtune.evaluation import Evaluation
    from mmtune.records import Record
    from mmtune.task import Task

EXAMPLES = 8


def quickstart(
    task: Annotated[str, typer.Option(help="Name of the task.")] = "detection",
    out: Annotated[Path, typer.Option(help="Folder for the run, metrics.json and pictures.")] = Path("runs/quickstart"),
) -> None:
    """Adapt the embedded model to something it never saw, in two minutes and without a network.

    It is scored on fresh examples before and after, and its answers are drawn. An adapter (LoRA) is trained on 300.
    """
    from mmtune.cli.exercises import EXERCISES, SETTINGS, exercise_data

    if task not in EXERCISES:
        from mmtune.registry import task_class

        task_class(task)
        raise UsageError(f"quickstart has no exercise for the task {task}; it has: {', '.join(EXERCISES)}")
    if (out / "run").exists():
        raise UsageError(f"{out} already holds a quickstart: remove it, or choose another folder with --out")

    from rich.console import Console

    from mmtune.api import load, read, train
    from mmtune.evaluation import evaluate_records
    from mmtune.files import atomic
    from mmtune.predicting import task_for

    console = Console(stderr=True)
    started = time.perf_counter()
    exercise = EXERCISES[task]
    settings = SETTINGS | exercise.settings
    console.print(f"The embedded model learns to {exercise.lesson}. Loading it ...", highlight=False)
    model = load("tiny")
    train_address, test_address = exercise_data(exercise, out)
    train_data, test_data = read(train_address, task=task), read(test_address, task=task)
    console.print(f"Scoring it on {len(test_data)} examples as it is ...", highlight=False)
    adapter = task_for(model, task, test_data.classes, settings.get("options"))
    before = evaluate_records(model, adapter, test_data)
    run = train(model, task=task, data=train_data, out=out / "run", **settings)
    console.print(f"Scoring it on the same {len(test_data)} examples again ...", highlight=False)
    after = evaluate_records(run.model, adapter, test_data)
    seconds = round(time.perf_counter() - started, 1)
    result = {"task": task, "before": before.metrics, "after": after.metrics, "seconds": seconds}
    with atomic(out / METRICS) as temporary:
        temporary.write_text(json_format.dumps(result, indent=2) + "\n")
    after.write_report(out / REPORT, {"model": str(out / "run"), "training data": train_address, "data": test_address})
    console.print(_table(exercise, before.metrics, after.metrics))
    if adapter.needs_picture:
        _draw(adapter, before, after, out / "before_after.png")
        console.print(f"Look at {out / 'before_after.png'}: eight examples before and after.", highlight=False)
    else:
        _print_answers(console, test_data[:EXAMPLES], before, after)
    console.print(
        f"{seconds:.0f} s. The adapter is in {out / 'run'}, the numbers are in {out / 'metrics.json'}; "
        f"{out / 'report.html'} shows what is still wrong.\n"
        f"Next, with your own data: mmtune train --task {task} --data YOUR_DATA --val 0.1 --out runs/mine",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _table(exercise: "Exercise", before: dict[str, Any], after: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("metric", "before", "after")
    for name in exercise.metrics:
        table.add_row(name, f"{before[name]:.3f}", f"{after[name]:.3f}")
    return table


def _draw(task: "Task", before: "Evaluation", after: "Evaluation", file: Path) -> None:
    """Writes a sheet of answers about the first pictures before and after."""
    from mmtune.files import atomic
    from mmtune.reports.before_after import before_after

    pairs = []
    for record, early, late in zip(before.records, before.predictions, after.predictions, strict=True):
        if len(pairs) < EXAMPLES and record.picture is not None:
            image = record.picture.open()
            pairs.append((task.draw(image, early), task.draw(image, late)))
    with atomic(file) as temporary:
        before_after(pairs).save(temporary, "PNG")


def _print_answers(console: Any, records: "Sequence[Record]", before: "Evaluation", after: "Evaluation") -> None:
    from rich.table import Table

    table = Table("asked", "before", "after")
    for record, early, late in zip(records, before.predictions, after.predictions, strict=False):
        asked = record.prefix or " ".join(turn.text for turn in record.turns if turn.role == "user")
        table.add_row(asked, early.text, late.text)
    console.print(table)
