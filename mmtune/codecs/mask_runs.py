"""Masks as pixels and as COCO's run lengths, written from the object's columns of a large picture alone."""

from typing import Any

import numpy as np

from mmtune.records import Mask


def mask_pixels(mask: Mask) -> np.ndarray:
    """Returns a mask as (height, width) bool."""
    from pycocotools import mask as coco

    runs: Any = {"size": list(mask.size), "counts": mask.counts}
    return coco.decode(runs).astype(bool)


def pasted_counts(part: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> bytes:
    """Returns COCO's compressed run lengths of a part of a picture's mask; outside it the mask is empty.

    Args:
        part: (height, width) bool; may have no pixel.
        corner: Left and top edge of the part in pixels of the picture, in which it must fit.
        size: (width, height) of the picture in pixels.
    """
    from pycocotools import mask as coco

    (x0, y0), (width, height) = corner, size
    strip = np.zeros((part.shape[1] + 2, height), bool)  # a column before and one behind it, as runs go down columns
    strip[1:-1, y0 : y0 + part.shape[0]] = part.T
    changes = np.flatnonzero(np.diff(strip.reshape(-1))) + 1
    starts = changes + (x0 - 1) * height
    runs = np.diff(starts, prepend=0, append=width * height) if len(changes) else np.array([width * height])
    runs = runs[:-1] if runs[-1] == 0 else runs  # a mask that ends in its last pixel has no run behind
    uncompressed: Any = {"size": [height, width], "counts": runs.tolist()}
    return coco.frPyObjects(uncompressed, height, width)["counts"]
