"""`mmtune compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mmtune.comparing import Comparison


def compare(
    run_a: Annotated[Path, typer.Argument(help="The folder of a run.")],
    run_b: Annotated[Path, typer.Argument(help="The folder of another run, on the same validation data.")],
    json: Annotated[str | None, typer.Option(help="Write the differences to this file ('-': standard output).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the examples side by side to this file.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="How many of the examples that changed most are listed.")] = 10,
) -> None:
    """Say how two runs differ on the records that both saw: metrics with intervals, and the examples that changed."""
    from rich.console import Console

    from mmtune.cli.output import check_outputs, write_json
    from mmtune.comparing import compare as run
    from mmtune.files import write_text

    check_outputs(json, html)
    found = run(run_a, run_b)
    console = Console(stderr=True)
    for note in found.notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(_metrics(found))
    if found.examples and examples:
        console.print(_examples(found, examples))
    write_json(found.as_json(), json)
    if html is not None:
        from mmtune.reports.comparison_page import comparison_page

        write_text(html, comparison_page(found))


def _metrics(found: "Comparison") -> "Table":
    """Returns the metrics as a table; a star marks a difference whose interval lies on one side of 0."""
    from rich.table import Table
    from rich.text import Text

    title = f"{found.task} on {found.records} records (* : the interval lies on one side of 0)"
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in ("first", "second", "difference", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, one in found.metrics.items():
        indent = "  " * (len(key) > 1)
        name = " ".join(part for part in key if part != "per_class")
        span = f"{one.interval.low:+.4f} to {one.interval.high:+.4f}" if one.interval is not None else ""
        values = ("-" if value == -1 else f"{value:.4f}" for value in (one.before, one.after))
        table.add_row(Text(indent + name), *values, f"{one.change:+.4f}{'*' if one.sure else ' '}", span)
    return table


def _examples(found: "Comparison", most: int) -> "Table":
    """Returns the examples that changed most as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="examples that changed most", title_justify="left")
    table.add_column("record")
    for name in ("first", "second"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("faults")
    for before, after in found.examples[:most]:
        faults = " -> ".join(
            ", ".join(f"{times} {kind}" for kind, times in one.counts.items()) or "none" for one in (before, after)
        )
        table.add_row(Text(before.record.id), f"{before.quality:.3f}", f"{after.quality:.3f}", faults)
    return table
