"""Rectangles and short texts, as SVG or PNG."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import UsageError
from mmtune.files import atomic, write_text

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".svg", ".png")
_SCALE = 2  # pixels of a PNG for each unit of the drawing
_COLOURS = 64  # of a PNG
_FONT = "Inter, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle: left upper corner, size, and colours such as "#ffcc00"."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str | None = None


@dataclass(frozen=True)
class Label:
    """A line of text.

    Attributes:
        x, y: Where it stands: its middle by height, and by `anchor` its start, its middle or its end.
        text: The text.
        size: Of the font.
        anchor: "start", "middle" or "end".
        fill: Its colour.
        bold: Whether it is a heading.
        upright: Whether it runs from below to above.
    """

    x: float
    y: float
    text: str
    size: float = 11
    anchor: str = "start"
    fill: str = "#222222"
    bold: bool = False
    upright: bool = False


@dataclass(frozen=True)
class Drawing:
    """What is drawn, from below to above, and how large the paper is."""

    width: float
    height: float
    marks: tuple[Rectangle | Label, ...]


def check_ending(file: Path) -> None:
    """Raises a UsageError unless a drawing can be written under this name."""
    if file.suffix.lower() not in ENDINGS:
        raise UsageError(f"{file}: expected a file that ends in {' or '.join(ENDINGS)}, got '{file.suffix}'")


def write_drawing(file: Path, drawing: Drawing) -> None:
    """Writes a drawing, by the file's ending as SVG or PNG.

    Raises:
        UsageError: For another ending.
    """
    check_ending(file)
    if file.suffix.lower() == ".svg":
        write_text(file, as_svg(drawing))
        return
    with atomic(file) as temporary:
        as_picture(drawing).quantize(_COLOURS).save(temporary, format="png", optimize=True)


def as_svg(drawing: Drawing) -> str:
    """Returns a drawing as SVG."""
    size = f"{drawing.width:g} {drawing.height:g}"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{drawing.width:g}"']
    lines[0] += f' height="{drawing.height:g}" font-family="{_FONT}">'
    lines.append(f'<rect width="{drawing.width:g}" height="{drawing.height:g}" fill="#ffffff"/>')
    lines += [_svg_of(mark) for mark in drawing.marks]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _svg_of(mark: Rectangle | Label) -> str:
    if isinstance(mark, Rectangle):
        edge = f' stroke="{mark.edge}"' if mark.edge else ""
        return (
            f'<rect x="{mark.x:.5g}" y="{mark.y:.5g}" width="{mark.width:.4g}" height="{mark.height:.4g}" '
            f'fill="{mark.fill}"{edge}/>'
        )
    more = f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
    more += ' font-weight="bold"' if mark.bold else ""
    more += f' transform="rotate(-90 {mark.x:g} {mark.y:g})"' if mark.upright else ""
    return (
        f'<text x="{mark.x:.5g}" y="{mark.y:.5g}" dy=".35em" font-size="{mark.size:g}" '
        f'fill="{mark.fill}"{more}>{html.escape(mark.text)}</text>'
    )


def as_picture(drawing: Drawing) -> "Image.Image":
    """Returns a drawing as a picture, two pixels a unit."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (round(drawing.width * _SCALE), round(drawing.height * _SCALE)), "#ffffff")
    draw = ImageDraw.Draw(picture)
    for mark in drawing.marks:
        if isinstance(mark, Rectangle):
            corners = [mark.x, mark.y, mark.x + mark.width, mark.y + mark.height]
            draw.rectangle([round(place * _SCALE) for place in corners], fill=mark.fill, outline=mark.edge)
        else:
            _write(picture, mark)
    return picture


def _write(picture: "Image.Image", label: Label) -> None:
    """Draws a text by way of a mask, which can be turned."""
    from PIL import Image, ImageDraw

    from mmtune.reports.glyphs import shown, text_font

    points = round(label.size * _SCALE)
    font = text_font(label.text, points)
    text = shown(label.text, font)
    bold = 0.4 if label.bold else 0
    left, _, right, _ = font.getbbox(text or " ")
    length, height = round(right - left) + 4, 2 * points
    mask = Image.new("L", (length, height), 0)
    # Centred on digits and capitals, so that all texts of a line stand on one level.
    middle = sum(font.getbbox("0")[1::2]) / 2
    ImageDraw.Draw(mask).text((2 - left, height / 2 - middle), text, fill=255, font=font, stroke_width=bold)
    shift = {"start": 0, "middle": length / 2, "end": length}[label.anchor]
    x, y = label.x * _SCALE, label.y * _SCALE
    if label.upright:
        mask = mask.transpose(Image.Transpose.ROTATE_90)
        corner = (round(x - height / 2), round(y - length + shift))
    else:
        corner = (round(x - shift), round(y - height / 2))
    picture.paste(Image.new("RGB", mask.size, label.fill), corner, mask)
