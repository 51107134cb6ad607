"""Detection scores against published numbers, pycocotools used the official way, and a naive average precision."""

import contextlib
import copy
import io
import itertools
import json
import pickle
import random

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError
from mmtune.metrics.coco import NAMES, IouType, coco_scores
from mmtune.metrics.detection import DetectionMetric, evaluate_coco
from mmtune.records import Box, Prediction, Record

IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm")

# Published with the files in gold/coco_map (see their SOURCE.txt), in the order of NAMES.
GOLD = {
    ("instances_val2014_100", "instances_val2014_fakebbox100_results", "bbox"): (
        0.5045806987, 0.6969727247, 0.5729816670, 0.5856257209, 0.5193996948, 0.5013978986,
        0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983,
    ),
    ("instances_val2014_100", "instances_val2014_fakesegm100_results", "segm"): (
        0.3195452758, 0.5622883973, 0.2989265341, 0.3873740316, 0.3101827240, 0.3269339071,
        0.2682297226, 0.4154486811, 0.4168394992, 0.4694498623, 0.3767592267, 0.3814715100,
    ),
    ("gt_ignore_test", "dt_ignore_test", "bbox"): (
        0.7099009900990099, 1.0, 0.8415841584158416, -1.0, 0.7099009900990099, -1.0,
        0.0, 0.45384615384615384, 0.7153846153846154, -1.0, 0.7153846153846154, -1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("truth", "results", "iou_type"), GOLD, ids=["boxes", "masks", "mixed ids and a crowd"])
def test_official_files_give_the_published_numbers(shared_data, truth, results, iou_type):
    folder = shared_data / "gold" / "coco_map"
    log = FaultLog()
    scores = evaluate_coco(_json(folder / f"{truth}.json"), _json(folder / f"{results}.json"), iou_type, log)
    assert [scores[name] for name in NAMES] == pytest.approx(GOLD[truth, results, iou_type], abs=1e-9)
    assert not log.faults


def test_boxes_and_masks_in_one_file_score_like_load_res(shared_data):
    folder = shared_data / "gold" / "coco_map"
    truth = _json(folder / "instances_val2014_100.json")
    results = _json(folder / "instances_val2014_fakesegm100_results.json")
    for index, item in enumerate(results):
        item["bbox"] = [index % 50, index % 40, 90 + index % 30, 95]
    for iou_type in IOU_TYPES:
        scores = evaluate_coco(truth, results, iou_type)
        assert [scores[name] for name in NAMES] == pytest.approx(_official(truth, results, iou_type), abs=1e-12)


def test_masks_alone_give_boxes_and_boxes_alone_give_masks_like_load_res(shared_data):
    folder = shared_data / "gold" / "coco_map"
    truth = _json(folder / "instances_val2014_100.json")
    for name, iou_type in zip(("fakesegm100", "fakebbox100"), IOU_TYPES, strict=True):
        results = _json(folder / f"instances_val2014_{name}_results.json")[:150]
        scores = evaluate_coco(truth, results, iou_type)
        assert [scores[name] for name in NAMES] == pytest.approx(_official(truth, results, iou_type), abs=1e-12)


def test_an_annotation_with_the_id_zero_can_be_found():
    item = {"image_id": 0, "category_id": 0, "bbox": [0, 0, 50, 50]}
    truth = {"images": [{"id": 0}], "categories": [{"id": 0, "name": "a"}], "annotations": [{**item, "id": 0}]}
    assert evaluate_coco(truth, [{**item, "score": 0.5}])["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"image_id": 9}, "unknown image"),
        ({"category_id": "b"}, "unknown category"),
        ({"score": None}, "no score"),
        ({"score": float("nan")}, "no score"),
        ({"bbox": [1, 2, 3]}, "malformed box"),
        ({"bbox": [1, 2, 3, "4"]}, "malformed box"),
        ({"bbox": None}, "no geometry"),
        ({"bbox": None, "segmentation": {"size": [4, 4], "counts": "garbage"}}, "no geometry"),
        (None, "malformed item"),
    ],
)
def test_an_unusable_detection_is_logged_and_the_rest_scored(change, kind):
    good = {"image_id": "7", "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9}
    truth = {"images": [{"id": 7}], "categories": [{"id": "1", "name": "a"}], "annotations": [good]}
    log = FaultLog()
    scores = evaluate_coco(
        truth, [good, [] if change is None else good | change], "bbox", log, ("truth.json", "dets.json")
    )
    assert scores["AP"] == pytest.approx(1)
    assert [(fault.file, fault.kind) for fault in log.faults] == [("dets.json, item 1", kind)]


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ({"images": [], "categories": []}, "needs a list 'annotations', found NoneType"),
        ({"images": [{"name": 1}], "categories": [], "annotations": []}, "item 0 of the COCO truth's 'images'"),
    ],
)
def test_incomplete_truth_is_refused(truth, words):
    with pytest.raises(DataError, match=words):
        evaluate_coco(truth, [])


