"""The page of a comparison: differences of metrics, and the examples that changed most, side by side."""

from typing import TYPE_CHECKING

from mmtune.reports.bootstrap import LEVEL, RESAMPLES
from mmtune.reports.gallery import card
from mmtune.reports.markup import data, number, section, table, text
from mmtune.reports.page import document
from mmtune.reports.thumbnails import thumbnails

if TYPE_CHECKING:
    from mmtune.comparing import Comparison

MOST_EXAMPLES = 60
"""Examples with pictures, two cards each."""


def comparison_page(found: "Comparison") -> str:
    """Returns the whole page as HTML."""
    one, other = found.runs
    rows = []
    for key, change in found.metrics.items():
        span = "" if change.interval is None else f"{number(change.interval.low)} to {number(change.interval.high)}"
        told = f"<strong>{number(change.change)}</strong>" if change.sure else number(change.change)
        name = data(" / ".join(part for part in key if part != "per_class"))
        rows.append([name, number(change.before), number(change.after), told, span])
    head = ("metric", "first", "second", "difference", f"{LEVEL:.0%} interval")
    intro = (
        f"<p>First: {data(one)}. Second: {data(other)}. Over the {found.records} records that both saw. Intervals hold "
        f"the middle {LEVEL:.0%} of the differences in {RESAMPLES:,} bootstrap resamples, in which both runs get the "
        "same records; a difference whose interval lies on one side of 0 is bold.</p>"
    )
    notes = "".join(f"<p>{data(note)}</p>" for note in found.notes)
    shown = found.examples[:MOST_EXAMPLES]
    left = len(found.examples) - len(shown)
    told = "<p>Those whose quality (F1 of the objects, or the share of the text that is right) changed most.</p>"
    told += f"<p>{left} more that changed are left out.</p>" if left else ""
    parts = [
        section("metrics", "Metrics", intro + notes + table(head, rows, kind="numbers")),
        section("examples", "Examples that changed", told + _cards(found, len(shown)) if shown else ""),
    ]
    return document(f"{found.task}: {one} and {other}", "".join(parts))


def _cards(found: "Comparison", most: int) -> str:
    shown = found.examples[:most]
    pictures = thumbnails([before.record for before, _ in shown])
    varied = len({before.prediction.prompt for before, _ in found.examples}) > 1
    made = []
    for place, (both, picture) in enumerate(zip(shown, pictures, strict=True)):
        cards = "".join(
            f"<div><p>{text(name)}</p>{card(example, picture, place, place, varied)}</div>"
            for name, example in zip(("first", "second"), both, strict=True)
        )
        made.append(f'<div class="both">{cards}</div>')
    return "".join(made)
