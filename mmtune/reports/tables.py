"""Metrics and faults as a person reads them in a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmtune.records import Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def metrics_table(metrics: Mapping[str, Any], title: str) -> "Table":
    """Returns the metrics as a table, those of each class below the overall ones; -1 (nothing to measure) is a dash."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            for label, numbers in value.items():
                parts = "  ".join(f"{key} {_number(number)}" for key, number in numbers.items())
                table.add_row(Text(f"  {label}"), parts)
        else:
            table.add_row(name, _number(value))
    return table


def print_faults(
    console: "Console",
    faults: Sequence[Fault],
    most: int = 5,
    elsewhere: str = "; `mmtune data check` lists them all",
) -> None:
    """Prints how many faults there are, of which kinds, and the first few.

    Args:
        console: Where to.
        faults: What to print.
        most: How many of them to print one by one.
        elsewhere: Said of the others, where there are more.
    """
    if not faults:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(fault.kind for fault in faults).most_common())
    console.print(
        f"{len(faults)} fault{'s' * (len(faults) > 1)} set aside ({kinds}):",
        style="yellow",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for fault in faults[:most]:
        where = ": ".join(part for part in (fault.file, fault.record) if part)
        console.print(f"  {where}: {fault.problem}", markup=False, highlight=False, soft_wrap=True)
    if len(faults) > most:
        console.print(f"  ... and {len(faults) - most} more{elsewhere}")


def _number(value: float) -> str:
    return "-" if value == -1 else f"{value:.4f}"
