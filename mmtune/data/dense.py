"""What dense supervision asks of each image token: the object under it, and where that object's edges are."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmtune.codecs.boxes import LAST_BIN
from mmtune.records import Box

# Offsets are measured in fifths of the picture, which puts most of them near 1.
_OFFSET_UNIT = 0.2
# An object owns the patches whose centres lie in this inner share of its box: corners often show something else.
_INNER = 0.7
# Absolute edges are asked for at so many patches of a picture; more adds cost, not signal.
EDGES = 16


class Objects(NamedTuple):
    """What lies on a picture.

    Attributes:
        edges: (n, 4) float, y0 x0 y1 x1 in 0..1, PaliGemma's order.
        labels: (n,) int, 1 and up; 0 stands for the ground.
    """

    edges: np.ndarray
    labels: np.ndarray


class DenseTargets(NamedTuple):
    """The head's targets, for one picture or with a leading batch axis.

    Attributes:
        labels: (maps, patches) int32, 0 for the ground.
        offsets: (patches, 4) float32 distances from the patch's centre up, left, down and right to the object's edges.
        patches: (EDGES,) int32 patches with an object, drawn with replacement; 0 where there is none.
        bins: (EDGES, 4) int32 location bins of the object's edges there, y0 x0 y1 x1.
        weight: () float32, 1 where there is an object at all, else 0.
    """

    labels: np.ndarray
    offsets: np.ndarray
    patches: np.ndarray
    bins: np.ndarray
    weight: np.ndarray


def dense_targets(maps: Sequence[Objects], side: int, rng: np.random.Generator) -> DenseTargets:
    """Returns the targets of one picture.

    Args:
        maps: Objects of each label map; edges are asked for the first map's only.
        side: Patches a side.
        rng: Chooses the patches at which absolute edges are asked for.
    """
    owners = [_owners(objects.edges, side) for objects in maps]
    labels = [np.append(objects.labels, 0)[owner] for objects, owner in zip(maps, owners, strict=True)]
    owner, edges = owners[0], np.concatenate([maps[0].edges, np.zeros((1, 4))])
    centres = (np.arange(side) + 0.5) / side
    y, x = np.repeat(centres, side), np.tile(centres, side)
    mine = edges[owner]
    offsets = np.stack([y - mine[:, 0], x - mine[:, 1], mine[:, 2] - y, mine[:, 3] - x], 1) / _OFFSET_UNIT
    owned = np.flatnonzero(owner >= 0)
    patches = rng.choice(owned, EDGES) if owned.size else np.zeros(EDGES, int)
    bins = np.clip(np.rint(mine[patches] * LAST_BIN), 0, LAST_BIN)
    return DenseTargets(
        np.stack(labels).astype(np.int32),
        (offsets * (owner >= 0)[:, None]).astype(np.float32),
        patches.astype(np.int32),
        bins.astype(np.int32),
        np.asarray(owned.size > 0, np.float32),
    )


def objects_of(boxes: Sequence[Box], size: tuple[int, int], classes: Sequence[str]) -> Objects:
    """Returns the boxes whose label is one of the classes; labels are places in `classes`, counted from 1.

    Args:
        boxes: Edges in pixels; what lies beyond the picture is cut off.
        size: (width, height) of the picture in pixels.
        classes: Class names.
    """
    places = {label: place for place, label in enumerate(classes, start=1)}
    known = [box for box in boxes if box.label in places]
    edges = np.array([(box.y0, box.x0, box.y1, box.x1) for box in known], float).reshape(-1, 4)
    limits = np.array((size[1], size[0], size[1], size[0]))
    return Objects(np.clip(edges / limits, 0, 1), np.array([places[box.label] for box in known], int))


def _owners(edges: np.ndarray, side: int) -> np.ndarray:
    """Returns for each patch the index of the object it belongs to, -1 for none; smaller objects come first."""
    owner = np.full((side, side), -1)
    centres = (np.arange(side) + 0.5) / side
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    for index in np.argsort(-area, kind="stable"):
        y0, x0, y1, x1 = edges[index]
        middle_y, middle_x = (y0 + y1) / 2, (x0 + x1) / 2
        rows = np.abs(centres - middle_y) <= _INNER * (y1 - y0) / 2
        columns = np.abs(centres - middle_x) <= _INNER * (x1 - x0) / 2
        rows[_cell(middle_y, side)] = columns[_cell(middle_x, side)] = True
        owner[np.ix_(rows, columns)] = index
    return owner.reshape(-1)


def _cell(middle: float, side: int) -> int:
    return min(side - 1, max(0, math.floor(middle * side)))
