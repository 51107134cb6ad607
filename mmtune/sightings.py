"""Objects found in several looks at a picture, put together: what several agree on is likelier to be there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmtune.codecs.boxes import Bins, DecodedBox
from mmtune.looks import shows
from mmtune.records import PLAIN, Look

_SAME = 0.6  # overlap beyond which objects of two looks are one


@dataclass(frozen=True, slots=True)
class Sighting:
    """An object as it was found in one look.

    Attributes:
        box: Its bins those of the whole picture as it is.
        score: 0..1.
        look: On its picture segmentation tokens mean their mask.
    """

    box: DecodedBox
    score: float
    look: Look = PLAIN


@dataclass(frozen=True, slots=True)
class Found:
    """An object that was found in at least one look.

    Attributes:
        box: The mean of its sightings, each weighed by its score, and by how much its look enlarges.
        score: The mean of their scores over all looks that show it whole, 0..1.
        sightings: The likeliest first, at most one a look.
    """

    box: DecodedBox
    score: float
    sightings: tuple[Sighting, ...]


def together(sightings: Sequence[Sighting], looks: Sequence[Look]) -> list[Found]:
    """Returns the objects that were found in some of the looks, in the order in which they were first seen.

    Sightings in two looks are of one object where their labels are the same and their boxes overlap by more than 0.6.

    Args:
        sightings: Of all looks.
        looks: Those that were taken.
    """
    if len(looks) == 1:
        return [Found(one.box, one.score, (one,)) for one in sightings]
    groups: list[list[int]] = []
    for place in sorted(range(len(sightings)), key=lambda place: -sightings[place].score):
        group = _home(sightings, groups, place)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return [_mean([sightings[place] for place in group], looks) for group in sorted(groups, key=min)]


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
        if first.box.label != one.box.label or any(sightings[other].look == one.look for other in group):
            continue
        if (shared := overlap(first.box.bins, one.box.bins)) > most:
            best, most = group, shared
    return best


def _mean(sightings: Sequence[Sighting], looks: Sequence[Look]) -> Found:
    scores = [one.score for one in sightings]
    # An edge is off by so many pixels of the model's picture: in a look at a half of the side by half as many of all.
    weights = [(score or 1e-9) / one.look.area for one, score in zip(sightings, scores, strict=True)]
    y0, x0, y1, x1 = map(round, np.average([one.box.bins for one in sightings], axis=0, weights=weights).tolist())
    box = replace(sightings[0].box, bins=(y0, x0, y1, x1))
    able = sum(shows(look, box.bins) for look in looks)
    return Found(box, sum(scores) / max(able, len(scores)), tuple(sightings))
