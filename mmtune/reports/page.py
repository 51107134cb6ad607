"""The page of a report: one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmtune.reports.bootstrap import LEVEL, RESAMPLES
from mmtune.reports.charts import Line
from mmtune.reports.findings import Findings
from mmtune.reports.gallery import browser
from mmtune.reports.log_curves import curve_charts
from mmtune.reports.markup import data, number, section, text
from mmtune.reports.numbers import (
    MOST_CLASSES,
    Intervals,
    calibration_part,
    classes_table,
    confusion_table,
    groups_tables,
    metrics_table,
    precision_recall_charts,
    span,
)
from mmtune.reports.object_faults import BACKGROUND, FOREGROUND

_ASSETS = Path(__file__).resolve().parents[1] / "assets"


@dataclass(frozen=True)
class Report:
    """What a page says.

    Attributes:
        title: What was evaluated, such as "detection: runs/cells".
        settings: The main settings by name.
        recipe: The whole recipe as TOML; empty where nothing was trained.
        curves: Columns of the log.
        metrics: Of the whole data, by their contract names; empty where nothing was evaluated.
        headline: Name of the metric that stands first.
        intervals: By the same names.
        findings: What went wrong with each record; None where the data is not at hand.
        records: How many were scored.
        invalid: How many answers had a part that could not be read.
        notes: Sentences on what a reader should know, such as what was left out.
    """

    title: str
    settings: Mapping[str, Any]
    recipe: str = ""
    curves: Mapping[str, Line] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    headline: str = ""
    intervals: Intervals = field(default_factory=dict)
    findings: Findings | None = None
    records: int = 0
    invalid: int = 0
    notes: Sequence[str] = ()


def page(report: Report) -> str:
    """Returns the whole page as HTML."""
    findings, notes = report.findings, list(report.notes)
    examples = ""
    if findings is not None and findings.examples:
        cards, more = browser(findings)
        notes += more
        examples = _rules(findings) + _controls(findings) + cards
    if findings is not None and len(findings.classes) > MOST_CLASSES:
        notes.append(
            f"Of {len(findings.classes)} classes the {MOST_CLASSES} with most objects have a curve; the confusion "
            "matrix is a list of the most frequent mix-ups."
        )
    parts = [
        _summary(report),
        section("notes", "Notes", f"<ul>{''.join(f'<li>{data(note)}</li>' for note in notes)}</ul>" if notes else ""),
        section("curves", "Curves", curve_charts(dict(report.curves), ("loss", "learning_rate", report.headline))),
        section("metrics", "Metrics", _metrics(report)),
    ]
    if findings is not None:
        at = f"{number(findings.threshold or 0)}"
        objects = findings.threshold is not None
        parts += [
            section(
                "classes", f"Classes, from a score of {at}", classes_table(findings, report.metrics, report.intervals)
            )
            if objects
            else "",
            section("precision", "Precision and recall", _precision(findings)) if objects else "",
            section("confusion", f"Confusion matrix, from a score of {at}", _confusion(findings)) if objects else "",
            section("calibration", "Calibration of the scores", calibration_part(findings)),
            section("examples", "Examples, the worst first", examples),
        ]
    parts.append(section("recipe", "Recipe", f"<pre tabindex='0'>{text(report.recipe)}</pre>" if report.recipe else ""))
    return document(report.title, "".join(parts))


def document(title: str, body: str) -> str:
    """Returns a page with our style and script around a body of HTML.

    A policy within it forbids whatever is not of the page: no address is ever asked for, no other script runs.
    """
    style, script = asset("report.css"), asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><p>mmtune</p><h1>{data(title)}</h1></header>\n<main>{body}</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


@lru_cache(maxsize=4)
def asset(name: str) -> str:
    """Returns a file of the package's assets."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def settings_table(settings: Mapping[str, Any]) -> str:
    """Returns settings by name, those without a value left out."""
    pairs = "".join(
        f"<div><dt>{text(name)}</dt><dd>{data(value)}</dd></div>"
        for name, value in settings.items()
        if value is not None
    )
    return f'<dl class="settings">{pairs}</dl>'


