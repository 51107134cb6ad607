"""How a picture is shown when it is asked about several times: mirrored and turned, whole and in tiles.

A decoder that lists objects misses some, other ones in a mirrored picture, and the small ones of a large picture above
all; what it finds in each look is put together by `sightings`. (Test-time augmentation and sliced inference, for models
that write their boxes.)
"""

from collections.abc import Iterable, Mapping

import numpy as np

from mmtune.codecs.boxes import LAST_BIN, Bins
from mmtune.records import WHOLE, Look, Part, Query

VIEWS = (1, 2, 4, 8)
"""How many views there may be: the picture as it is, and mirrored; both upside down; all four with x and y swapped."""

MOST_TILES = 4
"""Most tiles along a side."""

_MIRRORED, _UPSIDE_DOWN, _SWAPPED = 1, 2, 4  # bits of a view; x and y are swapped first

_NEAR = 20  # bins of a look: nearer to where a tile was cut, an edge is that of the tile


def looks(views: int, tiles: int) -> tuple[Look, ...]:
    """Returns every view of the whole picture, then of each of its tiles.

    Args:
        views: One of `VIEWS`.
        tiles: Along a side, 1 to 4; 1: there are none. Neighbours share a third of their side.
    """
    # In steps of two thirds of a tile's side: the last tile ends at the border exactly, where nothing is cut.
    thirds = 2 * tiles + 1
    edges = [(2 * place / thirds, (2 * place + 3) / thirds) for place in range(tiles)] if tiles > 1 else []
    parts = [WHOLE, *((y0, x0, y1, x1) for y0, y1 in edges for x0, x1 in edges)]
    return tuple(Look(view, part) for part in parts for view in range(views))


def shown(pictures: Mapping[Part, np.ndarray | None], queries: Iterable[Query]) -> list[np.ndarray | None]:
    """Returns what each query is asked about; those with the same look share one array.

    Args:
        pictures: (side, side, 3) for each part that is asked about, or what stands for no picture.
        queries: The questions.
    """
    made: dict[Look, np.ndarray | None] = {}
    for query in queries:
        if query.look not in made:
            pixels = pictures[query.look.part]
            made[query.look] = pixels if pixels is None else turned(pixels, query.look.view)
    return [made[query.look] for query in queries]


def turned(image: np.ndarray, view: int) -> np.ndarray:
    """Returns an image (height, width, ...) as a view shows it."""
    if not view:
        return image
    image = image.swapaxes(0, 1) if view & _SWAPPED else image
    image = image[:, ::-1] if view & _MIRRORED else image
    return np.ascontiguousarray(image[::-1] if view & _UPSIDE_DOWN else image)


def upright(image: np.ndarray, view: int) -> np.ndarray:
    """Returns the image that `turned` made the view's image of."""
    image = image[::-1] if view & _UPSIDE_DOWN else image
    image = image[:, ::-1] if view & _MIRRORED else image
    return image.swapaxes(0, 1) if view & _SWAPPED else image


def upright_bins(bins: Bins, view: int) -> Bins:
    """Returns the edges of a box in the image that `turned` made the view's image of, of those in the view's."""
    y0, x0, y1, x1 = bins
    if view & _UPSIDE_DOWN:
        y0, y1 = LAST_BIN - y1, LAST_BIN - y0
    if view & _MIRRORED:
        x0, x1 = LAST_BIN - x1, LAST_BIN - x0
    return (x0, y0, x1, y1) if view & _SWAPPED else (y0, x0, y1, x1)


def whole_bins(bins: Bins, look: Look) -> Bins:
    """Returns the edges of a box in the whole picture as it is, of those in a look."""
    y0, x0, y1, x1 = upright_bins(bins, look.view)
    top, left, bottom, right = look.part
    height, width = bottom - top, right - left
    y0, y1 = (round(top * LAST_BIN + height * edge) for edge in (y0, y1))
    x0, x1 = (round(left * LAST_BIN + width * edge) for edge in (x0, x1))
    return y0, x0, y1, x1


def shows(look: Look, bins: Bins) -> bool:
    """Returns whether a look shows a box whole: no edge lies where its tile was cut, nor beyond.

    Args:
        look: The look.
        bins: Edges in the whole picture.
    """
    top, left, bottom, right = look.part
    near_y, near_x = _NEAR * (bottom - top), _NEAR * (right - left)
    y0, x0, y1, x1 = bins
    return (
        (top == 0 or y0 >= top * LAST_BIN + near_y)
        and (left == 0 or x0 >= left * LAST_BIN + near_x)
        and (bottom == 1 or y1 <= bottom * LAST_BIN - near_y)
        and (right == 1 or x1 <= right * LAST_BIN - near_x)
    )
