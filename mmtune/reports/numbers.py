"""The tables of a page: metrics with their intervals, what became of each class, the confusion matrix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmtune.metrics.resampling import Key, flat
from mmtune.reports.bootstrap import Interval
from mmtune.reports.charts import Line, interval_bar, line_chart, reliability_chart
from mmtune.reports.findings import Findings
from mmtune.reports.markup import data, number, table
from mmtune.reports.object_faults import (
    FAULTS,
    FOREGROUND,
    MISSED,
    RIGHT,
    Judged,
    confusion,
    precision_recall,
)

MOST_CLASSES = 24
"""Classes that get a curve, or a row and a column of the confusion matrix; of more, those with most objects."""

_MOST_PAIRS = 30

Intervals = Mapping[Key, Interval]


def metrics_table(metrics: Mapping[str, Any], intervals: Intervals, told: str = "95 % interval") -> str:
    """Returns the metrics of the whole data, each with its interval; those of classes or types are left to others."""
    rows = []
    for (name, *below), value in flat(metrics).items():
        if not below:
            found = intervals.get((name,))
            rows.append([data(name), number(value), span(found), interval_bar(value, found) if found else ""])
    return table(("metric", "value", told, ""), rows, kind="numbers") if rows else ""


def groups_tables(metrics: Mapping[str, Any]) -> str:
    """Returns a table for each group of metrics (those of types of questions), but for those of classes."""
    made = ""
    for name, group in metrics.items():
        if not isinstance(group, Mapping) or name == "per_class" or not group:
            continue
        columns = list(dict.fromkeys(key for values in group.values() for key in values))
        rows = [
            [data(label), *(number(float(values.get(key, -1))) for key in columns)] for label, values in group.items()
        ]
        made += table((data(name.replace("_", " ")), *map(data, columns)), rows, kind="numbers")
    return made


def span(interval: Interval | None) -> str:
    """Returns an interval as text; empty without one."""
    return "" if interval is None else f"{number(interval.low)} to {number(interval.high)}"


def classes_table(findings: Findings, metrics: Mapping[str, Any], intervals: Intervals) -> str:
    """Returns a row a class: objects, what is right and wrong from the threshold on, AP and AP50 with intervals."""
    per_class = metrics.get("per_class", {})
    judged = [one.judged for one in findings.examples if one.judged is not None]
    truth = Counter(t.label for one in judged for t in one.truth if t.counts)
    found = Counter(
        (verdict, thing.label) for one in judged for thing, verdict in zip(one.found, one.verdicts, strict=True)
    )
    missed = Counter(one.truth[place].label for one in judged for place in one.missed)
    rows = []
    for label in findings.classes:
        faults = [missed[label] if kind == MISSED else found[kind, label] for kind in FAULTS]
        cells = []
        for name in ("AP", "AP50"):
            value = per_class.get(label, {}).get(name, -1)
            cells.append(f"{number(value)} <small>{span(intervals.get(('per_class', label, name)))}</small>")
        rows.append([data(label), str(truth[label]), str(found[RIGHT, label]), *map(str, faults), *cells])
    head = ("class", "objects", "right", *FAULTS, "AP", "AP50")
    return table(head, rows, kind="numbers") if rows else ""


def shown_classes(findings: Findings) -> list[str]:
    """Returns the classes that get curves, those with most objects first in choice, in their own order."""
    count = Counter(t.label for one in findings.everything for t in one.truth if t.counts)
    ranked = sorted(findings.classes, key=lambda label: -count[label])[:MOST_CLASSES]
    return [label for label in findings.classes if label in ranked]


def precision_recall_charts(findings: Findings) -> str:
    """Returns a curve for each class, with a ring where the threshold lies."""
    charts = []
    for label in shown_classes(findings):
        recall, precision = precision_recall(findings.everything, label)
        if not recall.size:
            continue
        above = sum(_scores(findings.everything, label) >= (findings.threshold or 0.0))
        mark = (float(recall[above - 1]), float(precision[above - 1])) if above else None
        line = Line(recall.tolist(), precision.tolist())
        charts.append(line_chart(label, line, across="recall", x_range=(0, 1), y_range=(0, 1.02), mark=mark))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def confusion_table(findings: Findings) -> str:
    """Returns truth in rows, found in columns; of more than `MOST_CLASSES` classes, the most frequent mix-ups."""
    judged = [one.judged for one in findings.examples if one.judged is not None]
    names = [*map(data, findings.classes), "<i>background</i>"]
    counts = confusion(judged, findings.classes)
    if len(findings.classes) > MOST_CLASSES:
        pairs = sorted((-int(counts[r, c]), r, c) for r, c in np.argwhere(counts).tolist() if r != c)
        rows = [[names[r], names[c], str(-times)] for times, r, c in pairs[:_MOST_PAIRS]]
        return table(("truth", "found as", "times"), rows, kind="numbers") if rows else ""
    rows = []
    for name, row in zip(names, counts, strict=True):
        whole = max(1, int(row.sum()))
        rows.append([name, *(_shaded(int(count), count / whole) for count in row)])
    return table(("truth \\ found", *names), rows, kind="confusion") if findings.classes else ""


def calibration_part(findings: Findings) -> str:
    """Returns the reliability diagram and what it says."""
    found = findings.calibration
    if found is None:
        return ""
    what = (
        f"an object is right where it gets a true one (overlap {FOREGROUND} or more)"
        if findings.threshold is not None
        else "the score of a text is the product of its tokens' probabilities; it is right where it equals a right text"
    )
    return (
        f"<p>Of answers with a score of .8, eight of ten should be right: {what}. Expected calibration error over "
        f"{found.count} answers in {len(found.bins)} equal parts of the scores: "
        f"<strong>{number(found.error)}</strong>. The bars say how many answers lie in each part.</p>"
        f'<div class="charts">{reliability_chart("right over score", found)}</div>'
    )


def _scores(judged: Sequence[Judged], label: str) -> np.ndarray:
    """Returns the scores of what `precision_recall` counts."""
    return np.array(
        [
            thing.score
            for one in judged
            for thing, verdict in zip(one.found, one.verdicts, strict=True)
            if thing.label == label and verdict != "ignored"
        ]
    )


def _shaded(count: int, share: float) -> str:
    """Returns a cell whose ground says what share of its row it holds; light enough for its text in either theme."""
    return f'<span style="--share:{100 * share:.0f}%">{count or ""}</span>'