@pytest.mark.parametrize("crowd", [False, True], ids=["no truth", "crowd alone"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_without_a_true_object_every_number_is_pycocotools(iou_type, crowd):
    item = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    region = item | {"id": 1, "iscrowd": 1, "area": 81, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}
    truth = {
        "images": [{"id": 1, "height": 20, "width": 20}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [region] if crowd else [],
    }
    results = [item | {"score": 0.5, "segmentation": region["segmentation"]}]
    official = _official(truth, results, iou_type)
    assert official == [-1] * 12
    ours = evaluate_coco(truth, results, iou_type)
    assert [ours[name] for name in NAMES] == official
    assert ours["per_class"] == {"a": {"AP": -1, "AP50": -1}}


def test_two_categories_of_one_name_keep_apart():
    box = {"image_id": 1, "bbox": [0, 0, 9, 9]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 3, "name": "a"}, {"id": 2, "name": "a"}, {"id": 1, "name": "b"}],
        "annotations": [{**box, "category_id": 3}, {**box, "category_id": 1}],
    }
    assert evaluate_coco(truth, [{**box, "category_id": 3, "score": 1}])["per_class"] == {
        "a (3)": {"AP": pytest.approx(1), "AP50": pytest.approx(1)},
        "a (2)": {"AP": -1, "AP50": -1},
        "b": {"AP": 0, "AP50": 0},
    }


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], dict.fromkeys(NAMES, -1) | {"per_class": {}}),
        ([((), ())], dict.fromkeys(NAMES, -1) | {"per_class": {}}),
        ([((), (Box("a", 0, 0, 9, 9),))], dict.fromkeys(NAMES, -1) | {"per_class": {}}),
        ([((Box("a", 0, 0, 9, 9),), ())], {"AP": 0, "AR100": 0, "APs": 0, "APm": -1}),
        ([((Box("a", 0, 0, 9, 9),), (Box("a", 0, 0, 9, 9),))], {"AP": 1, "AP50": 1, "AR1": 1, "APs": 1, "APl": -1}),
        (
            [((Box("a", 0, 0, 9, 9, crowd=True),), ())],
            {"AP": -1, "AR1": -1, "APs": -1, "per_class": {"a": {"AP": -1, "AP50": -1}}},
        ),
    ],
    ids=["no records", "nothing at all", "no truth", "no detections", "one hit", "crowd alone"],
)
def test_small_states(pairs, expected):
    scores = _score(pairs)
    assert {name: scores[name] for name in expected} == {
        name: value if name == "per_class" else pytest.approx(value) for name, value in expected.items()
    }
    assert set(scores) == {*NAMES, "per_class"}
    assert all(isinstance(scores[name], float) for name in NAMES)


