"""Masks drawn on pictures."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from mmtune.records import Box, Mask
from mmtune.reports.mask_overlay import draw_masks
from mmtune.reports.overlay import colour_of

GREY = (100, 100, 100)


def mask(rows, columns, label="cat", size=(60, 80), score=None):
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[slice(*rows), slice(*columns)] = 1
    return Mask(label, size, coco.encode(pixels)["counts"], score)


def drawn(*masks, size=(80, 60), boxes=()):
    image = Image.new("RGB", size, GREY)
    return np.asarray(draw_masks(image, boxes, masks, ("cat", "dog"))), np.asarray(image)


def test_tint_outline_and_nothing_outside():
    after, before = drawn(mask((10, 30), (20, 50)))
    colour = np.array(colour_of("cat", ("cat", "dog")))
    changed = (after != before).any(-1)
    inside = np.zeros((60, 80), bool)
    inside[10:30, 20:50] = True
    assert (changed == inside).all()
    for row, column in ((10, 20), (29, 49), (10, 35), (20, 20)):
        assert (after[row, column] == colour).all()
    assert (after[20, 35] == np.round(100 + 0.45 * (colour - 100))).all()


def test_better_masks_lie_on_top():
    low, high = mask((0, 40), (0, 40), "cat", score=0.2), mask((20, 60), (20, 60), "dog", score=0.9)
    first, _ = drawn(low, high)
    second, _ = drawn(high, low)
    assert (first == second).all()
    assert (first[20, 20] == colour_of("dog", ("cat", "dog"))).all()


def test_labels_stand_on_plates_without_frames():
    box = Box("cat", 20, 30, 50, 50, score=0.5)
    after, before = drawn(mask((30, 50), (20, 50)), boxes=(box,))
    without, _ = drawn(mask((30, 50), (20, 50)))
    plate = (after != without).any(-1)
    assert plate.any()
    assert not plate[30:50].any()
    assert (before == np.asarray(Image.new("RGB", (80, 60), GREY))).all()


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param((), id="none"),
        pytest.param((mask((0, 0), (0, 0)),), id="empty"),
        pytest.param((mask((0, 9), (0, 9), size=(30, 30)),), id="of another picture"),
    ],
)
def test_nothing_to_draw(masks):
    after, before = drawn(*masks)
    assert (after == before).all()


def test_any_mode_and_a_single_pixel():
    image = Image.new("L", (80, 60), 100)
    result = draw_masks(image, (), (mask((59, 60), (79, 80)),))
    assert result.mode == "RGB"
    assert result.getpixel((79, 59)) == colour_of("cat")
    assert result.getpixel((78, 59)) == GREY


def test_outline_follows_a_hole():
    pixels = np.zeros((60, 80), np.uint8, order="F")
    pixels[10:50, 10:50] = 1
    pixels[25:35, 25:35] = 0
    after, before = drawn(Mask("cat", (60, 80), coco.encode(pixels)["counts"]))
    assert (after[30, 30] == before[30, 30]).all()
    assert (after[24, 30] == colour_of("cat", ("cat", "dog"))).all()
