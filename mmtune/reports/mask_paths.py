"""Masks as SVG paths: their outlines, on a coarse grid."""

import numpy as np

from mmtune.codecs.mask_runs import mask_pixels
from mmtune.records import Mask

_SIDE = 160  # cells of the grid along a picture's longer side
_TOLERANCE = 0.7  # cells by which an outline may be off


def mask_path(mask: Mask, width: float, height: float) -> str:
    """Returns the `d` of a path around a mask's pixels, with the rule evenodd for its holes; empty for an empty mask.

    Args:
        mask: A mask.
        width, height: What the picture measures in the path's units.
    """
    rows, columns = mask.size
    step = max(1, -(-max(rows, columns) // _SIDE))
    pixels = mask_pixels(mask)[step // 2 :: step, step // 2 :: step]
    down, right = pixels.shape
    if not pixels.any():
        return ""
    across, along = width / right, height / down
    parts = []
    for loop in outlines(pixels):
        points = _simplified(loop)
        shown = " ".join(f"{x * across:.1f} {y * along:.1f}" for x, y in points)
        parts.append(f"M{shown}Z")
    return "".join(parts)


def outlines(pixels: np.ndarray) -> list[list[tuple[int, int]]]:
    """Returns the closed lines between set and unset pixels, as corners (x, y), the set ones on the right hand.

    Args:
        pixels: (height, width) bool.
    """
    wide = np.pad(pixels, 1)
    inside = wide[1:-1, 1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbour, start, end in (
        (wide[:-2, 1:-1], (0, 0), (1, 0)),  # the edge above a pixel runs to the right
        (wide[1:-1, 2:], (1, 0), (1, 1)),
        (wide[2:, 1:-1], (1, 1), (0, 1)),
        (wide[1:-1, :-2], (0, 1), (0, 0)),
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    loops = []
    while following:
        first = next(iter(following))
        loop, at = [], first
        while True:
            ends = following[at]
            loop.append(at)
            onward = ends.pop()
            if not ends:
                del following[at]
            at = onward
            if at == first:
                break
        loops.append(loop)
    return loops


def _simplified(loop: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the corners without those that lie within the tolerance of the line between others (Douglas, Peucker)."""
    points = np.array([*loop, loop[0]], float)
    keep = np.zeros(len(points), bool)
    middle = int(np.abs(points - points[0]).sum(axis=1).argmax())
    keep[[0, middle, -1]] = True
    open_parts = [(0, middle), (middle, len(points) - 1)]
    while open_parts:
        start, end = open_parts.pop()
        if end - start < 2:
            continue
        chord, between = points[end] - points[start], points[start + 1 : end] - points[start]
        length = float(np.hypot(*chord)) or 1.0
        off = np.abs(chord[0] * between[:, 1] - chord[1] * between[:, 0]) / length
        far = int(off.argmax())
        if off[far] > _TOLERANCE:
            keep[start + 1 + far] = True
            open_parts += [(start, start + 1 + far), (start + 1 + far, end)]
    kept = [loop[place] for place in np.flatnonzero(keep[:-1])]
    return kept if len(kept) > 2 else loop
