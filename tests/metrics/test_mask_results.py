"""Result files with masks: forms, and what cannot be used."""

import json

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.metrics.mask_results import score_segmentation

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
RUNS = {"size": [80, 100], "counts": [80 * 10 + 10, 20] + [60, 20] * 19 + [80 * 70 + 50]}


@pytest.fixture
def truth(tmp_path):
    file = tmp_path / "instances.json"
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "segmentation": SQUARE}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [annotation],
    }
    file.write_text(json.dumps(content))
    return file


def result(**more):
    return {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": RUNS} | more


def score(truth, content, form=None):
    file = truth.parent / "results.json"
    file.write_text(json.dumps(content))
    log = FaultLog()
    return score_segmentation(truth, file, form, log), log.faults


def own(**more):
    box = {"label": "cat", "score": 0.5, "box": [10, 10, 30, 30]}
    return [{"record": "a.jpg", "text": "", "invalid": 2, "boxes": [box], "masks": [box | {"rle": RUNS}]} | more]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([result()], id="COCO results"),
        pytest.param([result(bbox=[10, 10, 20, 20])], id="COCO results with boxes"),
        pytest.param([result(segmentation=SQUARE)], id="polygons"),
        pytest.param(
            {
                "images": [{"id": 0, "file_name": "a.jpg"}],
                "categories": [{"id": 0, "name": "cat"}],
                "annotations": [result(image_id=0, category_id=0)],
            },
            id="COCO dict with its own ids",
        ),
        pytest.param(own(), id="predictions of mmtune"),
    ],
)
def test_forms(truth, content):
    found, faults = score(truth, content)
    assert (found["task"], found["n"]) == ("segmentation", 1)
    assert [found["metrics"][name] for name in ("AP", "mIoU", "boxacc50", "boxacc75")] == pytest.approx([1] * 4)
    assert found["invalid"] == (2 if "record" in str(content) else 0)
    assert not faults


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param([result(), result(segmentation=None)], "no geometry", id="COCO without mask"),
        pytest.param([result(), result(image_id=7)], "unknown image", id="COCO of another picture"),
        pytest.param(own() + own(masks=[]), "no mask", id="ours without mask"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_counts(truth, content, kind):
    found, faults = score(truth, content)
    assert [fault.kind for fault in faults] == [kind]
    assert found["metrics"]["AP"] == pytest.approx(1)
    assert found["invalid"] == (5 if kind == "no mask" else 1)


def test_files_that_cannot_be_used_at_all(truth):
    with pytest.raises(DataError, match="no detection could be used"):
        score(truth, [result(segmentation=None, image_id=9)])
    with pytest.raises(UsageError, match="unknown format"):
        score(truth, [result()], form="cocoa")
    content = json.loads(truth.read_text())
    del content["annotations"][0]["segmentation"]
    truth.write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected masks"):
        score(truth, [result()])
