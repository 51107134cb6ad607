"""Fonts for text in any script: one that can show it where the machine has it, and words about what none can show."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "NotoSansSyriac-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
)
"""Fonts that systems come with, by the names that Pillow finds them under, those with many scripts first."""

_NOWHERE = "\U0010ffff"  # a code point that no font has: its picture is that of every missing character
_RIGHT_TO_LEFT = ("R", "AL")


def text_font(text: str, points: int) -> "Font":
    """Returns Pillow's own font, or where that lacks characters the first of the system's that lacks the fewest.

    Args:
        text: What is to be shown.
        points: The font's size in pixels.
    """
    from PIL import ImageFont

    characters = sorted(set(text))
    best = ImageFont.load_default(points)
    lacking = _lacking(best, characters)
    for name in _FONTS if lacking else ():
        font = _system_font(name, points)
        count = lacking if font is None else _lacking(font, characters)
        if font is not None and count < lacking:
            best, lacking = font, count
    return best


def shown(text: str, font: "Font") -> str:
    """Returns a text whose runs of characters that cannot be shown are named: "[12 SYRIAC characters, no font]".

    Scripts that run from right to left need Pillow's layout library raqm; without it they cannot be shown either.
    """
    return "".join(_runs(text, font))


def _runs(text: str, font: "Font") -> Iterator[str]:
    def visible(char: str) -> bool | None:
        return None if char.isspace() else _can_show(font, char)

    parts = [(key, "".join(run)) for key, run in groupby(text, visible)]
    held = ""  # what cannot be shown, and the spaces within it
    for position, (key, run) in enumerate(parts):
        following = parts[position + 1][0] if position + 1 < len(parts) else None
        if key is False or (key is None and held and following is False):
            held += run
            continue
        if held:
            yield _named(held)
            held = ""
        yield run
    if held:
        yield _named(held)


def _named(run: str) -> str:
    letters = [char for char in run if not char.isspace()]
    scripts = dict.fromkeys(unicodedata.name(char, "UNNAMED").split()[0] for char in letters)
    return f"[{len(letters)} {'/'.join(scripts)} character{'s' * (len(letters) > 1)}, no font]"


def _lacking(font: Any, characters: list[str]) -> int:
    return sum(not char.isspace() and not _can_show(font, char) for char in characters)


def _can_show(font: Any, char: str) -> bool:
    if unicodedata.bidirectional(char) in _RIGHT_TO_LEFT and not _has_raqm():
        return False
    return char.isascii() or bytes(font.getmask(char)) != bytes(font.getmask(_NOWHERE))


@lru_cache(maxsize=1)
def _has_raqm() -> bool:
    from PIL import features

    return bool(features.check("raqm"))


@lru_cache(maxsize=64)
def _system_font(name: str, points: int) -> "ImageFont.FreeTypeFont | None":
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, points)
    except OSError:
        return None
