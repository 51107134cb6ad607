"""The order in which objects are listed where it should be the same each time."""

from mmtune.records import Box

BANDS = 10
"""Bands of a picture, from top to bottom."""


def raster_key(box: Box, height: int) -> tuple[int, float, float]:
    """Returns what boxes are sorted by: the band that the middle lies in, then the middle's x, then its y.

    Sorting by the top edge would leave open which of two boxes comes next that begin within a pixel of each other, as
    many do in a crowd: who skips one never comes back to it.

    Args:
        box: In pixels.
        height: The picture's, in pixels.
    """
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return min(int(BANDS * y / height), BANDS - 1), x, y
