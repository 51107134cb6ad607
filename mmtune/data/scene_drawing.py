"""Paints generated scenes: textured ground, clutter, words, shapes, then the faults of a camera."""

import math
from typing import TYPE_CHECKING

import numpy as np

from mmtune.data.scene_shapes import SUPERSAMPLING, Shape, fine_corners
from mmtune.data.scene_words import Word, ink_mask
from mmtune.data.scenes import Background, Scene, scene_rng
from mmtune.data.shape_kinds import Colour, whole_colour

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw


def draw_scene(scene: Scene) -> "Image.Image":
    """Returns the scene's picture, RGB of `scene.size` square: the same bytes for the same scene, in every process."""
    from PIL import Image, ImageDraw, ImageFilter

    rng = scene_rng(scene.seed, scene.index, 1)
    size, fine = scene.size, scene.size * SUPERSAMPLING
    image = Image.fromarray(_ground(scene.background, size, rng)).resize((fine, fine), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.55:
        _clutter(pen, scene.background, fine, rng)
    for word in scene.words:
        _write(image, pen, word)
    for shape in scene.shapes:
        _paint(pen, shape)
    image = image.reduce(SUPERSAMPLING)
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.9)) * size / 224))
    return Image.fromarray(_camera(np.asarray(image), scene, rng))


def _ground(background: Background, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the textured background, (size, size, 3) uint8."""
    first, second = (np.array(c, np.float32) for c in (background.first, background.second))
    mix = _texture(background.texture, size, rng)
    return (first + mix[..., None] * (second - first)).astype(np.uint8)


def _texture(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how much of the second colour stands where, (size, size) float32 in 0..1."""
    if name == "plain":
        return np.zeros((size, size), np.float32)
    if name in ("cloudy", "spotted"):
        clouds = _clouds(size, int(rng.integers(3, 12)), rng)
        return clouds if name == "cloudy" else (clouds > rng.uniform(0.45, 0.6)).astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.06, 0.25)
    axis = np.arange(size, dtype=np.float32) / size
    along = math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]
    if name == "shaded":
        return ((along - along.min()) / (along.max() - along.min())).astype(np.float32)
    stripes = np.floor(along / period) % 2
    if name == "striped":
        return stripes.astype(np.float32)
    across = math.cos(angle) * axis[:, None] - math.sin(angle) * axis[None]
    return ((stripes + np.floor(across / period)) % 2).astype(np.float32)


def _clouds(size: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255


def _clutter(pen: "ImageDraw", background: Background, fine: int, rng: np.random.Generator) -> None:
    """Draws thin lines, arcs and specks, too small or too thin to be taken for a shape."""
    middle = np.array(background.first, float)
    for _ in range(int(rng.integers(1, 14))):
        colour = np.clip(middle + rng.uniform(-1, 1) * 70 + rng.uniform(-30, 30, 3), 0, 255)
        fill = whole_colour(colour)
        x0, y0, x1, y1 = (float(v) for v in rng.random(4) * fine)
        width = max(1, round(fine * rng.uniform(0.003, 0.009)))
        what = rng.random()
        if what < 0.35:
            pen.line((x0, y0, x1, y1), fill=fill, width=width)
        elif what < 0.5:
            box = (min(x0, x1), min(y0, y1), max(x0, x1) + 2, max(y0, y1) + 2)
            start = float(rng.uniform(0, 360))
            pen.arc(box, start, start + float(rng.uniform(40, 200)), fill=fill, width=width)
        else:
            radius = fine * float(rng.uniform(0.003, 0.011))
            pen.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), fill=fill)


def _write(image: "Image.Image", pen: "ImageDraw", word: Word) -> None:
    x0, y0, x1, y1 = (v * SUPERSAMPLING for v in word.box)
    if word.plate:
        margin = (y1 - y0) // 6
        pen.rectangle((x0 - margin, y0 - margin, x1 + margin, y1 + margin), fill=word.plate)
    mask = ink_mask(word.text, word.font, word.height, word.slant, word.turn, SUPERSAMPLING)
    image.paste(word.ink, (x0, y0), mask)


def _paint(pen: "ImageDraw", shape: Shape) -> None:
    corners = np.array(shape.polygon)
    pen.polygon(fine_corners(corners), fill=_shaded(shape.fill, 0.68) if shape.border else shape.fill)
    if shape.border:
        middle = (corners.min(0) + corners.max(0)) / 2
        pen.polygon(fine_corners(middle + (corners - middle) * (1 - shape.border)), fill=shape.fill)


def _shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(v * factor) for v in colour)
    return red, green, blue


def _light(box: tuple[int, int, int, int], where: str) -> np.ndarray:
    """Returns how the light changes over a box, (height, width) float32 in -1..1."""
    x0, y0, x1, y1 = box
    across = np.linspace(1, -1, x1 - x0, dtype=np.float32)[None]
    down = np.linspace(1, -1, y1 - y0, dtype=np.float32)[:, None]
    if where == "middle":
        return np.clip(1 - across * across - down * down, -1, 1)
    return (across if where == "left" else down) + np.zeros((y1 - y0, x1 - x0), np.float32)


def _camera(pixels: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Adds light on the shapes, uneven light, exposure and noise; (size, size, 3) uint8 to the same."""
    values = pixels.astype(np.float32)
    where = ("left", "top", "middle")[rng.integers(3)]
    for shape in scene.shapes:
        if shape.shade:
            x0, y0, x1, y1 = shape.box
            light = _light(shape.box, where) * np.float32(shape.shade)
            values[y0:y1, x0:x1] += (shape.mask[y0:y1, x0:x1] * light)[..., None]
    if rng.random() < 0.35:
        clouds = _clouds(scene.size, int(rng.integers(2, 9)), rng)
        values += ((clouds - 0.5) * np.float32(rng.uniform(10, 45)))[..., None]
    if rng.random() < 0.6:
        values = (values - 128) * np.float32(rng.uniform(0.88, 1.06)) + (128 + np.float32(rng.uniform(-12, 12)))
    if rng.random() < 0.6:
        noise = rng.standard_normal((scene.size, scene.size, 1), np.float32)
        values += noise * np.float32(rng.uniform(1, 9))
    return np.clip(values, 0, 255).astype(np.uint8)
