"""Text written beneath a picture: captions, questions with their answers, what was read off a page."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmtune.reports.glyphs import shown, text_font

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_PAPER, _INK = (255, 255, 255), (24, 24, 24)
_SMALLEST, _LARGEST = 10, 120  # font sizes in pixels: the default font is legible from 10 in running text
_NARROWEST = 120  # pixels: below, a line would hold two or three short words
_MOST_LINES = 60  # a page of text; what is longer ends in an ellipsis


def draw_text(image: "Image.Image", lines: Sequence[str]) -> "Image.Image":
    """Returns a copy of the picture in mode RGB with text on a white panel beneath it.

    The type grows with the picture, so that a reduced view of a large one stays legible. Long lines are wrapped at
    spaces, longer words anywhere. A picture narrower than 120 pixels is centred above its wider panel. Characters
    that no font of the machine has are named instead.

    Args:
        image: A picture of any size; it is not changed.
        lines: Paragraphs of text, each starting on a line of its own; none: the picture as it is.
    """
    from PIL import Image, ImageDraw

    picture = image.convert("RGB")
    if not lines:
        return picture.copy()
    width = max(picture.width, _NARROWEST)
    points = min(max(round(max(min(width, 2 * picture.height) / 30, width / 50)), _SMALLEST), _LARGEST)
    font = text_font(unicodedata.normalize("NFC", "".join(lines)), points)
    margin, leading = max(3, points // 2), round(points * 1.3)
    parts = [[shown(part, font) for part in _printable(line)] for line in lines]
    rows = _cut([row for part in parts for row in _wrapped(part, font, width - 2 * margin)])
    drawn = Image.new("RGB", (width, picture.height + len(rows) * leading + 2 * margin - (leading - points)), _PAPER)
    drawn.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(drawn)
    for number, row in enumerate(rows):
        draw.text((margin, picture.height + margin + number * leading), row, fill=_INK, font=font)
    return drawn


def _printable(text: str) -> list[str]:
    """Returns the lines of a text, composed (the font has é, not e with an accent) and without control characters."""
    composed = unicodedata.normalize("NFC", text)
    lines = ["".join(char if char.isprintable() else " " for char in line) for line in composed.splitlines()]
    return lines or [""]


def _cut(rows: list[str]) -> list[str]:
    return rows if len(rows) <= _MOST_LINES else [*rows[: _MOST_LINES - 1], "…"]


def _wrapped(lines: Sequence[str], font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: float) -> Iterator[str]:
    """Yields rows of at most `width` pixels."""
    for line in lines:
        row = ""
        for word in line.split():
            extended = f"{row} {word}" if row else word
            if font.getlength(extended) <= width:
                row = extended
                continue
            if row:
                yield row
            *full, row = _broken(word, font, width)
            yield from full
        yield row


def _broken(word: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: float) -> list[str]:
    """Returns a word in pieces of at most `width` pixels, each at least one character."""
    pieces, piece = [], ""
    for char in word:
        if piece and font.getlength(piece + char) > width:
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]
