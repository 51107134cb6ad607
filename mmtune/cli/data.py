"""`mmtune data check` and `mmtune data convert`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A file, folder, address, or 'shapes'.")],
    task: Annotated[str | None, typer.Option(help="Check what this task needs, and draw its targets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw decoded targets into this folder.")] = None,
    json: Annotated[str | None, typer.Option(help="Write the report to this file ('-': standard output).")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Format of the data.  [default: detected]")] = None,
    codec: Annotated[
        str | None, typer.Option(help="Mask codec of segmentation: small, public, or an .npz file.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Options of the task: options.max_length=200 ...")
    ] = None,
) -> None:
    """Count what is in a data set, and name every fault with its file and record."""
    from rich.console import Console
    from rich.progress import Progress

    from mmtune.cli.options import task_options
    from mmtune.cli.output import check_outputs, write_json
    from mmtune.data.check import check as look
    from mmtune.data.read import read
    from mmtune.errors import DataError, UsageError
    from mmtune.registry import task_class

    check_outputs(json, None if out is None else out / "overlays.png")
    if task is None and (problem := _wants_task(codec, set_, out)):
        raise UsageError(problem)
    adapter = task_class(task) if task is not None else None
    if adapter is not None and out is not None and not adapter.needs_picture:
        raise UsageError(f"the task {task} is about text alone: leave --out out")
    options = None
    if adapter is not None:
        options = task_options(adapter, set_ or (), {"codec": codec})
    dataset = read(data, task=task, format=format_)
    chosen = adapter(dataset.classes, options) if adapter is not None else None
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("decoding", total=len(dataset))
        report = look(dataset, chosen, out, lambda done, total: bar.update(line, completed=done, total=total))
    if json != "-":
        for text in report.lines():
            typer.echo(text)
    write_json(report.as_json(), json)
    sees = any(record.picture is not None for record in dataset)
    if not (report.usable if task is not None else report.pictures or not sees):
        wanted = "can be decoded" if task is None else f"can be used for {task}"
        raise DataError(f"{data}: none of {report.records} records {wanted}; the faults above say why")


def _wants_task(codec: str | None, assignments: list[str] | None, out: Path | None) -> str | None:
    """Returns what was given that means nothing without a task."""
    if codec is not None:
        return "--codec says what segmentation tokens mean: give --task segmentation as well"
    if assignments:
        return "--set changes the options of a task: give --task as well"
    return None if out is None else "--out draws what a task teaches: give --task as well"


@app.command()
def convert(
    data: Annotated[str, typer.Argument(help="A file, folder, address, or 'shapes'.")],
    out: Annotated[Path, typer.Argument(help="Where to write; must not exist.")],
    format_: Annotated[str, typer.Option("--format", help="What to write: coco, jsonl, yolo or voc.")],
    task: Annotated[str | None, typer.Option(help="Name of the task that the data is for.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Format of the data.  [default: detected]")] = None,
) -> None:
    """Write a data set in another format."""
    from rich.console import Console

    from mmtune.data.convert import convert as write
    from mmtune.data.read import read
    from mmtune.registry import task_class
    from mmtune.reports.tables import print_faults

    if task is not None:
        task_class(task)  # an unknown one is said before anything is read
    dataset = read(data, task=task, format=from_)
    left_out = write(dataset, out, format_)
    print_faults(Console(stderr=True), [*dataset.faults, *left_out])
    missing = {fault.record for fault in left_out if fault.record is not None}
    typer.echo(f"{len(dataset) - len(missing)} of {len(dataset)} records written to {out}")
