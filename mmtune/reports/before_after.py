"""Answers before and after an adaptation, side by side in one picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_GAP, _HEAD = 8, 22
_PAPER, _INK = (255, 255, 255), (60, 60, 60)


def before_after(pairs: "Sequence[tuple[Image.Image, Image.Image]]", columns: int = 4) -> "Image.Image":
    """Returns a sheet on which the two pictures of each pair stand side by side under their headings.

    Args:
        pairs: (before, after), pictures of any size.
        columns: Pairs a row.
    """
    from PIL import Image, ImageDraw, ImageFont

    width = max(picture.width for pair in pairs for picture in pair)
    height = max(picture.height for pair in pairs for picture in pair)
    columns = min(columns, len(pairs))
    cell = (2 * width + 3 * _GAP, height + _HEAD + _GAP)
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, pair in enumerate(pairs):
        left, top = (number % columns) * cell[0] + _GAP, (number // columns) * cell[1] + _GAP
        for heading, picture in zip(("before", "after"), pair, strict=True):
            pen.text((left, top), heading, fill=_INK, font=font)
            sheet.paste(picture, (left, top + _HEAD))
            left += width + _GAP
    return sheet