def test_classes_keep_their_order_and_absent_ones_change_no_average():
    metric = DetectionMetric(["zebra", "ant"])
    truth = (Box("ant", 0, 0, 9, 9), Box("bee", 20, 20, 29, 29))
    found = (Box("ant", 0, 0, 9, 9, score=0.5), Box("zebra", 0, 0, 9, 9, score=0.9), Box("wasp", 1, 1, 5, 5, score=1))
    metric.update(Record("1", boxes=truth), Prediction("1", "", "", found))
    scores = metric.compute()
    assert list(scores["per_class"]) == ["zebra", "ant", "bee"]
    assert scores["per_class"]["zebra"] == {"AP": -1, "AP50": -1}
    assert scores["AP"] == pytest.approx(0.5)


def test_a_detection_on_a_crowd_or_a_difficult_box_is_neither_right_nor_wrong():
    cat = Box("a", 100, 100, 150, 150)
    hit = Box("a", 100, 100, 150, 150, score=0.5)
    inside, same = Box("a", 10, 10, 20, 20, score=0.9), Box("a", 0, 0, 60, 60, score=0.9)
    crowd, difficult, plain = (
        Box("a", 0, 0, 60, 60, crowd=c, difficult=d) for c, d in ((True, False), (False, True), (False, False))
    )
    assert _score([((cat, crowd), (hit, inside, same, same))])["AP"] == pytest.approx(1)  # however many
    assert _score([((cat, difficult), (hit, same))])["AP"] == pytest.approx(1)
    assert _score([((cat, difficult), (hit,))])["AR100"] == pytest.approx(1)  # not missed
    assert _score([((cat, difficult), (hit, inside))])["AP"] == pytest.approx(0.5)  # not a crowd's overlap
    assert _score([((cat, plain), (hit,))])["AR100"] == pytest.approx(0.5)


def test_size_classes_go_by_the_annotated_area():
    truth, found = Box("a", 0, 0, 200, 200, area=500.0), Box("a", 0, 0, 200, 200, score=1)
    scores = _score([((truth,), (found,))])
    assert (scores["APs"], scores["APl"]) == (pytest.approx(1), -1)


@pytest.mark.parametrize("seed", range(12))
def test_random_cases_against_a_naive_average_precision(seed):
    pairs = _random_pairs(random.Random(seed))
    scores = _score(pairs)
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    naive = {
        label: [_naive_ap(pairs, label, threshold) for threshold in thresholds] for label in sorted(_labels(pairs))
    }
    known = {label: [v for v in values if v is not None] for label, values in naive.items() if None not in values}
    for label, values in known.items():
        assert scores["per_class"][label]["AP"] == pytest.approx(sum(values) / 10, abs=1e-9), label
        assert scores["per_class"][label]["AP50"] == pytest.approx(values[0], abs=1e-9), label
    assert scores["AP"] == pytest.approx(sum(sum(values) / 10 for values in known.values()) / len(known), abs=1e-9)


def test_the_order_of_updates_and_merges_makes_no_difference():
    pairs = _random_pairs(random.Random(5), images=6)
    records = [
        (Record(f"r{index}", boxes=truth, image_id=(7, 70, 8, "x", None, 0)[index]), Prediction("", "", "", found))
        for index, (truth, found) in enumerate(pairs)
    ]
    seen = []
    for order in itertools.islice(itertools.permutations(records), 0, None, 97):
        states = [DetectionMetric(["b"]) for _ in range(3)]
        for index, (record, prediction) in enumerate(order):
            states[index % 3].update(record, prediction)
        first = pickle.loads(pickle.dumps(states[0]))
        first.merge(states[2])
        first.merge(states[1])
        first.merge(DetectionMetric())
        seen.append(first.compute())
    assert len(seen) == 8
    assert all(scores == seen[0] for scores in seen)
    assert 0 < seen[0]["AP"] < 1


def test_nothing_is_printed_and_nothing_given_is_changed(capsys):
    item = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]}
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": [item]}
    before = copy.deepcopy(truth)
    evaluate_coco(truth, [{**item, "score": 1}])
    assert truth == before
    assert capsys.readouterr() == ("", "")


def _json(file):
    return json.loads(file.read_text())


