"""Segmentation scores against published numbers, a naive matching, and referring segmentation by its definition."""

import itertools
import pickle

import numpy as np
import pytest
from pycocotools import mask as coco

from mmtune.data.read import read
from mmtune.metrics.mask_results import score_segmentation
from mmtune.metrics.segmentation import SegmentationMetric, box_overlaps, mask_overlaps, matched
from mmtune.records import Box, Mask, Prediction, Record


def mask(rows, columns, label="cat", size=(20, 30), score=None, crowd=False):
    """A rectangle of rows and columns in a picture of (height, width)."""
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[slice(*rows), slice(*columns)] = 1
    return Mask(label, size, coco.encode(pixels)["counts"], score, crowd)


def prediction(*masks, invalid=0):
    return Prediction("r", "", "", masks=masks, invalid=invalid)


def scores(*pairs, classes=("cat", "dog")):
    metric = SegmentationMetric(classes)
    for record, found in pairs:
        metric.update(record, found)
    return metric.compute()


def test_records_score_like_the_official_files(shared_data):
    """The metric over records of the reader gives the numbers of the official evaluator over the files."""
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.results import read_detections

    folder = shared_data / "gold" / "coco_map"
    truth, results = folder / "instances_val2014_100.json", folder / "instances_val2014_fakesegm100_results.json"
    data = read(truth, task="segmentation", need_pictures=False)
    found = {item.record: item for item in read_detections(results, data, need_masks=True)}
    metric = SegmentationMetric(data.classes)
    for record in data:
        metric.update(record, found.get(record.id) or Prediction(record.id, "", ""))
    ours, log = metric.compute(), FaultLog()
    official = score_segmentation(truth, results, None, log)
    assert official["n"] == 100
    assert (official["invalid"], log.faults) == (0, [])
    by_class = ours.pop("per_class"), official["metrics"].pop("per_class")
    assert ours == pytest.approx(official["metrics"], abs=1e-9)
    assert by_class[0].keys() == by_class[1].keys()
    assert all(by_class[0][label] == pytest.approx(by_class[1][label], abs=1e-9) for label in by_class[0])
    assert ours["AP"] == pytest.approx(0.3195452758, abs=1e-9)
    assert ours["ARl"] == pytest.approx(0.3814715100, abs=1e-9)
    assert list(ours)[-3:] == list(official["metrics"])[-3:] == ["mIoU", "boxacc50", "boxacc75"]


A, B = mask((0, 10), (0, 10)), mask((0, 10), (10, 20))
DOG = mask((10, 20), (0, 10), "dog")


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        pytest.param((A,), (A,), 1.0, id="perfect"),
        pytest.param((A,), (), 0.0, id="nothing found"),
        pytest.param((A,), (mask((0, 10), (0, 5)),), 0.5, id="half"),
        pytest.param((A,), (mask((0, 10), (0, 10), "dog"),), 0.0, id="other class"),
        pytest.param((A, B), (A,), 0.5, id="one of two"),
        pytest.param((A, B), (mask((0, 10), (0, 20)),), 0.25, id="one mask over two objects counts for one"),
        pytest.param((A, B), (B, A), 1.0, id="any order"),
        pytest.param((A, DOG), (A, DOG), 1.0, id="two classes"),
        pytest.param((A,), (A, B, DOG), 1.0, id="wrong masks beside it"),
        pytest.param((A, mask((0, 20), (0, 30), crowd=True)), (A,), 1.0, id="a crowd is no object"),
        pytest.param((A,), (mask((0, 0), (0, 0)),), 0.0, id="empty mask"),
        pytest.param((A,), (mask((0, 10), (0, 10), size=(20, 40)),), 0.0, id="mask of another picture"),
    ],
)
def test_mean_overlap(truth, found, expected):
    result = scores((Record("r", masks=truth), prediction(*found)))
    assert result["mIoU"] == pytest.approx(expected)


def test_referring_expressions_as_they_are_defined():
    """Per object at the original resolution; what could not be read counts 0; box accuracy at two overlaps."""
    truth = mask((0, 10), (0, 10), "object")
    pairs = []
    for width in (10, 8, 6, 4):
        part = mask((0, 10), (0, width), "object")
        box = Box("object", 0, 0, width, 10)
        pairs.append((Record(f"{width}", masks=(truth,)), Prediction("", "", "", (box,), (part,))))
    pairs.append((Record("unreadable", masks=(truth,)), prediction(invalid=1)))
    result = scores(*pairs, classes=("object",))
    assert result["mIoU"] == pytest.approx((1 + 0.8 + 0.6 + 0.4 + 0) / 5)
    assert result["boxacc50"] == pytest.approx(3 / 5)
    assert result["boxacc75"] == pytest.approx(2 / 5)


