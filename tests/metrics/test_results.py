"""Prediction files in all their forms against truth in all its formats."""

import contextlib
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.metrics.coco import NAMES
from mmtune.metrics.detection import DetectionMetric
from mmtune.metrics.results import read_detections, score_detection
from mmtune.records import Box, Prediction, Record

TRUTH = Dataset(
    (
        Record(
            "a.jpg", size=(200, 100), image_id=7, boxes=(Box("cat", 10, 20, 60, 80), Box("red dog", 100, 0, 200, 90))
        ),
        Record("sub/b.png", size=(50, 50), image_id="8", boxes=(Box("red dog", 0, 0, 50, 50),)),
        Record("c", size=(50, 50)),
    ),
    classes=("red dog", "cat"),
)
BOXES = {
    "a.jpg": (Box("cat", 10, 20, 60, 80, score=0.5), Box("red dog", 100, 0, 200, 90, score=0.25)),
    "sub/b.png": (Box("red dog", 0, 0, 50, 50, score=1),),
}


def _write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _coco_item(image, category, box, score):
    x0, y0, x1, y1 = box
    return {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}


_A, _DOG, _B = (10, 20, 60, 80), (100, 0, 200, 90), (0, 0, 50, 50)
FOLDERS = {
    "names, corner and size": {
        "a.txt": "cat .5 10 20 50 60\nred dog .25 100 0 100 90\n",
        "b.txt": "red dog 1 0 0 50 50",
    },
    "names, two corners": {"a.txt": "cat .5 10 20 60 80\n\nred dog .25 100 0 200 90\n", "b.txt": "red dog 1 0 0 50 50"},
    "names, fractions": {"a.txt": "cat .5 .175 .5 .25 .6\nred dog .25 .75 .45 .5 .9", "b.txt": "red dog 1 .5 .5 1 1"},
    "numbers in the truth's order": {"a.txt": "1 .5 10 20 60 80\n0 .25 100 0 200 90\n", "b.txt": "0 1 0 0 50 50"},
    "numbers in alphabetical order": {"a.txt": "0 .5 10 20 60 80\n1 .25 100 0 200 90\n", "b.txt": "1 1 0 0 50 50"},
    "a list of names lies there": {
        "a.txt": "2 .5 10 20 60 80\n0 .25 100 0 200 90\n",
        "b.txt": "0 1 0 0 50 50",
        "classes.txt": "red dog\nbird\ncat\n",
    },
}
OWN = [
    {"record": "a.jpg", "boxes": [{"label": box.label, "score": box.score, "box": [box.x0, box.y0, box.x1, box.y1]}
                                  for box in BOXES["a.jpg"]]},
    {"image": "/elsewhere/b.png", "boxes": [{"label": "red dog", "score": 1, "box": [0, 0, 50, 50]}]},
]  # fmt: skip
LIST = [_coco_item("7", 2, _A, 0.5), _coco_item(7.0, 1, _DOG, 0.25), _coco_item(8, 1, _B, 1)]
DICT = {
    "images": [{"id": 0, "file_name": "sub/b.png"}, {"id": 1, "file_name": "a.jpg"}],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "red dog"}],
    "annotations": [_coco_item(1, 0, _A, 0.5), _coco_item(1, 1, _DOG, 0.25), _coco_item(0, 1, _B, 1)],
}
ZERO_BASED = [{**item, "category_id": item["category_id"] - 1} for item in LIST]


@pytest.mark.parametrize("form", FOLDERS)
def test_folders_of_text(tmp_path, form):
    _expect(read_detections(_write(tmp_path / "dets", FOLDERS[form]), TRUTH))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", "\n".join(json.dumps(item) for item in OWN) + "\n"),
        ("p.json", json.dumps(OWN)),
        ("p.json", json.dumps(LIST)),
        ("p.json", json.dumps(DICT)),
        ("p.json", json.dumps(ZERO_BASED)),
    ],
    ids=["own lines", "own list", "COCO results", "COCO dict", "COCO results counted from 0"],
)
def test_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    _expect(read_detections(tmp_path / name, TRUTH))


def _expect(predictions):
    assert [item.record for item in predictions] == list(BOXES)
    for item in predictions:
        for box, expected in zip(item.boxes, BOXES[item.record], strict=True):
            assert (box.label, box.score) == (expected.label, expected.score)
            edges = (box.x0, box.y0, box.x1, box.y1)
            assert edges == pytest.approx((expected.x0, expected.y0, expected.x1, expected.y1))


