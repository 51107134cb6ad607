"""The vocabulary of generated scenes: kinds of shapes with their outlines, and named colours."""

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
Points = tuple[tuple[float, float], ...]

COLOURS: dict[str, Colour] = {
    "red": (208, 34, 40),
    "green": (40, 152, 60),
    "blue": (40, 80, 212),
    "yellow": (242, 216, 44),
    "orange": (243, 134, 24),
    "purple": (130, 48, 168),
    "pink": (246, 142, 188),
    "cyan": (66, 206, 222),
    "brown": (120, 72, 36),
    "black": (20, 20, 22),
    "white": (246, 246, 246),
    "grey": (130, 130, 132),
}


@dataclass(frozen=True)
class Kind:
    """One kind of shape.

    Attributes:
        points: Corners of its outline, y downwards, at any scale. A hole is part of the outline, joined by a seam.
        turn: Largest rotation to either side, radians, such that it keeps its name (a square on its tip is a diamond).
        bordered: Whether a smaller copy of the outline lies inside it, so that it can have a border.
    """

    points: Points
    turn: float = math.pi
    bordered: bool = True


def _arc(start: float, end: float, count: int, radius: float = 1.0, x: float = 0.0) -> Points:
    angles = (start + (end - start) * i / (count - 1) for i in range(count))
    return tuple((x + radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _regular(corners: int, start: float) -> Points:
    return _arc(start, start + 2 * math.pi * (corners - 1) / corners, corners)


def _star() -> Points:
    radii = (1.0, 0.42) * 5
    return tuple((r * x, r * y) for r, (x, y) in zip(radii, _regular(10, -math.pi / 2), strict=True))


def _cross(arm: float = 0.34) -> Points:
    a = arm
    return ((-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a))


def _heart(count: int = 28) -> Points:
    # The well-known curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.
    angles = (2 * math.pi * i / count for i in range(count))
    return tuple(
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in angles
    )


def _moon(tip: float = 0.9, shift: float = 0.35) -> Points:
    inner = math.hypot(math.cos(tip) - shift, math.sin(tip))
    angle = math.atan2(math.sin(tip), math.cos(tip) - shift)
    return _arc(tip, 2 * math.pi - tip, 20) + _arc(2 * math.pi - angle, angle, 16, inner, shift)


KINDS: dict[str, Kind] = {
    "circle": Kind(_regular(32, 0)),
    "square": Kind(_regular(4, math.pi / 4), turn=0.26),
    "triangle": Kind(_regular(3, -math.pi / 2)),
    "star": Kind(_star()),
    "diamond": Kind(((0, -1), (0.62, 0), (0, 1), (-0.62, 0)), turn=0.26),
    "hexagon": Kind(_regular(6, 0)),
    "cross": Kind(_cross(), turn=0.3),
    "heart": Kind(_heart(), turn=0.5),
    "arrow": Kind(((-1, -0.28), (0.1, -0.28), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.28), (-1, 0.28))),
    "moon": Kind(_moon(), bordered=False),
    "ring": Kind(_arc(0, 2 * math.pi, 33) + _arc(2 * math.pi, 0, 25, 0.55), bordered=False),
    "bolt": Kind(
        ((0.1, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.28, 1), (0.6, -0.28), (0.06, -0.28), (0.5, -1)),
        turn=0.4,
        bordered=False,
    ),
}


def outline(kind: str, turn: float, stretch: float) -> np.ndarray:
    """Returns a shape's outline, (n, 2) x and y, centred on its own box, whose longer side is 1.

    Args:
        kind: A key of `KINDS`.
        turn: Rotation in radians.
        stretch: Width by which it is multiplied before it is turned.
    """
    points = np.array(KINDS[kind].points) * (stretch, 1.0)
    c, s = math.cos(turn), math.sin(turn)
    points = points @ np.array(((c, s), (-s, c)))
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low).max()


def contrast(a: Colour, b: Colour) -> float:
    """Returns how far apart two colours look, 0..255: Euclidean distance, green weighing most and red least."""
    red, green, blue = (x - y for x, y in zip(a, b, strict=True))
    return math.sqrt(2 * red * red + 4 * green * green + 3 * blue * blue) / 3


def whole_colour(values: np.ndarray) -> Colour:
    """Returns three numbers as a colour, cut to whole levels."""
    red, green, blue = (int(v) for v in values)
    return red, green, blue


def plural(name: str) -> str:
    """Returns the plural of a kind or of anything that ends in one, such as "red crosses"."""
    return name + ("es" if name.endswith("s") else "s")
