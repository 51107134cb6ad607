"""Training pictures changed at random, with their boxes and masks moved exactly.

Windows are cut at whole pixels and nothing is resampled here: the resize to the model's square follows for every
picture anyway, so a smaller window is a larger scale. Captions and answers are left alone; leave flips off where they
say "left".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mmtune.errors import DataError, RecipeError
from mmtune.records import Box, Mask, Record

if TYPE_CHECKING:
    from PIL import Image

Window = tuple[int, int, int, int]
"""Edges x0, y0, x1, y1 in whole pixels of the picture; they may lie beyond its borders."""

_GREY = (127, 127, 127)
"""Fills what a window shows beyond the picture: zero in the model's range of -1 to 1."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How to change a training picture; the defaults change nothing.

    Attributes:
        flip: Probability of swapping left and right.
        flip_vertical: Probability of swapping top and bottom, for pictures without an up (microscopes, aerial views).
        transpose: Probability of swapping x and y; with both flips all eight orientations occur.
        crop: Probability of cutting a window.
        scale: Smallest and largest side of the window as a fraction of the picture's; beyond the picture lies grey.
        aspect: Largest factor by which the window's height and width fractions may differ, at least 1.
        min_visible: Share of an object's area that a window must keep, else the object is dropped; 0 < share <= 1.
        brightness, contrast, saturation: Largest relative change, 0..1.
        hue: Largest turn of the colour circle, 0..0.5 of it.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    transpose: float = 0.0
    crop: float = 0.0
    scale: tuple[float, float] = (0.5, 1.0)
    aspect: float = 1.0
    min_visible: float = 0.3
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "flip": 1.0,
            "flip_vertical": 1.0,
            "transpose": 1.0,
            "crop": 1.0,
            "brightness": 1.0,
            "contrast": 1.0,
            "saturation": 1.0,
            "hue": 0.5,
        }
        problems = [
            f"augment.{name}: expected 0..{limit:g}, got {getattr(self, name)}"
            for name, limit in limits.items()
            if not 0 <= getattr(self, name) <= limit
        ]
        if not 0 < self.min_visible <= 1:
            problems.append(f"augment.min_visible: expected more than 0 and up to 1, got {self.min_visible}")
        if not self.aspect >= 1:
            problems.append(f"augment.aspect: expected 1 or more, got {self.aspect}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 4:
            problems.append(f"augment.scale: expected two rising numbers above 0 and up to 4, got {self.scale}")
        if problems:
            raise RecipeError(problems)


def augment(
    image: "Image.Image", record: Record, rng: np.random.Generator, options: Augment
) -> "tuple[Image.Image, Record]":
    """Returns the changed picture and the record that fits it; the arguments stay as they are.

    Args:
        image: The record's whole upright picture in mode RGB, not yet resized.
        record: Boxes and masks in pixels of that picture. Where there are as many masks as boxes, they are taken as
            pairs and kept or dropped together.
        rng: The only source of randomness.
        options: What may happen, and how often.

    Raises:
        DataError: The picture is not of the size that the record speaks of.
    """
    if record.size not in (None, image.size):
        raise DataError(
            f"{record.source or 'data set'}, record {record.id}: expected a picture of {record.size} pixels as "
            f"annotated, got {image.size}: augment before resizing, or correct the size in the annotation"
        )
    record = replace(record, size=image.size)
    if rng.random() < options.crop:
        image, record = cut(image, record, _window(image.size, rng, options), options.min_visible)
    for chance, axes in ((options.flip, "x"), (options.flip_vertical, "y"), (options.transpose, "xy")):
        if rng.random() < chance:
            image, record = mirror(image, record, axes)
    return _colour(image, rng, options), record


def mirror(image: "Image.Image", record: Record, axes: str) -> "tuple[Image.Image, Record]":
    """Swaps left and right ("x"), top and bottom ("y"), or x and y ("xy")."""
    from PIL.Image import Transpose

    width, height = image.size
    methods = {"x": Transpose.FLIP_LEFT_RIGHT, "y": Transpose.FLIP_TOP_BOTTOM, "xy": Transpose.TRANSPOSE}
    moved = image.transpose(methods[axes])

    def box(item: Box) -> Box:
        if axes == "x":
            return replace(item, x0=width - item.x1, x1=width - item.x0)
        if axes == "y":
            return replace(item, y0=height - item.y1, y1=height - item.y0)
        return replace(item, x0=item.y0, y0=item.x0, x1=item.y1, y1=item.x1)

    def mask(item: Mask) -> Mask:
        pixels = _pixels(item)
        return _mask(item, {"x": pixels[:, ::-1], "y": pixels[::-1], "xy": pixels.T}[axes])

    return moved, replace(
        record,
        size=moved.size,
        boxes=tuple(box(item) for item in record.boxes),
        masks=tuple(mask(item) for item in record.masks),
    )


def cut(image: "Image.Image", record: Record, window: Window, min_visible: float) -> "tuple[Image.Image, Record]":
    """Cuts a window out of the picture; boxes are cut at its border, those that keep too little of their area go.

    Args:
        image: The whole picture.
        record: Boxes and masks in its pixels.
        window: Where to cut; what lies beyond the picture becomes grey.
        min_visible: Smallest share of the area within the picture that must remain.
    """
    from PIL import Image

    x0, y0, x1, y1 = window
    canvas = Image.new("RGB", (x1 - x0, y1 - y0), _GREY)
    canvas.paste(image, (-x0, -y0))
    boxes = [_cut_box(box, image.size, window, min_visible) for box in record.boxes]
    masks = [_cut_mask(mask, window, min_visible) for mask in record.masks]
    if len(boxes) == len(masks):
        kept = [box is not None and mask is not None for box, mask in zip(boxes, masks, strict=True)]
        boxes, masks = _where(boxes, kept), _where(masks, kept)
    return canvas, replace(
        record,
        size=canvas.size,
        boxes=tuple(box for box in boxes if box is not None),
        masks=tuple(mask for mask in masks if mask is not None),
    )


def _where(items: Sequence, kept: Sequence[bool]) -> list:
    return [item for item, keep in zip(items, kept, strict=True) if keep]


def _window(size: tuple[int, int], rng: np.random.Generator, options: Augment) -> Window:
    """Draws a window: its area fraction's root uniform in `scale`, its place uniform."""
    side = rng.uniform(*options.scale)
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(options.aspect))
    edges = []
    for length, fraction in zip(size, (side * stretch, side / stretch), strict=True):
        # A stretched window keeps within the larger of the picture and the largest window asked for.
        extent = max(1, round(length * min(fraction, max(options.scale[1], 1.0))))
        low, high = sorted((0, length - extent))
        start = int(rng.integers(low, high + 1))
        edges.append((start, start + extent))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def _cut_box(box: Box, size: tuple[int, int], window: Window, min_visible: float) -> Box | None:
    whole = _intersect(box, (0, 0, *size))
    seen = _intersect(box, (max(window[0], 0), max(window[1], 0), min(window[2], size[0]), min(window[3], size[1])))
    before = whole.width * whole.height
    if seen.width <= 0 or seen.height <= 0 or seen.width * seen.height < min_visible * before:
        return None
    share = seen.width * seen.height / before
    return replace(
        seen,
        x0=seen.x0 - window[0],
        y0=seen.y0 - window[1],
        x1=seen.x1 - window[0],
        y1=seen.y1 - window[1],
        area=None if box.area is None else box.area * share,
    )


