"""Small charts as inline SVG: lines over an axis, reliability, intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.reports.bootstrap import Interval
from mmtune.reports.calibration import Calibration
from mmtune.reports.markup import number, text

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 30
_POINTS = 400  # of a line: more than a chart has pixels


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) of a line, in their order."""

    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    title: str,
    line: Line,
    *,
    across: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    mark: tuple[float, float] | None = None,
) -> str:
    """Returns a figure of one line; points that are no finite number are left out.

    Args:
        title: What is drawn.
        line: The points.
        across: What the x axis is.
        x_range, y_range: Of the axes; None: as the points need.
        mark: A point that is marked with a ring.
    """
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return ""
    points = points[:: max(1, len(points) // _POINTS)] + points[-1:]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    frame = _Frame(x_range or _range(xs), y_range or _range(ys))
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    told = f"{title}: from {number(ys[0])} at {across} {xs[0]:g} to {number(ys[-1])} at {across} {xs[-1]:g}"
    drawn = f'<polyline class="line" points="{path}"/>'
    if len(set(points)) == 1 or mark is not None:
        x, y = mark or points[0]
        drawn += f'<circle class="ring" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4"/>'
    return figure(title, told, frame.axes(across) + drawn)


def reliability_chart(title: str, found: Calibration) -> str:
    """Returns a figure of the share that is right over the score; bars below say how many answers there are."""
    frame = _Frame((0, 1), (0, 1))
    most = max(1, *(one.count for one in found.bins))
    drawn = f'<line class="ideal" x1="{frame.x(0)}" y1="{frame.y(0)}" x2="{frame.x(1)}" y2="{frame.y(1)}"/>'
    for one in found.bins:
        height = 0.2 * one.count / most * (frame.y(0) - frame.y(1))
        left, right = frame.x(one.low), frame.x(one.high)
        drawn += f'<rect class="bar" x="{left + 1:.1f}" y="{frame.y(0) - height:.1f}" width="{right - left - 2:.1f}" '
        drawn += f'height="{height:.1f}"><title>{one.count} answers from {one.low:g} to {one.high:g}</title></rect>'
    known = [one for one in found.bins if one.count]
    path = " ".join(f"{frame.x(one.score):.1f},{frame.y(one.right):.1f}" for one in known)
    drawn += f'<polyline class="line" points="{path}"/>'
    for one in known:
        drawn += f'<circle class="dot" cx="{frame.x(one.score):.1f}" cy="{frame.y(one.right):.1f}" r="3"><title>'
        drawn += f"{one.count} answers: mean score {number(one.score)}, {number(one.right)} right</title></circle>"
    told = f"{title}: expected calibration error {number(found.error)} over {found.count} answers"
    return figure(title, told, frame.axes("score") + drawn)


def interval_bar(value: float, interval: Interval) -> str:
    """Returns an interval within 0..1 as a line with a dot; nothing where it does not lie there."""
    if not (0 <= interval.low <= interval.high <= 1 and 0 <= value <= 1):
        return ""
    low, high, at = (100 * part for part in (interval.low, interval.high, value))
    return (
        '<svg class="span" viewBox="-3 0 106 10" aria-hidden="true"><line class="axis" x1="0" y1="5" x2="100" y2="5"/>'
        f'<line class="reach" x1="{low:.1f}" y1="5" x2="{high:.1f}" y2="5"/>'
        f'<circle class="dot" cx="{at:.1f}" cy="5" r="3"/></svg>'
    )


def figure(title: str, told: str, drawn: str) -> str:
    """Returns a figure with its caption; `told` says in words what `drawn` shows."""
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(told)}">{drawn}</svg></figure>'
    )


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Returns round numbers within a range, at most `most` + 1 steps of 1, 2 or 5 times a power of ten apart.

    >>> ticks(0, 1), ticks(3, 47)
    ([0.0, 0.5, 1.0], [20.0, 40.0])
    """
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


class _Frame:
    """Where the points of a chart lie."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]):
        self._x, self._y = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def axes(self, across: str) -> str:
        floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        drawn = ""
        for value in ticks(*self._y):
            y = self.y(value)
            drawn += f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            drawn += f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in ticks(*self._x):
            drawn += f'<text x="{self.x(value):.1f}" y="{floor + 13}" text-anchor="middle">{value:g}</text>'
        drawn += f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{right}" y2="{floor}"/>'
        return drawn + f'<text x="{(_LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{text(across)}</text>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Returns the range of an axis: of what is drawn, with 0 where that is near, and never empty."""
    low, high = min(values), max(values)
    if 0 <= low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-12 * max(1.0, abs(high)):
        room = abs(high) / 2 or 1.0
        return low - room, high + room
    room = 0.04 * (high - low)
    return (low if low == 0 else low - room), high + room
