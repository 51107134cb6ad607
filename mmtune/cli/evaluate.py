"""`mmtune eval`."""

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase


def evaluate(
    model: Annotated[str, typer.Argument(help="tiny, a preset, or a folder such as a run.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    data: Annotated[str, typer.Option(help="A file, folder, address, or 'shapes'.")],
    json: Annotated[str | None, typer.Option(help="Write the metrics to this file ('-': standard output).")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write one JSON line a record to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the page to this file.  [default: beside the predictions, as .html]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many records.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Format of the data.  [default: detected]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts decoded at once.")] = 16,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    beams: Annotated[int, typer.Option(min=1, help="Width of beam search; 1 is greedy.")] = 1,
    codec: Annotated[
        str | None, typer.Option(help="Mask codec of segmentation: small, public, or an .npz file.")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="Keep the base weights in int8 or int4.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Options of the task: options.noise_boxes=25 ...")
    ] = None,
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Score a model on a data set, by the metrics of the task's field."""
    from rich.console import Console

    from mmtune.api import evaluate as run
    from mmtune.cli.options import option_changes, task_options
    from mmtune.cli.output import check_outputs, write_json
    from mmtune.decoding.sampling import Sampler
    from mmtune.models.load import load
    from mmtune.registry import task_class
    from mmtune.reports.tables import metrics_table, print_faults

    flags = {"codec": codec}
    task_options(task_class(task), set_ or (), flags)  # checked before a large model is loaded
    if report is None and predictions is not None:
        report = predictions.with_suffix(".html")
    check_outputs(json, predictions, report)
    loaded = load(model, quantize=quantize, base=base, force_base=force_base)
    found = run(
        loaded,
        task=task,
        data=data,
        format=format_,
        limit=limit,
        sampler=Sampler(beams=beams),
        max_tokens=max_tokens,
        batch_size=batch_size,
        options=option_changes(set_ or (), flags),
    )
    console = Console(stderr=True)
    print_faults(console, found.faults)
    console.print(metrics_table(found.metrics, f"{task} on {len(found.records)} records"))
    write_json(found.as_json(), json)
    if predictions is not None:
        found.write_predictions(predictions)
    if report is not None:
        options = ", ".join(set_ or ())
        found.write_report(
            report, {"model": model, "data": data, "limit": limit, "beams": beams, "options": options or None}
        )
        console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)
