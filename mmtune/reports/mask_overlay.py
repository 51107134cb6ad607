"""Masks drawn on a picture: a translucent tint and an outline in the class's colour, and a plate for each label."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmtune.codecs.mask_runs import mask_pixels
from mmtune.records import Box, Mask
from mmtune.reports.overlay import colour_of, draw_boxes

if TYPE_CHECKING:
    from PIL import Image

_TINT = 0.45  # share of the class's colour inside a mask
_SEAM = 0.5  # how much darker the outline's inner edge is, which shows it on ground of its own colour


def draw_masks(
    image: "Image.Image", boxes: Sequence[Box], masks: Sequence[Mask], classes: Sequence[str] = ()
) -> "Image.Image":
    """Returns a copy of the picture in mode RGB with the masks drawn on it.

    Args:
        image: A picture of any size; it is not changed.
        boxes: A box for each mask, in pixels of the picture, by which labels are placed.
        masks: Of the picture's size, with or without scores. Those of high score lie on top.
        classes: The data set's classes, by which colours are chosen; see `colour_of`.
    """
    from PIL import Image

    pixels = np.asarray(image.convert("RGB"), np.float32).copy()
    # As for boxes: lines grow with the picture, so that a reduced view of a large one stays legible.
    line = max(1, round((image.width * image.height) ** 0.5 / 250))
    for mask in sorted(masks, key=lambda mask: 1.0 if mask.score is None else mask.score):
        if mask.size == (image.height, image.width):
            _paint(pixels, mask_pixels(mask), np.array(colour_of(mask.label, classes), np.float32), line)
    drawn = Image.fromarray(np.round(pixels).astype(np.uint8))
    return draw_boxes(drawn, boxes, classes, frames=False)


def _paint(pixels: np.ndarray, mask: np.ndarray, colour: np.ndarray, line: int) -> None:
    """Tints the inside of a mask in place and draws its outline inwards from its edge."""
    if not mask.any():
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, view = mask[window], pixels[window]
    border = inside & ~_shrunk(inside, line)
    seam = inside & ~border & ~_shrunk(inside, line + max(1, line // 2)) if line > 1 else np.zeros_like(inside)
    view[inside] += _TINT * (colour - view[inside])
    view[seam] *= _SEAM
    view[border] = colour


def _shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Returns a mask without what lies within so many steps, along rows and columns, of its edge or the array's."""
    for _ in range(pixels):
        wide = np.pad(mask, 1)
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask
