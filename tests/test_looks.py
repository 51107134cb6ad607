"""A picture asked about in several looks: what each shows, and where in the whole picture its boxes lie."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from backbones import make
from PIL import Image
from pycocotools import mask as coco

import mmtune
from mmtune.codecs.boxes import LAST_BIN, LOCATIONS
from mmtune.codecs.mask_runs import mask_pixels
from mmtune.data.augment import mirror
from mmtune.data.pixels import to_square
from mmtune.errors import RecipeError
from mmtune.looks import looks, shown, shows, turned, upright, upright_bins, whole_bins
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict
from mmtune.records import PLAIN, WHOLE, Box, Look, Mask, Output, Query, Record
from mmtune.tasks.detection import Detection, DetectionOptions
from mmtune.tasks.segmentation import Segmentation, SegmentationOptions

CLASSES = ("cat", "dog")
SIZE = (420, 210)  # of which all tiles have whole sizes
AXES = {0: (), 1: ("x",), 2: ("y",), 3: ("x", "y"), 4: ("xy",), 5: ("xy", "x"), 6: ("xy", "y"), 7: ("xy", "x", "y")}


def seen_in(look, record):
    """The record as a look shows it: what it cuts is cut, then augmentation mirrors it."""
    width, height = record.size
    top, left, bottom, right = (round(edge * side) for edge, side in zip(look.part, (height, width) * 2, strict=True))
    boxes = []
    for box in record.boxes:
        x0, x1 = (min(max(edge, left), right) - left for edge in (box.x0, box.x1))
        y0, y1 = (min(max(edge, top), bottom) - top for edge in (box.y0, box.y1))
        boxes += [Box(box.label, x0, y0, x1, y1)] if x0 < x1 and y0 < y1 else []
    record = replace(record, boxes=tuple(boxes), size=(right - left, bottom - top))
    image = Image.new("RGB", record.size)
    for axes in AXES[look.view]:
        image, record = mirror(image, record, axes)
    return record


def answers_to(task, record):
    """What a perfect model writes to every query."""
    return [
        (query, Output("".join(span.text for span in task.targets(seen_in(query.look, record), query)[0])))
        for query in task.queries(record)
    ]


@pytest.mark.parametrize("view", range(8))
def test_a_view_and_back(view):
    image = np.random.default_rng(view).integers(0, 256, (5, 7, 3))
    np.testing.assert_array_equal(upright(turned(image, view), view), image)
    all_views = [turned(image, other).tolist() for other in range(8)]
    assert sum(other == all_views[view] for other in all_views) == 1


@pytest.mark.parametrize("view", range(8))
def test_a_box_is_where_its_pixels_are(view):
    y0, x0, y1, x1 = 100, 300, 250, 900
    shown = np.zeros((LOCATIONS - 1, LOCATIONS - 1), bool)
    shown[y0:y1, x0:x1] = True
    rows, columns = np.nonzero(turned(shown, view))
    found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert upright_bins(tuple(map(int, found)), view) == (y0, x0, y1, x1)


def test_equal_looks_share_their_picture():
    pixels, part = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    tile = (0.0, 0.0, 0.6, 0.6)
    asked = [Look(), Look(), Look(3), Look(1, tile), Look(3)]
    pictures = shown({WHOLE: pixels, tile: part}, [Query("a", look=look) for look in asked])
    assert pictures[0] is pictures[1] is pixels
    np.testing.assert_array_equal(pictures[2], pixels[::-1, ::-1])
    np.testing.assert_array_equal(pictures[3], part[:, ::-1])
    assert pictures[4] is pictures[2]
    assert shown({WHOLE: None}, [Query("a")]) == [None]


def test_tiles_cover_the_picture_and_share_a_third():
    assert looks(2, 1) == (PLAIN, Look(1))
    for tiles in (2, 3, 4):
        every = looks(2, tiles)
        assert every[:2] == (PLAIN, Look(1))
        assert len(set(every)) == len(every) == 2 * (1 + tiles**2)
        parts = [look.part for look in every[2::2]]
        rows = sorted({(y0, y1) for y0, _, y1, _ in parts})
        assert rows == sorted({(x0, x1) for _, x0, _, x1 in parts})
        assert (rows[0][0], rows[-1][1]) == (0.0, 1.0)
        side = rows[0][1]
        for (y0, y1), (following, _) in pairwise(rows):
            assert y1 - y0 == pytest.approx(side)
            assert y1 - following == pytest.approx(side / 3)


@pytest.mark.parametrize("look", looks(8, 3)[8::11], ids=str)
def test_a_box_in_a_tile_is_where_its_pixels_are(look):
    """Painted on a picture, found on the square of pixels that the model gets."""
    width, height, side = 900, 600, 224
    top, left, *_ = look.part
    box = (left * width + 40, top * height + 30, left * width + 200, top * height + 130)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = 255
    seen = turned(to_square(picture, side, part=look.part), look.view)[..., 0] > 127
    rows, columns = np.nonzero(seen)
    found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    bins = whole_bins(tuple(round(edge / side * LAST_BIN) for edge in found), look)
    edges = [edge / LAST_BIN * length for edge, length in zip(bins, (height, width) * 2, strict=True)]
    for edge, truth in zip(edges, (box[1], box[0], box[3], box[2]), strict=True):
        assert edge == pytest.approx(truth, abs=1.01 * width * 3 / 7 / side + 1)


def test_a_part_is_resized_like_a_picture_of_its_own():
    picture = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((500, 300)).resize((1000, 600)))
    alone = to_square(np.ascontiguousarray(picture[:360, 400:]), 120)
    part = to_square(picture, 120, part=(0.0, 0.4, 0.6, 1.0))
    inner = (slice(2, -2), slice(2, -2))  # at a border the part's pixels blend with what lies beyond
    assert np.abs(part[inner].astype(int) - alone[inner]).max() <= 1


@pytest.mark.parametrize(
    ("bins", "whole"),
    [
        ((0, 0, 500, 500), True),
        ((0, 0, 500, 610), False),  # 0.6 of 1023 is 613.8
        ((580, 0, 601, 500), True),
        ((590, 0, 640, 500), False),
        ((700, 700, 800, 800), False),
    ],
)
def test_what_a_tile_shows_whole(bins, whole):
    assert shows(Look(0, (0.0, 0.0, 0.6, 0.6)), bins) == whole
    assert shows(PLAIN, bins)


@pytest.mark.parametrize("prompt", ["all", "per_class"])
@pytest.mark.parametrize(("views", "tiles"), [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (8, 3), (1, 4)])
def test_perfect_answers_in_all_looks_are_the_truth(views, tiles, prompt):
    boxes = (Box("cat", 10, 30, 60, 90), Box("dog", 12, 30, 64, 90), Box("dog", 0, 0, *SIZE))
    record = Record("r", size=SIZE, boxes=boxes, source="truth.json")
    task = Detection(CLASSES, DetectionOptions(views=views, tiles=tiles, prompt=prompt))
    assert all(query.look.plain for query in task.lessons(record))
    found = task.parse(record, answers_to(task, record))
    assert found.invalid == 0
    assert sorted(box.label for box in found.boxes) == ["cat", "dog", "dog"]
    for box in found.boxes:
        truth = min((one for one in boxes if one.label == box.label), key=lambda one: abs(one.x1 - box.x1))
        edges = [(box.x0, truth.x0), (box.y0, truth.y0), (box.x1, truth.x1), (box.y1, truth.y1)]
        assert all(one == pytest.approx(other, abs=SIZE[0] / 1023) for one, other in edges)
        assert box.score == pytest.approx(1)


def test_masks_of_all_views_are_the_mask():
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    pixels = (rows - 80) ** 2 + (columns - 90) ** 2 <= 50**2
    pixels &= rows + columns < 190  # no view looks like another
    mask = Mask("cat", pixels.shape, coco.encode(np.asfortranarray(pixels, np.uint8))["counts"])
    record = Record("r", size=SIZE, masks=(mask,), source="truth.json")
    overlaps = {}
    for views in (1, 8):
        task = Segmentation(CLASSES, SegmentationOptions(views=views))
        (found,) = task.parse(record, answers_to(task, record)).masks
        shown = mask_pixels(found)
        overlaps[views] = (shown & pixels).sum() / (shown | pixels).sum()
        assert found.score == pytest.approx(1)
    assert overlaps[8] > 0.9
    assert overlaps[8] > overlaps[1] - 0.01


def test_expressions_are_asked_once():
    task = Segmentation(CLASSES, SegmentationOptions(prompt="referring", views=8))
    record = Record("r", prefix="the left cat", size=SIZE)
    (query,) = task.queries(record)
    assert query.look.plain
    codes = "".join(f"<seg{number:03d}>" for number in range(16))
    (box,) = task.parse(record, [(query, Output(f"<loc0000><loc0000><loc0500><loc0500>{codes}"))]).boxes
    assert box.score == 1


def test_the_text_is_what_was_written_about_the_picture_as_it_is():
    record = Record("r", size=SIZE, boxes=(Box("cat", 10, 30, 60, 90),), source="truth.json")
    task = Detection(CLASSES, DetectionOptions(views=2, tiles=2))
    found = task.parse(record, answers_to(task, record))
    (plain,) = task.targets(record, task.lessons(record)[0])
    assert found.text == "".join(span.text for span in plain)
    assert found.prompt == "detect cat ; dog"


@pytest.mark.parametrize(("option", "said"), [("views", "1, 2, 4, 8, got 5"), ("tiles", "1 to 4, got 5")])
def test_other_numbers_are_refused(option, said):
    with pytest.raises(RecipeError, match=f"options.{option}: expected {said}"):
        DetectionOptions(**{option: 5})


def test_a_mirrored_picture_has_mirrored_answers():
    model = Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")
    side = model.image_size
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    pictures = [Image.fromarray(pixels), Image.fromarray(pixels[:, ::-1])]
    options = {"views": 8, "score": "location"}
    plain, mirrored = predict(
        model, pictures, task="detection", prompt="detect circle ; star", max_tokens=30, options=options
    )
    assert plain.boxes
    back = [replace(box, x0=side - box.x1, x1=side - box.x0) for box in mirrored.boxes]
    edges = [
        sorted((box.label, *map(float, (box.x0, box.y0, box.x1, box.y1))) for box in b) for b in (plain.boxes, back)
    ]
    for one, other in zip(*edges, strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], abs=1.01 * side / 1023)


def test_scenes_are_seen_better_in_more_looks():
    data = "shapes:test?n=24&seed=5"
    plain, views, tiles = (
        mmtune.evaluate("tiny", task="detection", data=data, options=options, verbose=False).metrics
        for options in ({}, {"views": 4}, {"tiles": 2})
    )
    for metric in ("AP50", "AP"):
        assert views[metric] > plain[metric] + 0.02
        assert tiles[metric] > plain[metric] + 0.02
    assert tiles["APs"] > views["APs"]
