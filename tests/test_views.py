"""A picture asked about in several views: where things are moved, and what is put together of what was found."""

from dataclasses import replace

import numpy as np
import pytest
from backbones import make
from PIL import Image
from pycocotools import mask as coco

import mmtune
from mmtune.codecs.boxes import LOCATIONS, DecodedBox
from mmtune.codecs.mask_runs import mask_pixels
from mmtune.data.augment import mirror
from mmtune.errors import RecipeError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict
from mmtune.records import Box, Mask, Output, Query, Record
from mmtune.tasks.detection import Detection, DetectionOptions
from mmtune.tasks.segmentation import Segmentation, SegmentationOptions
from mmtune.views import Sighting, in_views, together, turned, upright, upright_bins

CLASSES = ("cat", "dog")
SIZE = (240, 180)
AXES = {0: (), 1: ("x",), 2: ("y",), 3: ("x", "y"), 4: ("xy",), 5: ("xy", "x"), 6: ("xy", "y"), 7: ("xy", "x", "y")}


def seen_in(view, record):
    """The record as augmentation moves it."""
    image = Image.new("RGB", record.size)
    for axes in AXES[view]:
        image, record = mirror(image, record, axes)
    return record


def answers_to(task, record):
    """What a perfect model writes to every query."""
    return [
        (query, Output("".join(span.text for span in task.targets(seen_in(query.view, record), query)[0])))
        for query in task.queries(record)
    ]


@pytest.mark.parametrize("view", range(8))
def test_a_view_and_back(view):
    image = np.random.default_rng(view).integers(0, 256, (5, 7, 3))
    np.testing.assert_array_equal(upright(turned(image, view), view), image)
    looks = [turned(image, other).tolist() for other in range(8)]
    assert sum(look == looks[view] for look in looks) == 1


@pytest.mark.parametrize("view", range(8))
def test_a_box_is_where_its_pixels_are(view):
    y0, x0, y1, x1 = 100, 300, 250, 900
    shown = np.zeros((LOCATIONS - 1, LOCATIONS - 1), bool)
    shown[y0:y1, x0:x1] = True
    rows, columns = np.nonzero(turned(shown, view))
    found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert upright_bins(tuple(map(int, found)), view) == (y0, x0, y1, x1)


def test_views_share_their_pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    pictures = in_views(pixels, [Query("a", view=0), Query("b", view=0), Query("a", view=3)])
    assert pictures[0] is pixels
    np.testing.assert_array_equal(pictures[3], pixels[::-1, ::-1])
    assert in_views(None, [Query("a")]) == {0: None}


def sighting(edges, score, view, label="cat"):
    return Sighting(DecodedBox(edges, label, (0, 0)), score, view)


def test_what_overlaps_in_two_views_is_one_object():
    found = together(
        [
            sighting((0, 0, 100, 100), 0.9, 0),
            sighting((500, 500, 600, 600), 0.5, 0),
            sighting((0, 0, 110, 104), 0.3, 1),
            sighting((0, 0, 100, 100), 0.6, 1, "dog"),
        ],
        views=2,
    )
    assert [(one.box.label, one.box.bins) for one in found] == [
        ("cat", (0, 0, 102, 101)),  # by scores: (100 * 3 + 110) / 4 = 102.5, to even
        ("cat", (500, 500, 600, 600)),
        ("dog", (0, 0, 100, 100)),
    ]
    assert [one.score for one in found] == pytest.approx([0.6, 0.25, 0.3])
    assert [len(one.sightings) for one in found] == [2, 1, 1]


def test_two_objects_of_one_view_stay_two():
    near = [(0, 0, 100, 100), (0, 0, 100, 120)]
    found = together([sighting(edges, 0.5, view) for view in range(2) for edges in near], views=2)
    assert [one.box.bins for one in found] == near
    assert [one.score for one in found] == pytest.approx([0.5, 0.5])


def test_scores_of_zero_weigh_alike():
    (one,) = together([sighting((0, 0, 100, 100), 0.0, 0), sighting((0, 0, 110, 100), 0.0, 1)], views=2)
    assert (one.box.bins, one.score) == ((0, 0, 105, 100), 0.0)


@pytest.mark.parametrize("prompt", ["all", "per_class"])
@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_perfect_answers_in_all_views_are_the_truth(views, prompt):
    boxes = (Box("cat", 10, 30, 60, 90), Box("dog", 12, 30, 64, 90), Box("dog", 0, 0, 240, 180))
    record = Record("r", size=SIZE, boxes=boxes, source="truth.json")
    task = Detection(CLASSES, DetectionOptions(views=views, prompt=prompt))
    assert [query.view for query in task.lessons(record)] == [0] * len(task.lessons(record))
    found = task.parse(record, answers_to(task, record))
    assert found.invalid == 0
    assert sorted(box.label for box in found.boxes) == ["cat", "dog", "dog"]
    for box in found.boxes:
        truth = min((one for one in boxes if one.label == box.label), key=lambda one: abs(one.x1 - box.x1))
        edges = [(box.x0, truth.x0), (box.y0, truth.y0), (box.x1, truth.x1), (box.y1, truth.y1)]
        assert all(one == pytest.approx(other, abs=240 / 1023) for one, other in edges)
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
    assert query.view == 0
    codes = "".join(f"<seg{number:03d}>" for number in range(16))
    (box,) = task.parse(record, [(query, Output(f"<loc0000><loc0000><loc0500><loc0500>{codes}"))]).boxes
    assert box.score == 1


def test_other_numbers_are_refused():
    with pytest.raises(RecipeError, match=r"options.views: expected 1, 2, 4, 8, got 3"):
        DetectionOptions(views=3)


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


def test_scenes_are_seen_better_in_more_views():
    found = {
        views: mmtune.evaluate(
            "tiny", task="detection", data="shapes:test?n=24&seed=5", options={"views": views}, verbose=False
        ).metrics
        for views in (1, 4)
    }
    assert found[4]["AP50"] > found[1]["AP50"] + 0.02
    assert found[4]["AP"] > found[1]["AP"] + 0.02
