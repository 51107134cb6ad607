"""The shapes on generated pictures: what they look like, and where they stand so that each can be recognised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from mmtune.data.shape_kinds import COLOURS, KINDS, Colour, Points, contrast, outline, whole_colour
from mmtune.records import Mask

SUPERSAMPLING = 2
MAX_OBJECTS = 25
# Up to so many shapes a scene is an ordinary one, beyond a crowd.
FEW = 6
# Below this share a shape counts as hidden and is not placed: the truth only names what can be seen.
_VISIBLE = 0.62
# Colours nearer than this (see `contrast`) are not told apart: no shape stands before such a background or shape.
_CONTRAST = 50.0
# No shape is smaller than this, whatever the picture's size, or nobody could name it.
_LEAST_PIXELS = 6

Box = tuple[int, int, int, int]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One object of a scene.

    Attributes:
        kind, colour: Names, keys of `KINDS` and `COLOURS`.
        fill: Its actual colour, near the named one.
        border: Width of its darker border as a share of its size, 0 for none.
        shade: How strongly the scene's light changes over it, in grey levels.
        polygon: Outline in pixels of the picture, hidden parts included.
        box: Left, top, right and bottom edge in pixels of what is visible: the bounding box of `mask`.
        mask: (size, size) bool, the pixels of which at least half is visible shape.
    """

    kind: str
    colour: str
    fill: Colour
    border: float
    shade: int
    polygon: Points
    box: Box
    mask: np.ndarray = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """Colour and kind, such as "red circle"."""
        return f"{self.colour} {self.kind}"

    @property
    def centre(self) -> tuple[float, float]:
        """Horizontal and vertical centre of the visible box in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def coco_mask(self, label: str) -> Mask:
        """Returns the mask under a name as records carry it."""
        from pycocotools import mask as coco

        encoded = coco.encode(np.asfortranarray(self.mask.astype(np.uint8)))
        return Mask(label, (self.mask.shape[0], self.mask.shape[1]), cast(bytes, encoded["counts"]))


def place_shapes(
    rng: np.random.Generator, most: int, size: int, ground: tuple[Colour, Colour], reserved: Sequence[Box]
) -> tuple[Shape, ...]:
    """Returns 1 to `most` shapes in the order in which they are painted.

    Args:
        rng: Source of everything that is random about them.
        most: Most shapes.
        size: Side of the picture in pixels.
        ground: The background's two colours, from which they must stand out.
        reserved: Boxes that they must not touch.
    """
    return _Layout(rng, size, ground, reserved).fill(most)


@dataclass(frozen=True)
class _Look:
    """What a shape looks like before it has a place."""

    kind: str
    colour: str
    fill: Colour


class _Layout:
    """Places shapes one by one on a map of indices at twice the picture's resolution.

    A shape that would hide too much of an earlier one, or be hidden itself by the border, is tried elsewhere, smaller.
    """

    def __init__(
        self, rng: np.random.Generator, size: int, ground: tuple[Colour, Colour], reserved: Sequence[Box]
    ) -> None:
        from PIL import Image, ImageDraw

        self.rng = rng
        self.size = size
        self.ground = ground
        self.reserved = reserved
        self.map = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
        self.pen = ImageDraw.Draw(self.map)
        self.looks: list[_Look] = []
        self.polygons: list[np.ndarray] = []
        self.bounds: list[Bounds] = []
        self.whole: list[int] = []
        self.visible: list[int] = []

    def fill(self, max_objects: int) -> tuple[Shape, ...]:
        rng = self.rng
        crowded = max_objects > FEW and rng.random() < 0.18
        count = int(rng.integers(FEW + 1, max_objects + 1) if crowded else rng.integers(1, min(FEW, max_objects) + 1))
        # Crowds look alike (cells, nuts); a few shapes are sometimes repeated, so that counting has something to count.
        kinds = rng.permutation(list(KINDS))[: rng.integers(1, 5) if crowded or rng.random() < 0.3 else len(KINDS)]
        colours = self._distinct_colours()
        colours = colours[: rng.integers(1, 6) if crowded or rng.random() < 0.3 else len(colours)]
        least, most = (0.06, 0.85 / math.sqrt(count)) if crowded else (0.08, min(0.6, 0.95 / math.sqrt(count)))
        usual = _log_uniform(rng, 0.6 * most, most)
        touching = rng.random() < (0.8 if crowded else 0.5)
        for _ in range(count):
            look = self._look(kinds, colours)
            self._place(look, self._extent(least, most, usual if crowded else None), touching)
        shades = rng.random() < 0.35
        borders = rng.random() < 0.25
        return tuple(self._shape(i, shades, borders) for i in range(len(self.looks)))

    def _extent(self, least: float, most: float, usual: float | None) -> float:
        """Returns the longer side of a shape's box as a share of the picture's."""
        rng = self.rng
        if rng.random() < 0.06:
            return rng.uniform(0.05, 0.08)
        if usual is not None:
            return usual * rng.uniform(0.75, 1.25)
        return rng.uniform(least, most) if rng.random() < 0.5 else _log_uniform(rng, least, most)

    def _distinct_colours(self) -> list[str]:
        """Returns the names of colours that stand out from the background, shuffled."""
        names = [n for n, c in COLOURS.items() if all(contrast(c, g) >= _CONTRAST + 15 for g in self.ground)]
        return [str(name) for name in self.rng.permutation(names)]

    def _look(self, kinds: np.ndarray, colours: list[str]) -> _Look:
        kind = str(kinds[self.rng.integers(len(kinds))])
        colour = colours[self.rng.integers(len(colours))]
        jitter = self.rng.integers(-10, 11) + self.rng.integers(-8, 9, 3)
        return _Look(kind, colour, whole_colour(np.clip(np.array(COLOURS[colour]) + jitter, 0, 255)))

    def _place(self, look: _Look, extent: float, touching: bool) -> None:
        rng, size = self.rng, self.size
        turn = rng.uniform(-1, 1) * KINDS[look.kind].turn
        points = outline(look.kind, turn, rng.uniform(0.88, 1.14))
        half = np.abs(points).max(0)
        extent = max(extent, _LEAST_PIXELS / size)
        overhang = 0.6 if rng.random() < 0.12 else 0.0
        # The first shape has to find a place, even between large words.
        for _ in range(12 if self.looks else 400):
            # Centre such that the shape lies inside by a pixel, or hangs over the border where that is allowed.
            room = half * extent * (1 - overhang) + 1.0 / size
            centre = room + rng.random(2) * (1 - 2 * room)
            polygon = (points * extent + centre) * size
            if self._try(look, polygon, touching):
                return
            extent = max(0.9 * extent, 0.05, _LEAST_PIXELS / size)

    def _try(self, look: _Look, polygon: np.ndarray, touching: bool) -> bool:
        """Paints the shape on the map and returns True, or leaves the map as it was."""
        (x0, y0), (x1, y1) = polygon.min(0), polygon.max(0)
        near = (x0 - 1.5, y0 - 1.5, x1 + 1.5, y1 + 1.5)
        if any(_overlap(near, box) for box in self.reserved):
            return False
        met = [i for i, box in enumerate(self.bounds) if _overlap(near, box)]
        if met and (not touching or any(contrast(look.fill, self.looks[i].fill) < _CONTRAST for i in met)):
            return False
        corners = fine_corners(polygon)
        whole = _pixels(corners)
        edge = self.size * SUPERSAMPLING
        area = (
            max(0, int(x0 * SUPERSAMPLING) - 1),
            max(0, int(y0 * SUPERSAMPLING) - 1),
            min(edge, int(x1 * SUPERSAMPLING) + 2),
            min(edge, int(y1 * SUPERSAMPLING) + 2),
        )
        before = self.map.crop(area)
        number = len(self.looks) + 1
        self.pen.polygon(corners, fill=number)
        counts = np.array(self.map.crop(area).histogram()[: number + 1])
        lost = np.array(before.histogram()[: number + 1]) - counts
        hidden = any(self.visible[i] - lost[i + 1] < _VISIBLE * self.whole[i] for i in met)
        if hidden or counts[number] < _VISIBLE * whole:
            self.map.paste(before, area)
            return False
        for i in met:
            self.visible[i] -= int(lost[i + 1])
        self.looks.append(look)
        self.polygons.append(polygon)
        self.bounds.append((x0, y0, x1, y1))
        self.whole.append(whole)
        self.visible.append(int(counts[number]))
        return True

    def _shape(self, index: int, shades: bool, borders: bool) -> Shape:
        look, rng = self.looks[index], self.rng
        border = float(rng.uniform(0.12, 0.22)) if borders and KINDS[look.kind].bordered else 0.0
        shade = int(rng.integers(-26, 27)) if shades else 0
        polygon = tuple((float(x), float(y)) for x, y in self.polygons[index])
        mask = self._mask(index)
        return Shape(look.kind, look.colour, look.fill, border, shade, polygon, bounding_box(mask), mask)

    def _mask(self, index: int) -> np.ndarray:
        x0, y0, x1, y1 = self.bounds[index]
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(self.size, int(x1) + 2), min(self.size, int(y1) + 2)
        n = SUPERSAMPLING
        part = np.asarray(self.map.crop((left * n, top * n, right * n, bottom * n))) == index + 1
        covered = part.reshape(bottom - top, n, right - left, n).sum((1, 3))
        mask = np.zeros((self.size, self.size), bool)
        mask[top:bottom, left:right] = 2 * covered >= n * n
        mask.flags.writeable = False
        return mask


def bounding_box(mask: np.ndarray) -> Box:
    """Returns left, top, right and bottom edge of a mask (height, width) that is not empty, in whole pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def fine_corners(polygon: np.ndarray) -> list[tuple[float, float]]:
    """Returns a polygon (n, 2) for PIL's pen on the supersampled picture.

    The pen cuts coordinates to whole numbers and includes both ends, so that a shape comes out a third of a pixel
    larger on every side: no shift. Masks and boxes are read off what was drawn.
    """
    return [(x, y) for x, y in (polygon * SUPERSAMPLING).tolist()]


def _overlap(a: Bounds, b: Bounds) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _pixels(corners: list[tuple[float, float]]) -> int:
    """Returns how many pixels a polygon covers when nothing hides it."""
    from PIL import Image, ImageDraw

    left, top = (math.floor(min(axis)) - 1 for axis in zip(*corners, strict=True))
    right, bottom = (math.ceil(max(axis)) + 2 for axis in zip(*corners, strict=True))
    canvas = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(canvas).polygon([(x - left, y - top) for x, y in corners], fill=1)
    return canvas.histogram()[1]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
