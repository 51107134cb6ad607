"""The words on generated pictures: what is written, how, and where."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmtune.data.shape_kinds import COLOURS, Colour, contrast, whole_colour
from mmtune.data.word_list import WORDS

if TYPE_CHECKING:
    from PIL import Image

Font = Literal["sans", "bold", "typewriter"]
Writing = Literal["words", "plates"]
_FONTS: tuple[Font, ...] = ("sans", "bold", "typewriter")
# Random strings leave out I and O, which look like l, 1 and 0.
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_INK_CONTRAST = 80.0


@dataclass(frozen=True)
class Word:
    """A written word.

    Attributes:
        text: What is written.
        box: Left, top, right and bottom edge of its ink in pixels.
        ink: Colour of the letters.
        plate: Colour of the sign behind it, or None.
        font, height, slant, turn: How it is written: font size in pixels, shear to the right as a share of the
            height, rotation in degrees.
    """

    text: str
    box: tuple[int, int, int, int]
    ink: Colour
    plate: Colour | None
    font: Font
    height: int
    slant: float
    turn: float


def place_words(
    rng: np.random.Generator, count: int, size: int, ground: tuple[Colour, Colour], writing: Writing = "words"
) -> tuple[Word, ...]:
    """Returns 0, 1 or 2 words, from top to bottom, in separate bands of the picture.

    Args:
        rng: Source of everything that is random about them.
        count: How many words.
        size: Side of the picture in pixels.
        ground: The background's two colours, from which the ink must stand out.
        writing: What is written.
    """
    words = []
    for band in range(count):
        text = _draw_plate(rng) if writing == "plates" else _draw_text(rng)
        font = _FONTS[rng.choice(3, p=(0.5, 0.3, 0.2))]
        height = round(size * rng.uniform(0.15, 0.27))
        slant = float(rng.uniform(-0.1, 0.3)) if rng.random() < 0.25 else 0.0
        turn = float(rng.uniform(-9, 9)) if rng.random() < 0.3 else 0.0
        ink, plate = _draw_colours(rng, ground)
        mask = ink_mask(text, font, height, slant, turn)
        while mask.width > 0.92 * size:
            height = max(1, min(height - 1, int(height * 0.92 * size / mask.width)))
            mask = ink_mask(text, font, height, slant, turn)
        low, high = size * band // count, size * (band + 1) // count
        margin = round(size * 0.03)
        x = int(rng.integers(margin, max(margin + 1, size - margin - mask.width)))
        y = int(rng.integers(low + margin, max(low + margin + 1, high - margin - mask.height)))
        words.append(Word(text, (x, y, x + mask.width, y + mask.height), ink, plate, font, height, slant, turn))
    return tuple(words)


def letter_boxes(word: Word) -> list[tuple[float, float, float, float]]:
    """Returns left, top, right and bottom edge of each letter of a word in pixels, to within about a tenth of it.

    The word's box is shared out by the letters' advances; a turned word's letters climb or fall along it.
    """
    x0, y0, x1, y1 = word.box
    if word.font == "typewriter":
        ends = [i / len(word.text) for i in range(len(word.text) + 1)]
    else:
        face = _sans(word.height * 2)
        whole = face.getlength(word.text)
        ends = [face.getlength(word.text[:i]) / whole for i in range(len(word.text) + 1)]
    slope = math.tan(math.radians(word.turn))
    half = max((y1 - y0 - abs(slope) * (x1 - x0)) / 2, (y1 - y0) / 4)
    boxes = []
    for start, end in itertools.pairwise(ends):
        middle = (y0 + y1) / 2 - slope * (x1 - x0) * ((start + end) / 2 - 0.5)
        boxes.append((x0 + start * (x1 - x0), middle - half, x0 + end * (x1 - x0), middle + half))
    return boxes


def _draw_text(rng: np.random.Generator) -> str:
    style = rng.random()
    if style < 0.15:
        return "".join(str(d) for d in rng.integers(0, 10, rng.integers(1, 5)))
    if style < 0.45:
        return "".join(_LETTERS[i] for i in rng.integers(0, len(_LETTERS), rng.integers(2, 7)))
    word = WORDS[rng.integers(len(WORDS))]
    if style < 0.82:
        return word.upper()
    return word.title() if style < 0.9 else word


def _draw_plate(rng: np.random.Generator) -> str:
    """Returns a registration such as "KD-407"."""
    letters = "".join(_LETTERS[i] for i in rng.integers(0, len(_LETTERS), 2))
    return f"{letters}-{rng.integers(100, 1000)}"


def _draw_colours(rng: np.random.Generator, ground: tuple[Colour, Colour]) -> tuple[Colour, Colour | None]:
    plate = None
    behind: tuple[Colour, ...] = ground
    if rng.random() < 0.2:
        level = int(rng.integers(0, 256))
        plate = whole_colour(np.clip(level + rng.integers(-25, 26, 3), 0, 255))
        behind = (plate,)
    named = list(COLOURS.values())
    inks = [c for c in named if all(contrast(c, b) >= _INK_CONTRAST for b in behind)]
    if not inks or rng.random() < 0.5:
        inks = sorted(((16, 16, 18), (248, 248, 248)), key=lambda c: -min(contrast(c, b) for b in behind))[:1]
    return inks[rng.integers(len(inks))], plate


@lru_cache(maxsize=64)
def _sans(height: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=height)


def ink_mask(text: str, font: Font, height: int, slant: float, turn: float, scale: int = 1) -> "Image.Image":
    """Returns the letters as a grey picture (0: none, 255: ink), cropped to the ink.

    Args:
        text: What is written.
        font: One of three.
        height: Font size in pixels of the picture.
        slant: Shear to the right as a share of the height.
        turn: Rotation in degrees.
        scale: Size of the result in units of the word's own, for supersampling; exactly `scale` times as large.
    """
    from PIL import Image

    fine = 2
    mask = _typewriter(text, height * fine) if font == "typewriter" else _outline_font(text, font, height * fine)
    if slant:
        shift = slant * mask.height
        width = mask.width + int(abs(shift))
        offset = -shift if shift > 0 else 0.0
        matrix = (1, slant, offset, 0, 1, 0)
        mask = mask.transform((width, mask.height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if turn:
        mask = mask.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    mask = mask.crop(mask.point([255 if v >= 64 else 0 for v in range(256)]).getbbox())
    # The picture's own grid is `fine` times coarser: pad to it, so that every scale shows the same ink.
    padded = Image.new("L", (-(-mask.width // fine) * fine, -(-mask.height // fine) * fine))
    padded.paste(mask, (0, 0))
    return padded if scale == fine else padded.resize((padded.width * scale // fine, padded.height * scale // fine))


def _outline_font(text: str, font: Font, height: int) -> "Image.Image":
    from PIL import Image, ImageDraw

    stroke = max(1, round(height / 26)) if font == "bold" else 0
    face = _sans(height)
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, face, stroke_width=stroke)
    canvas = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(canvas).text((1 - left, 1 - top), text, 255, face, stroke_width=stroke)
    return canvas


def _typewriter(text: str, height: int) -> "Image.Image":
    """Writes in the small fixed-width bitmap font that comes with PIL, enlarged."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.load_default_imagefont()
    _, _, right, bottom = face.getbbox(text)
    canvas = Image.new("L", (int(right), int(bottom)))
    ImageDraw.Draw(canvas).text((0, 0), text, 255, face)
    canvas = canvas.crop(canvas.getbbox())
    # Its letters are 7 pixels high where the outline font's of the same nominal size fill 0.7 of it.
    factor = 0.1 * height
    large = canvas.resize((round(canvas.width * factor), round(canvas.height * factor)), Image.Resampling.BICUBIC)
    return large.point([max(0, min(255, (v - 96) * 4)) for v in range(256)])