def test_boxes_that_stand_with_the_masks_count():
    """Box accuracy goes by the annotated box and the written one, not by the boxes around the masks."""
    record = Record("r", boxes=(Box("cat", 0, 0, 20, 10),), masks=(A,))
    found = Prediction("r", "", "", boxes=(Box("cat", 0, 0, 14, 10),), masks=(A,))
    result = scores((record, found))
    assert (result["mIoU"], result["boxacc50"], result["boxacc75"]) == (1.0, 1.0, 0.0)


def test_annotated_area_decides_the_size_class():
    record = Record("r", boxes=(Box("cat", 0, 0, 10, 10, area=5000.0),), masks=(A,))
    found = Prediction("r", "", "", masks=(A,))
    assert [scores((record, found))[name] for name in ("APs", "APm")] == pytest.approx([-1, 1])
    assert [scores((Record("r", masks=(A,)), found))[name] for name in ("APs", "APm")] == pytest.approx([1, -1])


def test_crowds_are_ignored_and_not_missed():
    crowd = mask((0, 20), (10, 30), crowd=True)
    found = prediction(mask((0, 10), (0, 10), score=0.5), mask((0, 20), (12, 30), score=0.9))
    assert scores((Record("r", masks=(A, crowd)), found))["AP"] == pytest.approx(1)


def test_scores_rank_masks():
    wrong, right = mask((0, 5), (20, 30), score=0.9), mask((0, 10), (0, 10), score=0.5)
    assert scores((Record("r", masks=(A,)), prediction(wrong, right)))["AP"] == pytest.approx(0.5)


def test_nothing_at_all():
    result = SegmentationMetric(("cat",)).compute()
    assert (result["AP"], result["mIoU"], result["boxacc50"]) == (-1, -1, -1)
    for found in (prediction(A), prediction()):
        result = scores((Record("r"), found))
        assert {value for name, value in result.items() if name != "per_class"} == {-1}
        assert result["per_class"] == {name: {"AP": -1, "AP50": -1} for name in ("cat", "dog")}


def test_merging_in_any_order_changes_nothing():
    rng = np.random.default_rng(0)
    metrics = []
    for number in range(4):
        metric = SegmentationMetric(("cat", "dog"))
        for place in range(3):
            rows, columns = sorted(rng.integers(0, 21, 2)), sorted(rng.integers(0, 31, 2))
            found = mask(rows, columns, score=float(rng.integers(1, 3)) / 2)
            metric.update(Record(f"{number}{place}", masks=(A, B)), prediction(found))
        metrics.append(metric)
    results = []
    for order in itertools.permutations(range(4)):
        total = SegmentationMetric(("cat", "dog"))
        for number in order:
            total.merge(pickle.loads(pickle.dumps(metrics[number])))
        results.append(total.compute())
    assert all(result == results[0] for result in results)
    assert 0 < results[0]["mIoU"] < 1


def test_overlaps_equal_counting_pixels():
    rng = np.random.default_rng(0)
    sides = [[mask(sorted(rng.integers(0, 21, 2)), sorted(rng.integers(0, 31, 2))) for _ in range(4)] for _ in range(2)]
    pixels = [[coco.decode({"size": list(m.size), "counts": m.counts}) > 0 for m in masks] for masks in sides]
    naive = [[(a & b).sum() / max((a | b).sum(), 1) for b in pixels[1]] for a in pixels[0]]
    np.testing.assert_allclose(mask_overlaps(*sides), naive)
    edges = [[(1.0, 2.0, 5.0, 9.0), (0.0, 0.0, 3.0, 3.0)], [(3.0, 4.0, 6.0, 10.0), (2.0, 2.0, 2.0, 2.0)]]
    np.testing.assert_allclose(box_overlaps(*edges), [[10 / (28 + 18 - 10), 0], [0, 0]])
    apart = [(0.0, 0.0, 2.0, 2.0)], [(7.0, 9.0, 9.0, 12.0), (0.0, 5.0, 2.0, 7.0)]  # in both directions, and in one
    assert box_overlaps(*apart).tolist() == [[0, 0]]


def test_matching_takes_the_greatest_first():
    assert matched(np.array([[0.6, 0.9], [0.8, 0.85]])) == [0.9, 0.8]
    assert matched(np.array([[0.6, 0.9], [0.0, 0.85]])) == [0.9, 0.0]
    assert matched(np.zeros((2, 0))) == [0.0, 0.0]
    assert matched(np.zeros((0, 2))) == []
