"""Generated scenes: what stands where, as a pure function of a seed and an index.

A scene is the one truth behind the picture and every text about it (detection, segmentation, captions, questions,
reading). This file lays it out; `scene_drawing` paints it, `scene_texts` speaks of it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmtune.data.scene_shapes import MAX_OBJECTS, Shape, place_shapes
from mmtune.data.scene_words import Word, Writing, place_words
from mmtune.data.shape_kinds import Colour, whole_colour

Texture = Literal["plain", "shaded", "striped", "checked", "cloudy", "spotted"]
Level = Literal["dark", "medium", "light"]
_TEXTURES: tuple[Texture, ...] = ("plain", "shaded", "striped", "checked", "cloudy", "spotted")
_LEVELS: tuple[tuple[Level, int, int], ...] = (("dark", 25, 70), ("medium", 100, 160), ("light", 190, 240))


@dataclass(frozen=True)
class Background:
    """The ground of a scene: a texture that mixes two colours; `level` says how light both are."""

    texture: Texture
    level: Level
    first: Colour
    second: Colour


@dataclass(frozen=True)
class Scene:
    """A whole scene; the arguments of `make_scene` determine everything else.

    Attributes:
        seed, index: Its name within the endless stream of scenes.
        size: Side of the square picture in pixels.
        background: What lies behind everything.
        shapes: In the order in which they are painted; later ones may cover earlier ones in part.
        words: From top to bottom; nothing covers them.
    """

    seed: int
    index: int
    size: int
    background: Background
    shapes: tuple[Shape, ...]
    words: tuple[Word, ...]


def scene_rng(seed: int, index: int, use: int = 0) -> np.random.Generator:
    """Returns the random numbers of one scene; `use` separates its layout (0), its painting (1) and its texts (2)."""
    return np.random.default_rng(np.random.SeedSequence([seed, index, use]))


def word_count(seed: int, index: int) -> int:
    """Returns how many words the scene will show (0, 1 or 2), without building it."""
    return _draw_word_count(scene_rng(seed, index))


def make_scene(
    seed: int, index: int, size: int = 224, max_objects: int = MAX_OBJECTS, writing: Writing = "words"
) -> Scene:
    """Returns a scene: the same for the same arguments, in every process.

    Args:
        seed: Non-negative.
        index: Non-negative; scenes of different pairs of seed and index are independent.
        size: Side of the picture in pixels, at least 64. Layouts are drawn in shares of the side, so that another
            size shows much the same scene.
        max_objects: Most objects, 1..25. More than six are rare and come in smaller sizes and fewer kinds.
        writing: What its words are: real words and random ones, or car registrations.
    """
    rng = scene_rng(seed, index)
    count = _draw_word_count(rng)
    background = _draw_background(rng)
    ground = (background.first, background.second)
    words = place_words(rng, count, size, ground, writing)
    shapes = place_shapes(rng, max_objects, size, ground, [word.box for word in words])
    return Scene(seed, index, size, background, shapes, words)


def _draw_word_count(rng: np.random.Generator) -> int:
    return int(np.searchsorted((0.5, 0.9), rng.random(), side="right"))


def _draw_background(rng: np.random.Generator) -> Background:
    texture = _TEXTURES[rng.integers(len(_TEXTURES))]
    level, low, high = _LEVELS[rng.integers(len(_LEVELS))]
    tint = float(rng.choice((8, 30, 60)))
    first = np.clip(rng.uniform(low, high) + rng.uniform(-tint, tint, 3), 0, 255)
    second = np.clip(first + rng.choice((-1, 1)) * rng.uniform(15, 40) + rng.uniform(-12, 12, 3), 0, 255)
    return Background(texture, level, whole_colour(first), whole_colour(second))
