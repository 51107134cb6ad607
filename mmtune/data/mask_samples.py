"""Generated masks of objects, each cut out along its box to 64 x 64: what the small mask codec learns from."""

import math
from collections.abc import Iterator

import numpy as np

from mmtune.codecs.mask_boxes import crop_mask
from mmtune.data.scene_shapes import bounding_box
from mmtune.data.scenes import make_scene

# Masks are drawn in so many pixels at most, and seen in smaller pictures by making them smaller.
_CANVAS = 256
# Pixels on the longer side of an object's box; small ones have coarse edges, which have to be told apart too.
_EXTENTS = (7, 200)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&?%#"
_SCENE_SIZES = (64, 120, 224, 448)
# The first scene of the codec's own stream; those of the data set `shapes` count from 0 in other streams.
_STREAM = 990_000


def mask_samples(count: int, seed: int) -> np.ndarray:
    """Returns generated masks, the same for the same arguments: half from scenes, half of other kinds.

    Args:
        count: How many.
        seed: Another seed gives other masks.

    Returns:
        (count, 64, 64) uint8, 0 outside to 255 inside.
    """
    rng = np.random.default_rng([seed, _STREAM])
    scenes = _scene_masks(seed)
    masks = np.empty((count, 64, 64), np.uint8)
    for index in range(count):
        mask = next(scenes) if index % 2 else _drawn_mask(rng)
        masks[index] = np.round(255 * crop_mask(mask, bounding_box(mask)))
    return masks


def _scene_masks(seed: int) -> Iterator[np.ndarray]:
    index = 0
    while True:
        scene = make_scene(_STREAM + seed, index, _SCENE_SIZES[index % len(_SCENE_SIZES)])
        for shape in scene.shapes:
            yield shape.mask
        index += 1


def _drawn_mask(rng: np.random.Generator) -> np.ndarray:
    """Returns a mask of another kind than the scenes', at a random size and proportion."""
    kinds = (_blob, _blob, _polygon, _polygon, _ellipse, _letter, _parts, _bitten)
    while True:
        mask = kinds[rng.integers(len(kinds))](rng)
        if not mask.any():
            continue
        x0, y0, x1, y1 = bounding_box(mask)
        longer = math.exp(rng.uniform(math.log(_EXTENTS[0]), math.log(_EXTENTS[1])))
        ratio = math.exp(rng.normal(0, 0.5))  # of width to height, beside the mask's own
        width, height = (x1 - x0) * ratio, y1 - y0
        scale = longer / max(width, height)
        mask = _shrunk(mask[y0:y1, x0:x1], max(2, round(width * scale)), max(2, round(height * scale)))
        if mask.any():
            return mask


def _shrunk(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    values = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(values) >= 0.5


def _filled(points: np.ndarray) -> np.ndarray:
    """Returns the inside of a polygon (n, 2), x and y in 0..1."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in (points * (_CANVAS - 1)).tolist()], fill=1)
    return np.asarray(canvas) > 0


def _radial(radii: np.ndarray, turn: float) -> np.ndarray:
    angles = turn + 2 * math.pi * np.arange(len(radii)) / len(radii)
    points = np.stack((radii * np.cos(angles), radii * np.sin(angles)), 1)
    return 0.5 + 0.49 * points / np.abs(points).max()


def _blob(rng: np.random.Generator) -> np.ndarray:
    """A smooth closed curve: a circle with a few waves."""
    angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    radii = np.ones(96)
    for wave in range(2, 8):
        radii += rng.normal(0, rng.uniform(0.1, 0.5) / wave) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi))
    return _filled(_radial(np.maximum(radii, 0.12), 0.0))


def _polygon(rng: np.random.Generator) -> np.ndarray:
    """Three to ten corners around a centre, some far out and some close to it."""
    return _filled(_radial(rng.uniform(rng.uniform(0.2, 0.9), 1, rng.integers(3, 11)), rng.uniform(0, 2 * math.pi)))


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    return _filled(_turned(_radial(np.ones(64), 0.0), rng.uniform(0.2, 1), rng.uniform(0, math.pi)))


def _turned(points: np.ndarray, narrow: float, turn: float) -> np.ndarray:
    """Returns points around the middle, made narrower and turned."""
    c, s = math.cos(turn), math.sin(turn)
    return 0.5 + (points - 0.5) * (narrow, 1.0) @ np.array(((c, s), (-s, c))) * 0.7


def _letter(rng: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (_CANVAS, _CANVAS))
    font = ImageFont.load_default(size=170)
    stroke = int(rng.integers(0, 9))
    letter = _LETTERS[rng.integers(len(_LETTERS))]
    ImageDraw.Draw(canvas).text((128, 128), letter, fill=255, font=font, anchor="mm", stroke_width=stroke)
    return np.asarray(canvas.rotate(rng.normal(0, 15))) > 127


def _parts(rng: np.random.Generator) -> np.ndarray:
    """Two or three pieces, apart or grown together: an object behind a post, an animal and its legs."""
    mask = np.zeros((_CANVAS, _CANVAS), bool)
    for _ in range(rng.integers(2, 4)):
        points = _radial(rng.uniform(0.5, 1, rng.integers(4, 24)), rng.uniform(0, 6))
        scale = rng.uniform(0.25, 0.7, 2)
        mask |= _filled(points * scale + rng.uniform(0, 1, 2) * (1 - scale))
    return mask


def _bitten(rng: np.random.Generator) -> np.ndarray:
    """A piece that another one hides in part, or with a hole."""
    whole, other = _blob(rng), _polygon(rng)
    side = int(rng.integers(50, 180))
    x, y = rng.integers(0, _CANVAS - side, 2)
    whole[y : y + side, x : x + side] &= ~_shrunk(other, side, side)
    return whole