def _score(pairs):
    metric = DetectionMetric()
    for index, (truth, found) in enumerate(pairs):
        metric.update(Record(f"{index:03d}", boxes=truth), Prediction(f"{index:03d}", "", "", found))
    scores = metric.compute()
    assert all(scores[name] == -1 or 0 <= scores[name] <= 1 for name in NAMES)
    return scores


def _official(truth, results, iou_type):
    """The way pycocotools' own demonstration goes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        side = COCO()
        side.dataset = copy.deepcopy(truth)
        side.createIndex()
        evaluator = COCOeval(side, side.loadRes(copy.deepcopy(results)), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats)


def _labels(pairs):
    return {box.label for truth, _ in pairs for box in truth}


def _random_pairs(rng, images=4):
    """Few coordinates and few scores, so that ties of score and of overlap are common; some crowds and difficult."""

    def box(**more):
        x, y = rng.choice((0, 10, 20, 60)), rng.choice((0, 10, 50))
        return Box(rng.choice("ab"), x, y, x + rng.choice((10, 20, 24)), y + rng.choice((10, 20, 22)), **more)

    def truth():
        special = rng.random()
        return box(crowd=special < 0.15, difficult=0.15 <= special < 0.3)

    return [
        (
            tuple(truth() for _ in range(rng.randrange(6))),
            tuple(box(score=rng.choice((0.1, 0.5, 0.9))) for _ in range(rng.randrange(9))),
        )
        for _ in range(images)
    ]


def _naive_ap(pairs, label, threshold):
    """101-point interpolated average precision, written down as the COCO page defines it; None without truth."""
    ranked, total = [], 0
    for number, (truth, found) in enumerate(pairs):
        own = [box for box in truth if box.label == label]
        total += sum(not (box.crowd or box.difficult) for box in own)
        taken = set()
        candidates = sorted((box for box in found if box.label == label), key=lambda box: -box.score)
        for rank, candidate in enumerate(candidates):
            best, best_overlap = None, threshold
            for ignored in (False, True):  # an ignored region only takes what no real object takes
                for index, box in enumerate(own):
                    if (box.crowd or box.difficult) != ignored or (index in taken and not box.crowd):
                        continue
                    overlap = _overlap(candidate, box)
                    if overlap >= best_overlap:
                        best, best_overlap = index, overlap
                if best is not None:
                    break
            if best is not None:
                taken.add(best)
                if own[best].crowd or own[best].difficult:
                    continue
            ranked.append((-candidate.score, number, rank, best is not None))
    if total == 0:
        return None
    hits, curve = 0, []
    for count, (*_, hit) in enumerate(sorted(ranked), start=1):
        hits += hit
        curve.append((hits / total, hits / count))
    points = [step / 100 for step in range(101)]
    return sum(max((p for r, p in curve if r >= point - 1e-12), default=0) for point in points) / 101


def _overlap(a, b):
    """Intersection over union; over a crowd, intersection over the detection."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    inner = max(width, 0) * max(height, 0)
    own, other = a.width * a.height, b.width * b.height
    return inner / (own if b.crowd else own + other - inner)


def test_each_class_has_its_own_numbers_whatever_the_order_of_ids():
    truths = [{"image_id": 1, "category_id": n, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0} for n in (1, 2)]
    found = [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 81, "score": 1.0}]
    scores = coco_scores([{"id": 1}], [(2, "found"), (1, "missed")], truths, found, "bbox")
    assert {name: one["AP"] for name, one in scores["per_class"].items()} == {"found": pytest.approx(1), "missed": 0}


def test_the_numbers_of_a_class_count_a_hundred_detections():
    truth = [Box("a", 20 * n, 0, 20 * n + 10, 10) for n in range(20)]
    found = [Box("a", box.x0, 0, box.x1, 10, score=0.9 - 0.01 * n) for n, box in enumerate(truth)]
    scores = _score([(tuple(truth), tuple(found))])
    assert scores["AP"] == scores["per_class"]["a"]["AP"] == pytest.approx(1)
    assert scores["AR10"] == pytest.approx(0.5)