def _intersect(box: Box, window: Window) -> Box:
    x0, y0, x1, y1 = window
    return replace(box, x0=max(box.x0, x0), y0=max(box.y0, y0), x1=min(box.x1, x1), y1=min(box.y1, y1))


def _cut_mask(mask: Mask, window: Window, min_visible: float) -> Mask | None:
    pixels = _pixels(mask)
    height, width = pixels.shape
    x0, y0, x1, y1 = window
    cut_out = np.zeros((y1 - y0, x1 - x0), bool)
    part = pixels[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    top, left = max(-y0, 0), max(-x0, 0)
    cut_out[top : top + part.shape[0], left : left + part.shape[1]] = part
    if not cut_out.any() or cut_out.sum() < min_visible * pixels.sum():
        return None
    return _mask(mask, cut_out)


def _pixels(mask: Mask) -> np.ndarray:
    """Returns the mask as (height, width) bool."""
    from pycocotools import mask as coco

    return coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool)


def _mask(mask: Mask, pixels: np.ndarray) -> Mask:
    """Returns the mask with other pixels."""
    from pycocotools import mask as coco

    height, width = pixels.shape
    return replace(mask, size=(height, width), counts=coco.encode(np.asfortranarray(pixels, np.uint8))["counts"])


def _colour(image: "Image.Image", rng: np.random.Generator, options: Augment) -> "Image.Image":
    """Changes colours; draws the same random numbers whatever the options are."""
    from PIL import Image, ImageEnhance

    changes = rng.uniform(-1, 1, 4)
    steps = (
        (ImageEnhance.Brightness, options.brightness),
        (ImageEnhance.Contrast, options.contrast),
        (ImageEnhance.Color, options.saturation),
    )
    for (enhance, strength), change in zip(steps, changes[:3], strict=True):
        if strength:
            image = enhance(image).enhance(1 + strength * change)
    if turn := round(256 * options.hue * changes[3]):
        hue, saturation, value = image.convert("HSV").split()
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image
