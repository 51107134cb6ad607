"""The measured seconds and memory as bars, ours first and marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.sharding.canvas import Drawing, Label, Rectangle

_MARGIN, _NAMES, _BAR, _NUMBERS = 24, 290, 380, 190
_LINE, _THICK = 22, 14
_INK, _FAINT, _OURS, _PEER = "#1f2430", "#6b7280", "#2f6fb7", "#c3c9d4"


def draw_speed(title: str, cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing:
    """Returns the picture: a block a case, a bar a contender as long as its seconds are of the slowest's.

    Args:
        title: What was measured, and where.
        cases: Of each case by the name that is shown, its rows: "contender", "seconds", "ratio" to ours, "peak_gib".
    """
    marks: list[Rectangle | Label] = [Label(_MARGIN, _MARGIN + 4, title, 15, fill=_INK, bold=True)]
    y = _MARGIN + 36.0
    for told, rows in cases.items():
        marks.append(Label(_MARGIN, y, told, 12, fill=_INK, bold=True))
        y += _LINE
        slowest = max(row["seconds"] for row in rows)
        for row in rows:
            ours = row["contender"].startswith("mmtune")
            wide = _BAR * row["seconds"] / slowest
            left = _MARGIN + _NAMES
            marks.append(Label(left - 8, y, row["contender"], 11, "end", _INK if ours else _FAINT))
            marks.append(Rectangle(left, y - _THICK / 2, max(wide, 1), _THICK, _OURS if ours else _PEER))
            times = "" if row["ratio"] == 1 else f", {row['ratio']:.2f} times"
            numbers = f"{row['seconds']:.3g} s{times}, {row['peak_gib']:.1f} GiB"
            marks.append(Label(left + wide + 8, y, numbers, 11, fill=_INK if ours else _FAINT))
            y += _LINE
        y += 12
    return Drawing(2 * _MARGIN + _NAMES + _BAR + _NUMBERS, y + 6, tuple(marks))
