"""The curves of a run, read from its `log.csv`."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from mmtune.reports.charts import Line, line_chart

# Columns that are no curve, or whose curve says nothing about what was learned.
_PASSED_OVER = frozenset(["epoch", "seconds", "examples_per_second"])
_NAMES = {"learning_rate": "learning rate", "gradient_norm": "gradient norm"}


def read_log(file: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns the points (step, value) of each column that has numbers; none where there is no log to be read.

    A cell that is no finite number is passed over, such as the last ones while a line is being written.
    """
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    for name in rows[0] if rows else ():
        if name is None or name == "step":
            continue
        points = [(_number(row.get("step")), _number(row.get(name))) for row in rows]
        if known := [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]:
            found[name] = known
    return found


def read_curves(file: Path) -> dict[str, Line]:
    """Returns the columns of a log that are curves; what it says of metrics that could not be measured (-1) is not."""
    curves: dict[str, Line] = {}
    for name, points in read_log(file).items():
        known = [(x, y) for x, y in points if y != -1]
        if known and name not in _PASSED_OVER:
            curves[name] = Line([x for x, _ in known], [y for _, y in known])
    return curves


def curve_charts(curves: dict[str, Line], first: Sequence[str]) -> str:
    """Returns a chart for each curve, all over the same steps; only those named by `first` are open to view."""
    if not curves:
        return ""
    last = max(line.x[-1] for line in curves.values())
    charts = {
        name: line_chart(_NAMES.get(name, name), line, across="step", x_range=(0, max(last, 1)))
        for name, line in curves.items()
    }
    shown = "".join(charts[name] for name in first if name in charts)
    more = "".join(chart for name, chart in charts.items() if name not in first)
    others = f'<details><summary>More curves</summary><div class="charts">{more}</div></details>' if more else ""
    return f'<div class="charts">{shown}</div>{others}'


def _number(cell: object) -> float:
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan
