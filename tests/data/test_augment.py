import colorsys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmtune.data.augment import Augment, augment, cut, mirror
from mmtune.errors import DataError, RecipeError
from mmtune.records import Box, Mask, Record

GEOMETRY = Augment(flip=0.5, flip_vertical=0.5, transpose=0.5, crop=0.7, scale=(0.3, 1.6), aspect=2.0, min_visible=0.4)


def encode(pixels) -> bytes:
    from pycocotools import mask as coco

    counts = coco.encode(np.asfortranarray(pixels, np.uint8))["counts"]
    assert isinstance(counts, bytes)
    return counts


def decode(mask):
    from pycocotools import mask as coco

    return coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool)


def scene(rng, with_masks=False):
    """A picture with up to six boxes that do not overlap, each painted in a colour of its own."""
    width, height = (int(side) for side in rng.integers(20, 120, 2))
    pixels = np.zeros((height, width, 3), np.uint8)
    boxes, masks = [], []
    # One box a cell of a 3 x 2 grid.
    for number in rng.permutation(6)[: int(rng.integers(0, 7))]:
        column, row = number % 3, number // 3
        x = np.sort(rng.choice(np.arange(width * column // 3, width * (column + 1) // 3 + 1), 2, replace=False))
        y = np.sort(rng.choice(np.arange(height * row // 2, height * (row + 1) // 2 + 1), 2, replace=False))
        pixels[y[0] : y[1], x[0] : x[1]] = (200, 10 + number, 50)
        edges = [float(edge) for edge in (x[0], y[0], x[1], y[1])]
        area = (edges[2] - edges[0]) * (edges[3] - edges[1])
        boxes.append(Box(str(number), edges[0], edges[1], edges[2], edges[3], area=area))
        masks.append(Mask(str(number), (height, width), encode((pixels == (200, 10 + number, 50)).all(-1))))
    record = Record("r", size=(width, height), boxes=tuple(boxes), masks=tuple(masks) if with_masks else ())
    return Image.fromarray(pixels), record


def found(image, label):
    """Returns the pixels of a box, found by its colour."""
    return (np.asarray(image) == (200, 10 + int(label), 50)).all(-1)


def extent(pixels):
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("seed", range(200))
def test_boxes_and_masks_move_with_their_pixels(seed):
    rng = np.random.default_rng(seed)
    image, record = scene(rng, with_masks=True)
    moved, after = augment(image, record, rng, GEOMETRY)
    assert after.size == moved.size
    assert [box.label for box in after.boxes] == [mask.label for mask in after.masks]
    kept = {box.label: box for box in after.boxes}
    masks = {mask.label: mask for mask in after.masks}
    for box in record.boxes:
        pixels = found(moved, box.label)
        visible = pixels.sum() / (box.width * box.height)
        assert (box.label in kept) == (visible >= GEOMETRY.min_visible)
        if box.label in kept:
            new = kept[box.label]
            assert (new.x0, new.y0, new.x1, new.y1) == extent(pixels)
            assert new.area == pytest.approx(pixels.sum())
            np.testing.assert_array_equal(decode(masks[box.label]), pixels)


def test_augmentations_occur_and_leave_the_arguments_alone():
    rng = np.random.default_rng(0)
    image, record = scene(np.random.default_rng(3))
    pixels = np.asarray(image).copy()
    sizes = {augment(image, record, rng, GEOMETRY)[0].size for _ in range(50)}
    assert len(sizes) > 10
    assert any(width > image.width for width, _ in sizes)
    assert any(width < image.width for width, _ in sizes)
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_same_seed_same_result():
    image, record = scene(np.random.default_rng(3))
    options = replace(GEOMETRY, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
    one, two = (augment(image, record, np.random.default_rng(7), options) for _ in range(2))
    assert one[1] == two[1]
    np.testing.assert_array_equal(np.asarray(one[0]), np.asarray(two[0]))


def test_defaults_change_nothing():
    image, record = scene(np.random.default_rng(3))
    moved, after = augment(image, record, np.random.default_rng(0), Augment())
    assert after == record
    np.testing.assert_array_equal(np.asarray(moved), np.asarray(image))


@pytest.mark.parametrize(
    ("axes", "expected", "size"),
    [
        pytest.param("x", (67.5, 2.0, 90.0, 7.25), (100, 50), id="left and right"),
        pytest.param("y", (10.0, 42.75, 32.5, 48.0), (100, 50), id="top and bottom"),
        pytest.param("xy", (2.0, 10.0, 7.25, 32.5), (50, 100), id="transposed"),
    ],
)
def test_mirror_keeps_fractions_of_pixels(axes, expected, size):
    record = Record("r", size=(100, 50), boxes=(Box("a", 10, 2, 32.5, 7.25, difficult=True),))
    moved, after = mirror(Image.new("RGB", (100, 50)), record, axes)
    assert moved.size == after.size == size
    assert after.boxes == (Box("a", *expected, difficult=True),)


@pytest.mark.parametrize(
    ("box", "min_visible", "expected"),
    [
        pytest.param((0, 0, 20, 10), 0.5, (0, 0, 10, 10), id="exactly the share"),
        pytest.param((0, 0, 20, 10), 0.51, None, id="a little less than the share"),
        pytest.param((0, 0, 10, 10), 0.1, None, id="touches the window"),
        pytest.param((12, 1, 13.5, 2), 1.0, (2, 1, 3.5, 2), id="inside"),
        pytest.param((15, 0, 40, 10), 1.0, (5, 0, 20, 10), id="beyond the picture does not count"),
        pytest.param((0, 30, 30, 50), 0.1, None, id="outside the window in both directions"),
    ],
)
def test_cut(box, min_visible, expected):
    record = Record("r", size=(30, 50), boxes=(Box("a", *box),))
    moved, after = cut(Image.new("RGB", (30, 50)), record, (10, 0, 40, 20), min_visible)
    assert moved.size == after.size == (30, 20)
    assert after.boxes == (() if expected is None else (Box("a", *expected),))


def test_a_window_beyond_the_picture_shows_grey():
    moved, after = cut(Image.new("RGB", (4, 2), "red"), Record("r", boxes=(Box("a", 0, 0, 4, 2),)), (-1, -2, 5, 6), 0.5)
    expected = np.full((8, 6, 3), 127, np.uint8)
    expected[2:4, 1:5] = (255, 0, 0)
    np.testing.assert_array_equal(np.asarray(moved), expected)
    assert after.boxes == (Box("a", 1, 2, 5, 4),)


def test_masks_without_boxes_go_by_their_own_area():
    pixels = np.zeros((10, 10), bool)
    pixels[:, 3:7] = True
    record = Record("r", masks=(Mask("a", (10, 10), encode(pixels)),))
    image = Image.new("RGB", (10, 10))
    assert len(cut(image, record, (5, 0, 10, 10), 0.5)[1].masks) == 1
    assert cut(image, record, (6, 0, 10, 10), 0.5)[1].masks == ()
    assert cut(image, record, (8, 0, 10, 10), 0.01)[1].masks == ()


@pytest.mark.parametrize(
    "options",
    [Augment(brightness=0.4), Augment(contrast=0.4), Augment(saturation=0.4), Augment(hue=0.4)],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_colours_change_and_boxes_stay(options):
    rng = np.random.default_rng(0)
    image, record = (
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)),
        Record("r", boxes=(Box("a", 1, 2, 3, 4),)),
    )
    moved, after = augment(image, record, rng, options)
    assert (np.asarray(moved) != np.asarray(image)).mean() > 0.3
    assert after.boxes == record.boxes
    assert moved.mode == "RGB"


def test_wrong_size_is_refused():
    with pytest.raises(DataError, match=r"shots.json, record 7: expected a picture of \(30, 20\).*got \(15, 10\)"):
        augment(
            Image.new("RGB", (15, 10)),
            Record("7", size=(30, 20), source="shots.json"),
            np.random.default_rng(0),
            Augment(),
        )


def test_all_wrong_options_are_reported_together():
    with pytest.raises(RecipeError) as error:
        Augment(flip=1.5, hue=0.6, scale=(0.9, 0.5), min_visible=0, aspect=0.5)
    assert error.value.problems[0] == "augment.flip: expected 0..1, got 1.5"
    names = [problem.split(":")[0] for problem in error.value.problems]
    assert names == ["augment.flip", "augment.hue", "augment.min_visible", "augment.aspect", "augment.scale"]


@pytest.mark.parametrize("seed", range(8))
def test_hue_turns_around_the_circle(seed):
    """Red lies where the circle closes: turned either way it stays as bright and as saturated."""
    image = Image.new("RGB", (2, 2), (255, 0, 0))
    moved, _ = augment(image, Record("r"), np.random.default_rng(seed), Augment(hue=0.5))
    turn = np.random.default_rng(seed)
    turn.random(4)  # of crop, flips and transpose
    expected = colorsys.hsv_to_rgb(turn.uniform(-1, 1, 4)[3] * 0.5 % 1, 1, 1)
    np.testing.assert_allclose(np.asarray(moved)[0, 0], 255 * np.array(expected), atol=8)  # a step of 256 hues is 6


def test_windows_reach_every_border():
    image = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).convert("RGB")
    rng = np.random.default_rng(0)
    options = Augment(crop=1.0, scale=(0.5, 0.5))
    corners = {int(np.asarray(augment(image, Record("r"), rng, options)[0])[0, 0, 0]) for _ in range(400)}
    assert corners == {6 * row + column for row in range(4) for column in range(4)}