def test_a_results_list_takes_the_categories_of_the_truths_own_file(tmp_path):
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"categories": [{"id": 30, "name": "red dog"}, {"id": "4", "name": "cat"}]}))
    results = tmp_path / "results.json"
    results.write_text(
        json.dumps([_coco_item(7, 4, _A, 0.5), _coco_item(7, 30, _DOG, 0.25), _coco_item("8", 30, _B, 1)])
    )
    records = tuple(Record(r.id, size=r.size, image_id=r.image_id, source=str(file)) for r in TRUTH)
    _expect(read_detections(results, Dataset(records, TRUTH.classes, format="coco")))


def test_masks_alone_give_boxes(tmp_path):
    masks = pytest.importorskip("pycocotools.mask")
    rle = masks.frPyObjects([[10, 20, 60, 20, 60, 80, 10, 80]], 100, 200)[0]
    item = {"image_id": 7, "category_id": 2, "score": 0.5}
    item["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    (tmp_path / "r.json").write_text(json.dumps([item]))
    (found,) = read_detections(tmp_path / "r.json", TRUTH)
    assert found.boxes == (Box("cat", 10, 20, 60, 80, score=0.5),)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("cat .5 10 20", "malformed line"),
        ("cat .5 10 20 50 wide", "malformed line"),
        ("cat .5 10 20 nan 60", "malformed line"),
        ("cat 10 20 50 60", "no score"),
        ("red dog 10 20 50 60", "no score"),
        ("cow .5 10 20 50 60", "unknown class"),
        ("9 .5 10 20 50 60", "unknown class"),
        ("cat .5 10 20 -50 60", "box of negative size"),
    ],
)
def test_a_faulty_line_is_logged_with_its_place_and_the_rest_used(tmp_path, line, kind):
    log = FaultLog()
    folder = _write(tmp_path, {"a.txt": f"cat .5 10 20 50 60\n{line}\n"})
    (found,) = read_detections(folder, TRUTH, "abs_xywh", log)
    assert len(found.boxes) == 1
    assert [(fault.file, fault.kind) for fault in log.faults] == [(f"{folder / 'a.txt'}:2", kind)]


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("text", "malformed line"),
        ({"record": "a.jpg"}, "malformed line"),
        ({"record": ["a.jpg"], "boxes": []}, "malformed line"),
        ({"record": "a.jpg", "boxes": [{"label": "cat", "score": 0.5, "box": [1, 2, 3]}]}, "malformed line"),
        ({"record": "a.jpg", "boxes": [{"label": "cat", "box": [1, 2, 3, 4]}]}, "no score"),
        ({"record": "a.jpg", "boxes": [{"label": "cow", "score": 0.5, "box": [1, 2, 3, 4]}]}, "unknown class"),
        ({"record": "z.jpg", "boxes": [{"label": "cat", "score": 0.5, "box": [1, 2, 3, 4]}]}, "unknown image"),
    ],
)
def test_a_faulty_line_of_our_own(tmp_path, item, kind):
    log, file = FaultLog(), tmp_path / "p.jsonl"
    file.write_text(f"{json.dumps(OWN[0])}\n{json.dumps(item)}\n")
    (found,) = read_detections(file, TRUTH, None, log)
    assert len(found.boxes) == 2
    assert [fault.kind for fault in log.faults] == [kind]
    assert log.faults[0].file.startswith(f"{file}:2")


def test_broken_json_in_one_line_leaves_the_others(tmp_path):
    log, file = FaultLog(), tmp_path / "p.jsonl"
    file.write_text(json.dumps(OWN[0]) + '\n{"record": "a.jpg", \n')
    assert len(read_detections(file, TRUTH, None, log)) == 1
    assert [(fault.file, fault.kind) for fault in log.faults] == [(f"{file}:2", "malformed line")]


def test_what_was_guessed_is_said(tmp_path):
    log = FaultLog()
    read_detections(_write(tmp_path, FOLDERS["numbers in alphabetical order"]), TRUTH, None, log)
    assert [fault.kind for fault in log.faults] == ["class list guessed"]
    assert "alphabetical order, counted from 0 was taken, as it agrees with 3 of 3" in log.faults[0].problem
    log = FaultLog()
    read_detections(_write(tmp_path / "one", {"a.txt": "cat .5 10 20 60 80"}), TRUTH, None, log)
    assert [fault.kind for fault in log.faults] == ["form guessed"]


