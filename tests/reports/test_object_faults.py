"""The faults of found objects on cases made by hand; what is right and what is left out, against pycocotools."""

import numpy as np
import pytest

from mmtune.metrics.coco import IGNORED_AREA, coco_evaluator
from mmtune.records import Box, Mask, Prediction, Record
from mmtune.reports.object_faults import (
    DUPLICATE,
    FAULTS,
    IGNORED,
    INVENTED,
    MISSED,
    POOR_PLACE,
    RIGHT,
    WRONG_CLASS,
    best_threshold,
    confusion,
    found_things,
    judge,
    precision_recall,
    true_things,
)


def judged(truth, found, least=0.0):
    record = Record("r", size=(100, 100), boxes=tuple(truth))
    return judge(true_things(record, False), found_things(Prediction("r", "", "", tuple(found)), False), least)


def cat(x0, x1, score=None, label="cat", **more):
    """A box of height 10 between two edges: overlaps of such boxes are those of their widths."""
    return Box(label, x0, 0, x1, 10, score=score, **more)


@pytest.mark.parametrize(
    ("truth", "found", "verdicts", "missed"),
    [
        pytest.param([cat(0, 10)], [cat(0, 10, 0.9)], [RIGHT], 0, id="right"),
        pytest.param([cat(0, 10)], [cat(0, 5, 0.9)], [RIGHT], 0, id="an overlap of exactly a half is right"),
        pytest.param([cat(0, 10)], [], [], 1, id="missed"),
        pytest.param([cat(0, 10)], [cat(0, 10, 0.9), cat(0, 9, 0.5)], [RIGHT, DUPLICATE], 0, id="duplicate"),
        pytest.param([cat(0, 10)], [cat(0, 9, 0.5), cat(0, 10, 0.5)], [RIGHT, DUPLICATE], 0, id="equal scores"),
        pytest.param([cat(0, 10)], [cat(0, 9, 0.4), cat(0, 10, 0.5)], [RIGHT, DUPLICATE], 0, id="the best score first"),
        pytest.param([cat(0, 10)], [cat(0, 10, 0.9, "dog")], [WRONG_CLASS], 0, id="wrong class is not missed too"),
        pytest.param([cat(0, 10)], [cat(0, 4, 0.9)], [POOR_PLACE], 0, id="poor place is not missed too"),
        pytest.param([cat(0, 10)], [cat(0, 1, 0.9)], [POOR_PLACE], 0, id="a tenth is near"),
        pytest.param([cat(0, 10)], [cat(0, 0.9, 0.9)], [INVENTED], 1, id="less is not"),
        pytest.param([], [cat(0, 10, 0.9)], [INVENTED], 0, id="nothing there"),
        pytest.param([cat(0, 10)], [cat(0, 4, 0.9, "dog")], [INVENTED], 1, id="near another class, and wrong in both"),
        pytest.param(
            [cat(0, 10), cat(0, 9, label="dog")], [cat(0, 10, 0.9), cat(0, 9, 0.8)], [RIGHT, DUPLICATE], 1,
            id="a duplicate before a wrong class",
        ),
        pytest.param(
            [cat(0, 40), cat(30, 50, label="dog")], [cat(30, 50, 0.9)], [WRONG_CLASS], 1,
            id="a wrong class before a poor place",
        ),
        pytest.param(
            [cat(0, 10), cat(20, 30)], [cat(0, 10, 0.9), cat(20, 30, 0.8), cat(19, 30, 0.7)],
            [RIGHT, RIGHT, DUPLICATE], 0, id="two objects, three found",
        ),
        pytest.param(
            [cat(0, 10), cat(2, 12)], [cat(1, 11, 0.9), cat(1, 11, 0.8)], [RIGHT, RIGHT], 0, id="one each"
        ),
        pytest.param([cat(0, 50, crowd=True)], [cat(0, 5, 0.9), cat(10, 20, 0.8)], [IGNORED] * 2, 0, id="in a crowd"),
        pytest.param(
            [cat(0, 50, crowd=True), cat(0, 5)], [cat(0, 5, 0.9), cat(0, 5, 0.8)], [RIGHT, IGNORED], 0,
            id="an object before the crowd around it",
        ),
        pytest.param([cat(0, 10, difficult=True)], [], [], 0, id="difficult ones need not be found"),
        pytest.param(
            [cat(0, 10, difficult=True)], [cat(0, 10, 0.9), cat(0, 10, 0.8)], [IGNORED, INVENTED], 0,
            id="and only one found is left out for each",
        ),
        pytest.param([cat(0, 50, crowd=True)], [cat(0, 5, 0.9, "dog")], [INVENTED], 0, id="a crowd of another class"),
    ],
)  # fmt: skip
def test_faults_of_boxes(truth, found, verdicts, missed):
    one = judged(truth, found)
    assert list(one.verdicts) == verdicts
    assert len(one.missed) == missed
    assert one.counts == {name: verdicts.count(name) for name in FAULTS} | {MISSED: missed}


def test_a_fault_names_the_object_that_it_is_about():
    one = judged([cat(0, 10), cat(50, 60, label="dog")], [cat(50, 60, 0.9), cat(0, 4, 0.8), cat(80, 90, 0.7)])
    assert one.verdicts == (WRONG_CLASS, POOR_PLACE, INVENTED)
    assert one.about == (1, 0, None)


def square(x, y, side, label="cat", score=None, size=20):
    from mmtune.codecs.mask_runs import pasted_counts

    return Mask(label, (size, size), pasted_counts(np.ones((side, side), bool), (x, y), (size, size)), score)


