import numpy as np
import pytest
from PIL import Image

from mmtune.reports.captioned import draw_text

LONG = "a man in a blue shirt is riding a wave on top of a surfboard in front of a crowd"


def panel(drawn, height):
    """Returns the grey values beneath the picture."""
    return np.asarray(drawn.convert("L"))[height:]


@pytest.mark.parametrize("size", [(120, 90), (640, 480), (4000, 3000), (35, 19), (2000, 60), (60, 2000)])
@pytest.mark.parametrize("text", ["a dog", LONG, "x" * 300, "caf\u00e9 \u65e5\u672c \ud800\x00\u0627", ""])
def test_text_stands_within_the_panel_and_the_picture_is_kept(size, text):
    image = Image.new("RGB", size, (90, 120, 150))
    drawn = draw_text(image, [text])
    assert drawn.mode == "RGB"
    assert drawn.width == max(size[0], 120)
    left = (drawn.width - size[0]) // 2
    assert drawn.crop((left, 0, left + size[0], size[1])).tobytes() == image.tobytes()
    ink = panel(drawn, size[1]) < 128
    assert ink.any() == bool(text.strip())
    assert not ink[:1].any()
    assert not ink[:, :1].any()
    assert not ink[:, -1:].any()
    assert not ink[-1:].any()


def test_no_lines_leave_the_picture_as_it_is():
    image = Image.new("L", (20, 10), 7)
    drawn = draw_text(image, [])
    assert (drawn.mode, drawn.size) == ("RGB", (20, 10))


def test_longer_texts_have_higher_panels_up_to_a_page():
    image = Image.new("RGB", (200, 100))
    heights = [draw_text(image, [text]).height for text in ("a", LONG, LONG * 4, LONG * 100, LONG * 1000)]
    assert heights[:4] == sorted(set(heights[:4]))
    assert heights[3] == heights[4]


def test_each_line_begins_anew():
    image = Image.new("RGB", (400, 100))
    one, two, three = (draw_text(image, lines).height for lines in (["a"], ["a", "b"], ["a", "b\nc"]))
    assert three - two == two - one > 0


def test_type_grows_with_the_picture():
    small, large = (draw_text(Image.new("RGB", (side, side)), ["a"]).height - side for side in (300, 3000))
    assert large > 5 * small
