"""The curves of a run as a small picture in SVG, in the page's own colours: nothing is loaded for it."""

from collections.abc import Sequence

from mmtune.training.log import COLUMNS

from .results import escaped

Point = tuple[float, float]

_WIDTH, _HEIGHT = 480, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 30
_MOST = 400


def metric_names(log: dict[str, list[Point]]) -> tuple[str, ...]:
    """Returns the columns that are metrics."""
    return tuple(name for name in log if name not in COLUMNS)


def curve_svg(title: str, points: Sequence[Point]) -> str:
    """Returns a curve over steps.

    Args:
        title: What the values are; it is escaped.
        points: (step, value), ascending by step; of many, every so many-th is drawn, and the last.
    """
    if not points:
        return f'<figure class="curve empty"><figcaption>{escaped(title)}</figcaption><p>no values yet</p></figure>'
    stride = -(-len(points) // _MOST)
    chosen = list(points[::stride])
    if chosen[-1] != points[-1]:
        chosen.append(points[-1])
    last_step = max(step for step, _ in chosen)
    low, high = min(value for _, value in chosen), max(value for _, value in chosen)
    low = 0.0 if 0 <= low < 0.5 * high else low
    high = high if high > low else low + (abs(low) or 1.0)

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step / last_step if last_step else 0.0)
        y = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))
        return round(x, 1), round(y, 1)

    line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in chosen))
    x, y = place(*chosen[-1])
    first_y, last_y = place(0, low)[1], place(0, high)[1]
    told = f"{title}: {chosen[0][1]:.4g} at step {chosen[0][0]:.0f}, {chosen[-1][1]:.4g} at step {chosen[-1][0]:.0f}"
    return (
        f'<figure class="curve"><figcaption>{escaped(title)} <b>{chosen[-1][1]:.4g}</b></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(told)}">'
        f'<line class="axis" x1="{_LEFT}" y1="{first_y}" x2="{_WIDTH - _RIGHT}" y2="{first_y}"/>'
        f'<line class="grid" x1="{_LEFT}" y1="{last_y}" x2="{_WIDTH - _RIGHT}" y2="{last_y}"/>'
        f'<text x="{_LEFT - 6}" y="{first_y + 4}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{last_y + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">0</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">step {last_step:.0f}</text>'
        f'<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="4"/></svg></figure>'
    )