def test_faults_of_masks_go_by_the_pixels():
    record = Record("r", size=(20, 20), masks=(square(0, 0, 4), square(10, 10, 4)))
    found = (square(0, 0, 4, score=0.9), square(12, 12, 4, score=0.8), square(10, 10, 4, "dog", 0.7))
    one = judge(true_things(record, True), found_things(Prediction("r", "", "", masks=found), True))
    # 2 x 2 of 4 x 4 + 4 x 4 - 2 x 2 pixels: 4 / 28.
    assert one.verdicts == (RIGHT, POOR_PLACE, WRONG_CLASS)
    assert one.missed == ()


def random_boxes(rng, number, **more):
    corners, sides = rng.integers(0, 6, (number, 2)) * 4, rng.integers(2, 6, (number, 2)) * 4
    labels = rng.integers(0, 2, number)
    return [
        Box("ab"[label], *map(float, low), *map(float, low + side), **{k: f(rng) for k, f in more.items()})
        for label, low, side in zip(labels, corners, sides, strict=True)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_right_and_left_out_are_pycocotools(seed):
    """On a coarse grid, so that overlaps and scores are often equal."""
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 6, crowd=lambda r: r.random() < 0.15, difficult=lambda r: r.random() < 0.15)
    found = random_boxes(rng, 9, score=lambda r: float(r.integers(1, 4)) / 4)
    one = judged(truth, found)

    def item(box, **more):
        return {
            "image_id": 1,
            "category_id": 1 + "ab".index(box.label),
            "bbox": [box.x0, box.y0, box.width, box.height],
            **more,
        }

    truths = [item(b, iscrowd=int(b.crowd), area=IGNORED_AREA if b.difficult else b.width * b.height) for b in truth]
    detections = [item(box, score=box.score, area=box.width * box.height) for box in found]
    evaluator = coco_evaluator([{"id": 1}], [1, 2], truths, detections, "bbox")
    for place, label in enumerate("ab"):
        cell = evaluator.evalImgs[4 * place]
        verdicts = [v for v, thing in zip(one.verdicts, one.found, strict=True) if thing.label == label]
        matched = cell["dtMatches"][0] > 0 if cell else []
        left_out = cell["dtIgnore"][0] if cell else []
        assert [v == RIGHT for v in verdicts] == [bool(m and not i) for m, i in zip(matched, left_out, strict=True)]
        assert [v == IGNORED for v in verdicts] == [bool(i) for i in left_out]


@pytest.mark.parametrize("seed", range(10))
def test_the_confusion_matrix_adds_up(seed):
    rng = np.random.default_rng(seed)
    pictures = [
        judged(random_boxes(rng, 6, crowd=lambda r: r.random() < 0.1), random_boxes(rng, 9, score=lambda r: r.random()))
        for _ in range(3)
    ]
    table = confusion(pictures, "ab")
    for place, label in enumerate("ab"):
        assert table[place].sum() == sum(t.counts and t.label == label for one in pictures for t in one.truth)
        listed = [
            thing.label == label
            for one in pictures
            for thing, verdict in zip(one.found, one.verdicts, strict=True)
            if verdict != IGNORED
        ]
        assert table[:, place].sum() == sum(listed)
        right = [
            v == RIGHT and t.label == label for one in pictures for t, v in zip(one.found, one.verdicts, strict=True)
        ]
        assert table[place, place] == sum(right)
    assert table[-1, -1] == 0


def test_the_confusion_matrix_by_hand():
    one = judged(
        [cat(0, 10), cat(20, 30), cat(40, 50, label="dog")],
        [cat(0, 10, 0.9), cat(0, 10, 0.8), cat(40, 50, 0.7), cat(80, 90, 0.6, "dog")],
    )
    assert confusion([one], ["cat", "dog"]).tolist() == [[1, 0, 1], [1, 0, 0], [1, 1, 0]]


def test_the_threshold_is_that_of_the_best_f1():
    """Naively: F1 at each score there is."""
    rng = np.random.default_rng(3)
    pictures = [
        (random_boxes(rng, 5), random_boxes(rng, 12, score=lambda r: float(r.integers(1, 6)) / 8)) for _ in range(4)
    ]

    def quality(least):
        ones = [judged(truth, found, least) for truth, found in pictures]
        right = sum(one.verdicts.count(RIGHT) for one in ones)
        return 2 * right / sum(len(one.truth) + len(one.found) for one in ones)

    best = best_threshold([judged(*pair) for pair in pictures])
    scores = {box.score for _, found in pictures for box in found}
    assert best in scores
    assert quality(best) == pytest.approx(max(quality(score) for score in scores))


@pytest.mark.parametrize(
    ("truth", "found", "threshold", "quality"),
    [
        ([], [], 0.0, 1.0),
        ([cat(0, 10)], [], 0.0, 0.0),
        ([], [cat(0, 10, 0.5)], 0.0, 0.0),
        ([cat(0, 10)], [cat(0, 10)], 1.0, 1.0),
    ],
)
def test_pictures_with_nothing(truth, found, threshold, quality):
    one = judged(truth, found)
    assert best_threshold([one]) == threshold
    assert one.quality == quality


def test_precision_and_recall_after_each_found_object():
    one = judged(
        [cat(0, 10), cat(20, 30)], [cat(0, 10, 0.9), cat(50, 60, 0.8), cat(20, 30, 0.7), cat(0, 5, 0.6, "dog")]
    )
    recall, precision = precision_recall([one], "cat")
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert precision_recall([one], "dog")[0].size == 0
