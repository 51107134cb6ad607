"""Boxes drawn on a picture, with a plate for each label."""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmtune.records import Box

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Okabe and Ito's colours without black, told apart with every kind of colour blindness (jfly.uni-koeln.de/color)."""

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_SMALLEST, _LARGEST = 8, 64  # font sizes in pixels: the default font is legible from 8

Rectangle = tuple[float, float, float, float]


def colour_of(label: str, classes: Sequence[str] = ()) -> tuple[int, int, int]:
    """Returns a label's colour, the same in every picture and every run.

    Args:
        label: The label.
        classes: The data set's classes in their order: the first seven get different colours. Labels that are not
            among them are coloured by a checksum of their letters.
    """
    number = classes.index(label) if label in classes else zlib.crc32(label.encode(errors="replace"))
    return PALETTE[number % len(PALETTE)]


def draw_boxes(
    image: "Image.Image", boxes: Sequence[Box], classes: Sequence[str] = (), frames: bool = True
) -> "Image.Image":
    """Returns a copy of the picture in mode RGB with the boxes drawn on it.

    A label goes on a plate inside the picture. Where it would cover the plate of a better box it is left out, and its
    colour alone says what it is.

    Args:
        image: A picture of any size; it is not changed.
        boxes: Boxes in its pixels, with or without scores. Those of high score lie on top.
        classes: The data set's classes, by which colours are chosen; see `colour_of`.
        frames: Whether to draw the edges; if not, the plates alone say what stands where.
    """
    from PIL import ImageDraw

    drawn = image.convert("RGB").copy()
    draw = ImageDraw.Draw(drawn)
    # Line and text grow with the picture, so that a reduced view of a large one stays legible.
    side = (drawn.width * drawn.height) ** 0.5
    line = max(1, round(side / 250))
    ordered = sorted(boxes, key=lambda box: 1.0 if box.score is None else box.score)
    for box in ordered if frames else ():
        _frame(draw, _within(box, drawn.size), colour_of(box.label, classes), line)
    taken: list[Rectangle] = []
    # The plate of the highest score chooses its place first.
    for box in reversed(ordered):
        _plate(draw, box, colour_of(box.label, classes), line, side, taken)
    return drawn


def _within(box: Box, size: tuple[int, int]) -> Rectangle:
    """Returns first and last pixel of a box within the picture, at least one pixel."""
    width, height = size
    x0, y0 = min(max(round(box.x0), 0), width - 1), min(max(round(box.y0), 0), height - 1)
    x1, y1 = min(max(round(box.x1) - 1, x0), width - 1), min(max(round(box.y1) - 1, y0), height - 1)
    return x0, y0, x1, y1


def _frame(draw: "ImageDraw.ImageDraw", edges: Rectangle, colour: tuple[int, int, int], line: int) -> None:
    """Draws the outline inwards from the box's edges, with a dark seam that shows it on bright ground."""
    x0, y0, x1, y1 = edges
    if line > 1 and min(x1 - x0, y1 - y0) > 4 * line:
        seam = line + max(1, line // 3)
        draw.rectangle(edges, outline=_BLACK, width=seam)
    draw.rectangle(edges, outline=colour, width=line)


def _plate(
    draw: "ImageDraw.ImageDraw",
    box: Box,
    colour: tuple[int, int, int],
    line: int,
    side: float,
    taken: list[Rectangle],
) -> None:
    """Writes label and score on a plate beside the box, inside the picture and off the plates of `taken`."""
    width, height = draw.im.size
    fitted = _fit(draw, box, side, (width, height))
    if fitted is None:
        return
    text, font, (left, top, right, bottom), margin = fitted
    plate_width, plate_height = right - left + 2 * margin, bottom - top + 2 * margin
    x0, y0, x1, y1 = _within(box, (width, height))
    places = [
        (x0, y0 - plate_height),
        (x0, y1 + 1),
        (x1 + 1 - plate_width, y0 - plate_height),
        (x0 + line, y0 + line),
        (x1 + 1 - plate_width, y1 + 1),
        (x0 + line, y1 + 1 - line - plate_height),
    ]
    inside = [(min(max(x, 0), width - plate_width), min(max(y, 0), height - plate_height)) for x, y in places]
    plates = [(x, y, x + plate_width, y + plate_height) for x, y in inside]
    free = [not any(_overlap(plate, other) for other in taken) for plate in plates]
    # A place that needed no push lies where it is looked for.
    unmoved = [clear and plate[:2] == place for clear, plate, place in zip(free, plates, places, strict=True)]
    if not any(free):
        return
    plate = plates[(unmoved if any(unmoved) else free).index(True)]
    taken.append(plate)
    draw.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=colour)
    draw.text((plate[0] + margin - left, plate[1] + margin - top), text, fill=_ink(colour), font=font)


def _fit(
    draw: "ImageDraw.ImageDraw", box: Box, side: float, size: tuple[int, int]
) -> tuple[str, Any, tuple[int, int, int, int], int] | None:
    """Returns the text, font, text extent and margin of the fullest plate that the picture has room for, or None."""
    from PIL import ImageFont

    label = "".join(char if char.isprintable() else " " for char in box.label)
    texts = [label, *(label[:cut] + "…" for cut in range(len(label) - 1, 0, -1))]
    if box.score is not None:
        texts.insert(0, f"{label} {box.score:.2f}")
    wanted = min(max(round(side / 36), _SMALLEST), _LARGEST)
    # A smaller font before a shorter text.
    sizes = sorted({wanted, max(_SMALLEST, round(wanted * 0.7)), _SMALLEST}, reverse=True)
    for text in texts:
        for points in sizes:
            font, margin = ImageFont.load_default(points), max(1, points // 6)
            extent = tuple(round(edge) for edge in draw.textbbox((0, 0), text, font=font))
            left, top, right, bottom = extent
            if right - left + 2 * margin <= size[0] and bottom - top + 2 * margin <= size[1]:
                return text, font, (left, top, right, bottom), margin
    return None


def _ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns black or white, whichever stands out more: by WCAG 2, black from a relative luminance of 0.179."""
    red, green, blue = ((level / 255) ** 2.2 for level in colour)
    return _BLACK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else _WHITE


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
