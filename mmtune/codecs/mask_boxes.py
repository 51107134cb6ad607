"""Between masks of whole pictures and the 64 x 64 pixels of an object's own box that a codec works on."""

import numpy as np

from mmtune.codecs.mask_network import SIDE

Edges = tuple[float, float, float, float]


def crop_mask(mask: np.ndarray, edges: Edges) -> np.ndarray:
    """Returns an object's mask as the codec takes it, cut out along its box as PaliGemma's targets were.

    Args:
        mask: (height, width) bool, a whole picture's.
        edges: x0, y0, x1, y1 of the object's box in pixels; rounded, and at least a pixel wide and high.

    Returns:
        (64, 64) float32, 0 outside to 1 inside, bilinear with antialiasing.
    """
    height, width = mask.shape
    x0, x1 = _whole_span(edges[0], edges[2], width)
    y0, y1 = _whole_span(edges[1], edges[3], height)
    return np.clip(_resized(mask[y0:y1, x0:x1].astype(np.float32), SIDE, SIDE), 0.0, 1.0)


def paste_mask(decoded: np.ndarray, edges: Edges, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask of a whole picture: the decoded one stretched over its box, and inside where it is above 0.

    Args:
        decoded: (64, 64) float, -1 outside to 1 inside.
        edges: x0, y0, x1, y1 of the box in pixels; rounded, and at least a pixel wide and high unless it has no area.
        size: (width, height) of the picture in pixels.

    Returns:
        (height, width) bool.
    """
    width, height = size
    whole = np.zeros((height, width), bool)
    part, (x0, y0) = paste_part(decoded, edges, size)
    whole[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    return whole


def paste_part(decoded: np.ndarray, edges: Edges, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns only the box's part of what `paste_mask` returns, and its left and top edge in pixels.

    Edges are rounded, as `crop_mask` rounds them. PaliGemma's evaluator cuts the fraction off instead, which moves
    every second edge by a pixel: on a picture of 120 pixels perfect codes of small shapes would lose a fifth of
    their overlap with the truth.
    """
    width, height = size
    if edges[2] <= edges[0] or edges[3] <= edges[1]:
        return np.zeros((0, 0), bool), (0, 0)
    x0, x1 = _whole_span(edges[0], edges[2], width)
    y0, y1 = _whole_span(edges[1], edges[3], height)
    return _resized(np.asarray(decoded, np.float32), x1 - x0, y1 - y0) > 0, (x0, y0)


def _whole_span(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(max(round(low), 0), length - 1)
    return first, min(max(round(high), first + 1), length)


def _resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    # PIL's bilinear filter widens when it makes things smaller, which is what antialiasing means.
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