def test_two_pictures_of_one_name_are_not_confused(tmp_path):
    log = FaultLog()
    truth = Dataset(tuple(Record(f"{split}/1.jpg", size=(9, 9)) for split in ("train", "val")), ("cat",))
    boxes = [{"label": "cat", "score": 1, "box": [1, 2, 3, 4]}]
    lines = [{"record": name, "boxes": boxes} for name in ("1.jpg", "val/1.jpg")]
    (tmp_path / "p.json").write_text(json.dumps(lines))
    (found,) = read_detections(tmp_path / "p.json", truth, None, log)
    assert (found.record, len(found.boxes)) == ("val/1.jpg", 1)
    assert [(fault.kind, fault.record) for fault in log.faults] == [("unknown image", "1.jpg")]


def test_invalid_parts_of_the_models_text_are_kept_and_empty_answers_are_answers(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"record": "c", "boxes": [], "invalid": 3}]))
    (found,) = read_detections(tmp_path / "p.json", TRUTH)
    assert (found.record, found.boxes, found.invalid) == ("c", (), 3)


@pytest.mark.parametrize(
    ("name", "content", "form", "words"),
    [
        ("absent.json", None, None, "there is no such file"),
        ("p.json", "[1,\n2", None, r"p\.json:2: expected JSON"),
        ("p.json", "{}", None, "found dict without annotations"),
        (
            "p.json",
            json.dumps([{"image_id": 99, "category_id": 1, "bbox": _A, "score": 1}]),
            None,
            "no detection could",
        ),
        ("p.jsonl", "\n", None, "no usable line"),
        ("p.json", "[]", "rel_xywh", "expected a folder of text files"),
    ],
)
def test_useless_files_are_refused_in_one_sentence(tmp_path, name, content, form, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        read_detections(tmp_path / name, TRUTH, form)


def test_useless_folders_and_formats_are_refused(tmp_path):
    with pytest.raises(DataError, match="without text files"):
        read_detections(tmp_path, TRUTH)
    with pytest.raises(DataError, match="found a folder"):
        read_detections(tmp_path, TRUTH, "coco")
    with pytest.raises(UsageError, match="did you mean 'abs_xywh'"):
        read_detections(tmp_path, TRUTH, "abs_xywhh")


TRUTHS = (
    "pascalvoc_format?origin=0",  # the detections, and the other forms of the truth, have its coordinates as written
    "yolo_format",
    "coco_format_v1/instances_default.json",
    "coco_format_v2/instances_v2.json",
)
FORMS = ("abs_xywh", "abs_xyx2y2", "rel_xywh", "coco_format/coco_dets.json")


@pytest.fixture(scope="module")
def real_scores(shared_data):
    folder = shared_data / "voc_yolo_coco"
    return {
        (truth, form): score_detection(folder / truth, folder / "detections" / form)
        for truth in TRUTHS
        for form in FORMS
    }


def test_real_files_score_alike_in_every_form(real_scores):
    for truth in TRUTHS:
        exact = real_scores[truth, "coco_format/coco_dets.json"]["metrics"]
        for form in FORMS:
            scores = real_scores[truth, form]
            assert (scores["task"], scores["n"], scores["invalid"]) == ("detection", 100, 0)
            for name in NAMES:
                # Fractions of six digits move a box by less than 0.001 pixels, which lets a few overlaps that lie on a
                # threshold change sides: one of 60 small objects at one of ten thresholds is 0.0017 of recall.
                limit = 0.0025 if form == "rel_xywh" or truth == "yolo_format" else 1e-5
                assert scores["metrics"][name] == pytest.approx(exact[name], abs=limit), (truth, form, name)


def test_real_truth_scores_alike_in_every_format(real_scores):
    voc, yolo, first, second = (_numbers(real_scores[truth, "coco_format/coco_dets.json"]) for truth in TRUTHS)
    assert first == pytest.approx(second, abs=1e-12)
    assert first == pytest.approx(yolo, abs=0.0025)  # its fractions have six digits
    # Only Pascal VOC says that 38 of the 273 boxes are difficult, which are then ignored.
    assert first[0] == pytest.approx(0.346958, abs=1e-6)
    assert voc[0] == pytest.approx(0.354489, abs=1e-6)


def test_real_difficult_boxes_are_all_that_sets_pascal_voc_apart(shared_data):
    from mmtune.data.read import read

    folder = shared_data / "voc_yolo_coco"
    data = read(str(folder / TRUTHS[0]), task="detection", need_pictures=False)
    metric = DetectionMetric(data.classes)
    found = {item.record: item for item in read_detections(folder / "detections" / FORMS[3], data)}
    for record in data:
        plain = replace(record, boxes=tuple(replace(box, difficult=False) for box in record.boxes))
        metric.update(plain, found.get(record.id) or Prediction(record.id, "", ""))
    official = _official_voc(folder)
    assert [metric.compute()[name] for name in NAMES] == pytest.approx(official, abs=1e-12)


def _official_voc(folder):
    """The 12 numbers by pycocotools alone, after its ids were made to fit by hand."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = json.loads((folder / "detections" / FORMS[3]).read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO(str(folder / TRUTHS[3]))
        images = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
        categories = {category["name"]: category["id"] for category in truth.dataset["categories"]}
        files = {image["id"]: image["file_name"] for image in found["images"]}
        names = {category["id"]: category["name"] for category in found["categories"]}
        results = [
            {
                "image_id": images[files[item["image_id"]]],
                "category_id": categories[names[item["category_id"]]],
                "bbox": item["bbox"],
                "score": item["score"],
            }
            for item in found["annotations"]
        ]
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats)


@pytest.mark.parametrize("form", [None, "jsonl"], ids=["files as they are", "through records"])
def test_gold_files_by_either_way(shared_data, tmp_path, form):
    truth = shared_data / "gold" / "coco_map" / "instances_val2014_100.json"
    results = truth.parent / "instances_val2014_fakebbox100_results.json"
    if form == "jsonl":
        categories = {item["id"]: item["name"] for item in json.loads(truth.read_text())["categories"]}
        lines: dict[int, dict] = {}
        for item in json.loads(results.read_text()):
            x, y, width, height = item["bbox"]
            line = lines.setdefault(item["image_id"], {"record": str(item["image_id"]), "boxes": []})
            edges = [x, y, x + width, y + height]
            line["boxes"].append({"label": categories[item["category_id"]], "score": item["score"], "box": edges})
        results = tmp_path / "predictions.jsonl"
        results.write_text("\n".join(json.dumps(line) for line in lines.values()))
    scores = score_detection(truth, results, form)
    assert (scores["task"], scores["n"], scores["invalid"]) == ("detection", 100, 0)
    # Published with the files; see SOURCE.txt beside them.
    assert _numbers(scores) == pytest.approx(
        [0.5045806987, 0.6969727247, 0.5729816670, 0.5856257209, 0.5193996948, 0.5013978986,
         0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983], abs=1e-6)  # fmt: skip


def test_official_files_count_and_refuse_what_cannot_be_used(tmp_path):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    content = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1, "name": "cat"}], "annotations": [annotation]}
    truth.write_text(json.dumps(content))
    good, bad = {**annotation, "score": 0.5}, {**annotation, "score": 0.5, "image_id": 3}
    log = FaultLog()
    results.write_text(json.dumps([bad, good]))
    scores = score_detection(truth, results, log=log)
    assert (scores["n"], scores["invalid"], scores["metrics"]["AP"]) == (2, 1, pytest.approx(1))
    assert [(fault.file, fault.kind) for fault in log.faults] == [(f"{results}, item 0", "unknown image")]
    results.write_text(json.dumps([bad]))
    with pytest.raises(DataError, match=r"results\.json, item 0: no detection could be used"):
        score_detection(truth, results)


def _numbers(scores):
    return [scores["metrics"][name] for name in NAMES]


def test_a_folder_with_one_json_file_is_that_file(shared_data):
    folder = shared_data / "voc_yolo_coco"
    truth = folder / "coco_format_v2" / "instances_v2.json"
    whole = score_detection(truth, folder / "detections" / "coco_format")
    assert whole == score_detection(truth, folder / "detections" / "coco_format" / "coco_dets.json")
