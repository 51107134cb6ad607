"""What a search found, as a table, and how far it is."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

_GIB = 2**30
_SHOWN = 10
_LINE_EVERY = 10.0  # seconds, where there is no terminal to draw a bar in


def print_search(console: Console, found: dict[str, Any]) -> None:
    """Prints the figures of a search."""
    where = f"{found['devices']} x {found['chip']} of {found['hbm']:g} GiB"
    console.print(f"{found['model']} on {where}, rows of {found['seq_len']} text tokens", highlight=False)
    untried = [one["reason"] for one in found["left"] if one["reason"].startswith("not tried")]
    advice = "give it more time by --search-seconds"
    if untried and "time was up" not in untried[0]:
        advice = untried[0].removeprefix("not tried: ")
    missing = f", {found['not_tried']} not tried: {advice}" if found["not_tried"] else ""
    if not found["best"]:
        console.print(f"nothing found yet{missing}" if missing else "nothing fits", highlight=False)
    else:
        table = Table(box=None)
        for title in ("mesh", "batch", "weights", "remat", "GiB", "ms/step", "ms/example"):
            table.add_column(title, justify="left" if title in ("mesh", "weights", "remat") else "right")
        for one in found["best"][:_SHOWN]:
            table.add_row(
                one["mesh"],
                str(one["batch_size"]),
                _base(one),
                one["rematerialise"],
                f"{one['total'] / _GIB:.2f}",
                f"{1e3 * one['step_seconds']:.1f}",
                f"{1e3 * one['example_seconds']:.2f}",
            )
        console.print(table)
        if missing:
            console.print(f"the best so far{missing}", highlight=False)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found["left"]:
        if one["reason"].startswith("not tried"):
            continue
        reasons[one["mesh"], one["reason"]].append(f"{_base(one)}/{one['rematerialise']}")
    for (mesh, reason), ways in reasons.items():
        console.print(f"{mesh}, {', '.join(ways)}: {reason}", highlight=False)


@contextmanager
def search_progress(console: Console, seconds: float) -> Iterator[Callable[[dict[str, Any], float], None]]:
    """Yields what a search tells how far it is: a bar of its time, or a line now and then where none can be drawn."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the model's description", total=seconds)
        last = time.monotonic()

        def on_change(known: dict[str, Any], gone: float) -> None:
            nonlocal last
            text = _progress(known)
            bar.update(task, description=text, completed=gone)
            if not console.is_terminal and time.monotonic() - last > _LINE_EVERY:
                last = time.monotonic()
                console.print(f"{text} ({gone:.0f} of {seconds:g} s)", highlight=False, soft_wrap=True)

        yield on_change


def _progress(known: dict[str, Any]) -> str:
    if "next" not in known:
        return "computing bounds"
    way = known["next"]
    text = f"compiled {known['compiled']}, {len(known['untried'])} left; now {way['mesh']}, batch {way['batch_size']}, "
    text += f"{_base(way)}, {way['rematerialise']}"
    if known["best"]:
        best = known["best"][0]
        text += f"; best {1e3 * best['example_seconds']:.2f} ms an example ({best['mesh']}, batch {best['batch_size']})"
    return text


def _base(way: dict[str, Any]) -> str:
    return way["quantize"] or "unquantized"