def _summary(report: Report) -> str:
    tiles = []
    value = report.metrics.get(report.headline)
    if isinstance(value, int | float):
        found = report.intervals.get((report.headline,))
        tiles.append((number(value), text(report.headline), span(found)))
    if report.records:
        tiles.append(
            (f"{report.records:,}", "records", f"{report.invalid} with an unreadable part" if report.invalid else "")
        )
    if report.findings is not None:
        for kind, total in report.findings.totals.items():
            if total:
                tiles.append((f"{total:,}", text(kind), ""))
    made = "".join(f"<li><strong>{value}</strong>{name}<small>{more}</small></li>" for value, name, more in tiles)
    return section(
        "settings", "Summary", f"<ul class='tiles'>{made}</ul>" * bool(tiles) + settings_table(report.settings)
    )


def _metrics(report: Report) -> str:
    if not report.metrics:
        return ""
    told = (
        f"<p>Intervals hold the middle {LEVEL:.0%} of {RESAMPLES:,} bootstrap resamples of the records: how far a "
        "number would move on other data of the same kind and size. What another seed of training would change is "
        "not in them.</p>" * bool(report.intervals)
    )
    return told + metrics_table(report.metrics, report.intervals) + groups_tables(report.metrics)


def _precision(findings: Findings) -> str:
    charts = precision_recall_charts(findings)
    told = f"<p>At an overlap of {FOREGROUND}; the ring is where the threshold lies.</p>"
    return told + charts if charts else ""


def _confusion(findings: Findings) -> str:
    made = confusion_table(findings)
    told = (
        f"<p>Objects that overlap by {FOREGROUND} or more. Truth that was not found is in the last column; what was "
        "found where nothing is, or a second time, in the last row.</p>"
    )
    return told + made if made else ""


def _rules(findings: Findings) -> str:
    rows = "".join(
        f'<dt><span class="chip {kind.replace(" ", "-")}">{text(kind)}</span></dt><dd>{text(meaning)}</dd>'
        for kind, meaning in findings.explained.items()
    )
    if findings.threshold is None:
        return f'<details class="rules"><summary>What the words mean</summary><dl>{rows}</dl></details>'
    return (
        f"<p>Objects with a score of {number(findings.threshold)} or more: the score at which F1 over all classes is "
        "highest. Truth is dashed.</p>"
        f'<details class="rules"><summary>What the faults are</summary><dl>{rows}</dl><p>Overlap is intersection over '
        f"union. The thresholds {BACKGROUND} and {FOREGROUND} are those of TIDE; what TIDE calls wrong in both class "
        "and place counts as invented.</p></details>"
    )


def _controls(findings: Findings) -> str:
    kinds = {kind: times for kind, times in findings.touched.items() if times}
    if findings.threshold is None:
        kinds = {kind: sum(one.difference is not None and one.difference.kind == kind for one in findings.examples)
                 for kind in findings.explained}  # fmt: skip
    options = "".join(
        f'<option value="{text(kind)}">{text(kind)} ({times})</option>' for kind, times in kinds.items() if times
    )
    layers = ""
    if findings.threshold is not None:
        layers = "".join(
            f'<label><input type="checkbox" data-layer="{name}" checked> {told}</label>'
            for name, told in (("truth", "truth"), ("found", "found"), ("right", "right ones"), ("names", "names"))
        )
    return (
        '<form id="controls" aria-label="Which examples are shown" hidden>'
        f'<label>show <select name="kind"><option value="">all</option>{options}</select></label>'
        '<label>sorted by <select name="order"><option value="rank">worst first</option>'
        '<option value="best">best first</option><option value="place">order of the data</option></select></label>'
        '<label>named <input type="search" name="id" size="12" autocomplete="off"></label>'
        f"{layers}</form><p id='told' role='status'></p>"
    )
