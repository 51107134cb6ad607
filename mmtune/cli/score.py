"""`mmtune score`."""

from pathlib import Path
from typing import Annotated

import typer


def score(
    task: Annotated[str, typer.Option(help="Name of the task.")],
    truth: Annotated[str, typer.Option(help="The truth, in any form that a reader knows.")],
    predictions: Annotated[Path, typer.Option(help="A result file, or a folder of them.")],
    json: Annotated[str | None, typer.Option(help="Write the metrics to this file ('-': standard output).")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Form of the predictions.  [default: detected]")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Options of the task: options.case_sensitive=false ...")
    ] = None,
) -> None:
    """Score official result files against the truth, without a model."""
    from rich.console import Console

    from mmtune.cli.options import task_options
    from mmtune.cli.output import check_outputs, write_json
    from mmtune.data.dataset import FaultLog
    from mmtune.registry import task_class
    from mmtune.reports.tables import metrics_table, print_faults

    check_outputs(json)
    log = FaultLog()
    adapter = task_class(task)
    scorer = adapter(options=task_options(adapter, set_ or ()))
    result = scorer.score_files(truth, predictions, format_, log)
    console = Console(stderr=True)
    print_faults(console, log.faults, most=50, elsewhere="")
    console.print(metrics_table(result["metrics"], f"{task} on {result['n']} records"))
    write_json(result, json)
