"""A picture seen several times, mirrored and turned, and what was found each time put together.

A decoder that lists objects misses some, other ones in a mirrored picture, and its edges err to other sides: what
several views agree on is likelier to be there, and lies nearer to their mean. (Test-time augmentation, for models
that write their boxes.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmtune.codecs.boxes import LAST_BIN, Bins, DecodedBox
from mmtune.records import Query

COUNTS = (1, 2, 4, 8)
"""How many views there may be: the picture as it is, and mirrored; both upside down; all four with x and y swapped."""

_MIRRORED, _UPSIDE_DOWN, _SWAPPED = 1, 2, 4  # bits of a view; x and y are swapped first

_SAME = 0.6  # overlap beyond which objects of two views are one


@dataclass(frozen=True, slots=True)
class Sighting:
    """An object as it was found in one view.

    Attributes:
        box: Its bins those of the picture as it is.
        score: 0..1.
        view: Number of the view, on whose picture its segmentation tokens mean their mask.
    """

    box: DecodedBox
    score: float
    view: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """An object that was found in at least one view.

    Attributes:
        box: The mean of its sightings, each weighed by its score.
        score: The mean of their scores over all views, 0..1.
        sightings: The likeliest first, at most one a view.
    """

    box: DecodedBox
    score: float
    sightings: tuple[Sighting, ...]


def in_views(pixels: np.ndarray | None, queries: Iterable[Query]) -> Mapping[int, np.ndarray | None]:
    """Returns the picture in every view that is asked about, by the view's number.

    Args:
        pixels: (side, side, 3), or what stands for no picture, which has one view alone.
        queries: The questions about it.
    """
    return {view: pixels if pixels is None else turned(pixels, view) for view in {query.view for query in queries}}


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
    """Returns the edges of a box in the picture as it is, of those in a view."""
    y0, x0, y1, x1 = bins
    if view & _UPSIDE_DOWN:
        y0, y1 = LAST_BIN - y1, LAST_BIN - y0
    if view & _MIRRORED:
        x0, x1 = LAST_BIN - x1, LAST_BIN - x0
    return (x0, y0, x1, y1) if view & _SWAPPED else (y0, x0, y1, x1)


def together(sightings: Sequence[Sighting], views: int) -> list[Found]:
    """Returns the objects that were found in some of the views, in the order in which they were first seen.

    Sightings in two views are of one object where their labels are the same and their boxes overlap by more than 0.6.

    Args:
        sightings: Of all views.
        views: How many there were.
    """
    if views == 1:
        return [Found(one.box, one.score, (one,)) for one in sightings]
    groups: list[list[int]] = []
    for place in sorted(range(len(sightings)), key=lambda place: -sightings[place].score):
        group = _home(sightings, groups, place)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return [_mean([sightings[place] for place in group], views) for group in sorted(groups, key=min)]


def distinct(found: Sequence[Found], most: float) -> list[Found]:
    """Returns the objects, in their order, that overlap no likelier one of their label by more than `most`."""
    kept: list[int] = []
    for place in sorted(range(len(found)), key=lambda place: -found[place].score):
        box = found[place].box
        rivals = (found[other].box for other in kept)
        if all(box.label != rival.label or overlap(box.bins, rival.bins) <= most for rival in rivals):
            kept.append(place)
    return [found[place] for place in sorted(kept)]


def overlap(one: Bins, other: Bins) -> float:
    """Returns the intersection over union of two boxes; it is the same in bins and in pixels."""
    (top, left, bottom, right), (y0, x0, y1, x1) = one, other
    shared = max(0, min(bottom, y1) - max(top, y0)) * max(0, min(right, x1) - max(left, x0))
    union = (bottom - top) * (right - left) + (y1 - y0) * (x1 - x0) - shared
    return shared / union if union else 0.0


def _home(sightings: Sequence[Sighting], groups: Sequence[list[int]], place: int) -> list[int] | None:
    """Returns the group whose likeliest sighting overlaps this one most, where one is the same object."""
    one, best, most = sightings[place], None, _SAME
    for group in groups:
        first = sightings[group[0]]
        if first.box.label != one.box.label or any(sightings[other].view == one.view for other in group):
            continue
        if (shared := overlap(first.box.bins, one.box.bins)) > most:
            best, most = group, shared
    return best


def _mean(sightings: Sequence[Sighting], views: int) -> Found:
    scores = [one.score for one in sightings]
    weights = scores if sum(scores) else None
    y0, x0, y1, x1 = map(round, np.average([one.box.bins for one in sightings], axis=0, weights=weights).tolist())
    return Found(replace(sightings[0].box, bins=(y0, x0, y1, x1)), sum(scores) / views, tuple(sightings))
