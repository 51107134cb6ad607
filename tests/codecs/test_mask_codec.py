"""Masks to sixteen codes and back: the shipped codec, cutting out and pasting, run lengths."""

import numpy as np
import pytest
from mask_networks import NARROW, random_arrays
from PIL import Image
from pycocotools import mask as coco

from mmtune.codecs.boxes import from_bins, to_bins
from mmtune.codecs.mask_boxes import crop_mask, paste_mask, paste_part
from mmtune.codecs.mask_files import load_codec
from mmtune.codecs.mask_runs import mask_pixels, pasted_counts
from mmtune.codecs.masks import MaskCodec
from mmtune.data.scene_shapes import bounding_box
from mmtune.data.scenes import make_scene
from mmtune.records import Box, Mask


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def round_trip(codec, mask):
    """The whole way of a target: box to bins, mask to codes, and back."""
    height, width = mask.shape
    edges = bounding_box(mask)
    codes = codec.encode(crop_mask(mask, edges)[None])
    back = from_bins(to_bins(Box("x", *edges), (width, height)), (width, height))
    return paste_mask(codec.decode(codes)[0], back, (width, height))


@pytest.mark.parametrize(("size", "least"), [(64, 0.96), (120, 0.94), (224, 0.93)])
def test_masks_of_fresh_scenes_survive(size, least):
    codec = load_codec()
    masks = [shape.mask for index in range(25) for shape in make_scene(31_337, index, size).shapes]
    overlaps = [overlap(round_trip(codec, mask), mask) for mask in masks]
    assert len(overlaps) > 50
    assert np.mean(overlaps) >= least
    assert min(overlaps) >= 0.7


def test_masks_of_real_photographs_survive(shared_data):
    from mmtune.data.read import read

    codec = load_codec()
    data = read(shared_data / "nuts", task="segmentation", need_pictures=False)
    overlaps = [overlap(round_trip(codec, mask_pixels(mask)), mask_pixels(mask)) for mask in data[0].masks]
    assert np.mean(overlaps) >= 0.95


def test_codes_do_not_depend_on_their_neighbours():
    codec = load_codec()
    masks = np.random.default_rng(0).random((70, 64, 64)) > 0.5
    together = codec.encode(masks)
    assert together.shape == (70, 16)
    assert (together == np.concatenate([codec.encode(mask[None]) for mask in masks])).all()
    apart = np.concatenate([codec.decode(codes[None]) for codes in together])
    np.testing.assert_allclose(codec.decode(together), apart, atol=1e-5)


def test_no_masks():
    codec = load_codec()
    assert codec.encode(np.zeros((0, 64, 64))).shape == (0, 16)
    assert codec.decode(np.zeros((0, 16), int)).shape == (0, 64, 64)


def test_decoded_values_are_within_one():
    codec = MaskCodec(random_arrays(NARROW), "random", "")
    decoded = codec.decode(np.random.default_rng(0).integers(0, 128, (8, 16)))
    assert np.abs(decoded).max() <= 1
    assert decoded.dtype == np.float32


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda codec: codec.encode(np.zeros((64, 64))), id="one mask without an axis"),
        pytest.param(lambda codec: codec.encode(np.zeros((1, 32, 32))), id="other side"),
        pytest.param(lambda codec: codec.decode(np.zeros((1, 15), int)), id="fifteen codes"),
        pytest.param(lambda codec: codec.decode(np.full((1, 16), 128)), id="code beyond the last"),
        pytest.param(lambda codec: codec.decode(np.full((1, 16), -1)), id="negative code"),
    ],
)
def test_other_shapes_are_refused(call):
    with pytest.raises(ValueError, match="Received"):
        call(load_codec())


def test_crop_is_the_rounded_box_resized_with_antialiasing():
    rng = np.random.default_rng(0)
    mask = rng.random((200, 300)) > 0.5
    cropped = crop_mask(mask, (9.6, 20.4, 138.4, 147.6))
    part = mask[20:148, 10:138]  # 128 x 128: two pixels become one
    expected = np.asarray(Image.fromarray(part.astype(np.float32)).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(cropped, expected, atol=1e-6)
    # Antialiasing looks at four pixels a side, not at the two around the centre.
    weights = np.array([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(cropped[10, 20], weights @ part[19:23, 39:43] @ weights, atol=1e-6)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        pytest.param((4, 6, 8, 9), (4, 6, 8, 9), id="whole pixels"),
        pytest.param((3.6, 5.5, 8.4, 9.4), (4, 6, 8, 9), id="rounded"),
        pytest.param((-5, -5, 3, 30), (0, 0, 3, 20), id="beyond the picture"),
        pytest.param((4.1, 6.1, 4.2, 6.2), (4, 6, 5, 7), id="less than a pixel"),
        pytest.param((9.9, 19.9, 10, 20), (9, 19, 10, 20), id="less than a pixel at the border"),
    ],
)
def test_paste_fills_the_box(edges, expected):
    pasted = paste_mask(np.ones((64, 64)), edges, (10, 20))
    assert pasted.shape == (20, 10)
    assert bounding_box(pasted) == expected
    assert pasted.sum() == (expected[2] - expected[0]) * (expected[3] - expected[1])


@pytest.mark.parametrize("edges", [(4, 4, 4, 9), (4, 9, 8, 9)])
def test_paste_into_a_box_without_area_is_empty(edges):
    assert not paste_mask(np.ones((64, 64)), edges, (10, 20)).any()


def test_small_pictures_lose_nothing_by_the_way_through_bins():
    """Cutting the fraction off would move about half of these edges by a pixel."""
    for x0 in range(119):
        edges = (float(x0), 3.0, float(x0 + 1), 50.0)
        back = from_bins(to_bins(Box("x", *edges), (120, 120)), (120, 120))
        assert bounding_box(paste_mask(np.ones((64, 64)), back, (120, 120))) == edges


@pytest.mark.parametrize(
    ("corner", "part"),
    [
        pytest.param((0, 0), np.ones((5, 7), bool), id="everything"),
        pytest.param((2, 1), np.eye(3, dtype=bool), id="diagonal"),
        pytest.param((0, 0), np.ones((5, 2), bool), id="first columns"),
        pytest.param((5, 0), np.ones((5, 2), bool), id="last columns"),
        pytest.param((6, 4), np.ones((1, 1), bool), id="last pixel"),
        pytest.param((3, 2), np.zeros((2, 2), bool), id="empty part"),
        pytest.param((0, 0), np.zeros((0, 0), bool), id="no part"),
    ],
)
def test_runs_of_a_part_are_those_of_the_whole(corner, part):
    whole = np.zeros((5, 7), np.uint8)
    whole[corner[1] : corner[1] + part.shape[0], corner[0] : corner[0] + part.shape[1]] = part
    counts = pasted_counts(part, corner, (7, 5))
    assert counts == coco.encode(np.asfortranarray(whole))["counts"]
    assert (mask_pixels(Mask("x", (5, 7), counts)) == whole).all()


def test_runs_of_decoded_masks_on_a_large_picture():
    decoded = load_codec().decode(np.random.default_rng(0).integers(0, 128, (1, 16)))[0]
    edges, size = (700.2, 500.7, 1900.0, 1100.0), (2000, 1500)
    part, corner = paste_part(decoded, edges, size)
    whole = np.asfortranarray(paste_mask(decoded, edges, size), np.uint8)
    assert pasted_counts(part, corner, size) == coco.encode(whole)["counts"]
