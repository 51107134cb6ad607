import itertools

import numpy as np
import pytest
from PIL import Image

from mmtune.records import Box
from mmtune.reports.overlay import PALETTE, _ink, colour_of, draw_boxes

WHITE = (255, 255, 255)


def is_colour(image, colour):
    return (np.asarray(image) == colour).all(-1)


def writing(image, label, classes=()):
    """Returns where text stands on a white picture with thin outlines: neither the ground nor the label's colour."""
    return ~is_colour(image, WHITE) & ~is_colour(image, colour_of(label, classes))


def test_colours_are_stable_and_differ_between_classes():
    classes = ("RBC", "WBC", "Platelets", "a", "b", "c", "d", "e")
    assert len({colour_of(label, classes) for label in classes[:7]}) == 7
    assert colour_of("e", classes) == colour_of("RBC", classes)
    # The checksum of "cat" is 2656977832, which leaves 5 when divided by 7.
    assert colour_of("cat") == PALETTE[5]
    assert colour_of("cat", classes) == PALETTE[5]
    assert colour_of("\ud800") in PALETTE


def luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (level / 255 for level in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", PALETTE)
def test_text_stands_out_from_its_plate(colour):
    """WCAG 2 asks for a contrast of 4.5 for small text."""
    low, high = sorted((luminance(colour), luminance(_ink(colour))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("size", [(1, 1), (8, 4), (32, 32), (120, 120), (3, 400), (4000, 3000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_any_picture_size_and_mode(size, mode):
    width, height = size
    image = Image.new(mode, size)
    before = image.tobytes()
    boxes = [
        Box("red blood cell", 0, 0, width, height, score=0.5),
        Box("x", -width, -height, 0, 0, score=0.1),
        Box("a label of many words that no small picture has room for", width / 2, 0, 3 * width, height),
        Box("細胞\n2", width / 2, height / 2, width / 2, height / 2, score=1.0),
    ]
    drawn = draw_boxes(image, boxes)
    assert drawn.size == size
    assert drawn.mode == "RGB"
    assert image.tobytes() == before
    assert (np.asarray(drawn) != np.asarray(image.convert("RGB"))).any()


def test_no_boxes():
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    np.testing.assert_array_equal(np.asarray(draw_boxes(image, [])), np.asarray(image))


def test_outline_lies_on_the_box_edges():
    drawn = draw_boxes(Image.new("RGB", (300, 200), WHITE), [Box("cat", 50, 60, 150, 160)])
    painted = is_colour(drawn, colour_of("cat"))
    assert painted[60:160, 50].all()
    assert painted[60:160, 149].all()
    assert painted[159, 50:150].all()
    assert not painted[61:159, 51:149].any()
    assert not painted[:, :50].any()
    assert not painted[160:].any()


@pytest.mark.parametrize(("side", "thickness"), [(100, 1), (1000, 4), (4000, 16)])
def test_lines_grow_with_the_picture(side, thickness):
    box = Box("cat", 0, side / 4, side, side)
    column = is_colour(draw_boxes(Image.new("RGB", (side, side), WHITE), [box]), colour_of("cat"))[:, side * 3 // 4]
    assert column.sum() == 2 * thickness


@pytest.mark.parametrize(
    "corner",
    [pytest.param((x, y), id=f"{x},{y}") for x, y in itertools.product((0, 100, 280), (0, 90, 170))],
)
def test_plates_are_whole_wherever_the_box_is(corner):
    def drawn(x, y):
        image = draw_boxes(Image.new("RGB", (300, 200), WHITE), [Box("platelet", x, y, x + 20, y + 30, score=0.25)])
        return writing(image, "platelet")

    expected = drawn(100, 90).sum()
    assert expected > 50
    assert drawn(*corner).sum() == expected


def test_plates_do_not_cover_each_other():
    image = Image.new("RGB", (300, 200), WHITE)
    box = Box("cat", 100, 80, 160, 140, score=0.9)
    one = writing(draw_boxes(image, [box]), "cat").sum()
    assert writing(draw_boxes(image, [box] * 3), "cat").sum() == 3 * one


def test_the_best_boxes_keep_their_plates_where_room_is_short():
    image = Image.new("RGB", (70, 20), WHITE)
    boxes = [Box("cat", 0, 0, 70, 20, score=score) for score in (0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6)]
    # What is left of the picture holds no second plate above or below the first.
    best = writing(draw_boxes(image, [boxes[2]]), "cat")
    assert best.any()
    assert (writing(draw_boxes(image, boxes), "cat") & best).sum() == best.sum()
