"""What is shown and copied of an answer: filtered by score, in public forms, and never as HTML of the model's."""

import html.parser
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.mask import encode

from mmtune.demos.results import Shown, as_text, copied_text, heading_html, message_html, tokens_html
from mmtune.predicting import Answer, Held
from mmtune.records import Box, Mask, Prediction, Record
from mmtune.tasks.detection import Detection
from mmtune.tasks.ocr import OCR
from mmtune.tasks.segmentation import Segmentation

BOXES = (
    Box("cat", 1.0, 2.0, 5.0, 8.0, score=0.9),
    Box("dog", 0.0, 0.0, 4.0, 4.0, score=0.25),
    Box("cat", 3, 3, 6, 6, score=0.5),
)
RUNS = encode(np.asfortranarray(np.eye(10, dtype=np.uint8)))["counts"]
NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}{{constructor}}`\"'&amp;"


def shown(task=None, boxes=BOXES, masks=(), text="said", tokens=(), name="tiny"):
    record = Record("0", picture=Held(Image.new("RGB", (10, 10), "grey")), size=(10, 10))
    prediction = Prediction("0", "detect cat ; dog", text, boxes=tuple(boxes), masks=tuple(masks), tokens=tokens)
    return Shown(name, Answer(prediction, record, task or Detection(("cat", "dog"))), 12, 0.5, done=True)


def test_the_threshold_hides_what_scores_less():
    one = shown()
    assert [len(one.above(t).boxes) for t in (0.0, 0.25, 0.26, 0.5, 0.95)] == [3, 3, 2, 2, 0]
    assert np.asarray(one.drawn(0.95)).tolist() == np.asarray(Image.new("RGB", (10, 10), "grey")).tolist()
    assert np.asarray(one.drawn(0.0)).tolist() != np.asarray(one.drawn(0.95)).tolist()


def test_a_picture_that_is_being_served_is_never_written_again(tmp_path, monkeypatch):
    """Many ask for the same answer at once, and each download is whole."""
    monkeypatch.setattr("mmtune.demos.results.FILES", tmp_path)
    one = shown()
    first = one.saved()
    whole, node = Path(first).read_bytes(), Path(first).stat().st_ino
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(one.drawn()))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: one.saved(), range(64)))
    assert set(names) == {first}
    assert (Path(first).read_bytes(), Path(first).stat().st_ino) == (whole, node)
    assert one.saved(0.95) != first
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["answer.png"] * 2


def test_threads_that_write_one_picture_at_once_leave_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("mmtune.demos.results.FILES", tmp_path)
    one = shown()
    with ThreadPoolExecutor(8) as pool:
        (name,) = set(pool.map(lambda _: one.saved(), range(8)))
    assert np.array_equal(np.asarray(Image.open(name)), np.asarray(one.drawn()))
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1


def test_masks_go_with_their_boxes():
    masks = [Mask(box.label, (10, 10), RUNS, score=box.score) for box in BOXES]
    kept = shown(Segmentation(("cat", "dog")), masks=masks).above(0.4).prediction
    assert [mask.score for mask in kept.masks] == [box.score for box in kept.boxes] == [0.9, 0.5]


def test_coco_is_what_pycocotools_reads(tmp_path, capsys):
    from pycocotools.coco import COCO

    masks = [Mask(box.label, (10, 10), RUNS, score=box.score) for box in BOXES]
    file = tmp_path / "a.json"
    file.write_text(copied_text((shown(Segmentation(("cat", "dog")), masks=masks),), "COCO"))
    coco = COCO(str(file))
    capsys.readouterr()
    names = {item["id"]: item["name"] for item in coco.loadCats(coco.getCatIds())}
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [(names[a["category_id"]], a["bbox"], a["score"]) for a in found] == [
        ("cat", [1, 2, 4, 6], 0.9),
        ("dog", [0, 0, 4, 4], 0.25),
        ("cat", [3, 3, 3, 3], 0.5),
    ]
    assert coco.annToMask(found[0]).tolist() == np.eye(10).tolist()


def test_a_text_is_copied_as_a_caption():
    value = json.loads(copied_text((shown(OCR(), boxes=(), text="two\nlines"),), "COCO"))
    assert value["annotations"] == [{"id": 1, "image_id": 1, "caption": "two\nlines"}]


def test_json_is_that_of_predict_and_several_models_are_told_apart():
    one, other = shown(), shown(name="runs/a")
    (item,) = json.loads(copied_text((one,), "JSON"))
    assert item == {"model": "tiny", **json.loads(json.dumps(one.answer.as_json()))}
    assert [item["model"] for item in json.loads(copied_text((one, other), "JSON"))] == ["tiny", "runs/a"]
    assert copied_text((one, other), "Text").startswith("tiny:\ncat 0.900 (1.0, 2.0) to (5.0, 8.0)\n")
    assert copied_text((), "JSON") == ""
    assert as_text(shown(boxes=()).answer) == "said"


class Tags(html.parser.HTMLParser):
    """The tags of a page and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


def test_what_a_model_writes_is_text():
    tokens = [(NASTY, -0.01), ("<b>", -3.0)]
    page = Tags(tokens_html(shown(tokens=tokens).answer.prediction))
    assert page.tags == {"p", "span"}
    assert page.attributes == {"class", "title"}
    assert page.text == NASTY + "<b>"


@pytest.mark.parametrize("write", [message_html, lambda text: heading_html(shown(name=text))])
def test_so_is_what_a_visitor_writes(write):
    page = Tags(write(NASTY))
    assert page.tags <= {"p", "h3"}
    assert NASTY in page.text
    for sign in ("${", "{{", "`"):  # the framework's templates
        assert sign not in write(NASTY)


def test_confidence_is_shaded_by_probability():
    tokens = [
        ("a", np.log(0.1)),
        ("b", np.log(0.5)),
        ("c", np.log(0.7)),
        ("d", np.log(0.9)),
        ("e", np.log(0.99)),
        ("f", 0.0),
        ("<loc0010>", np.log(0.1)),
    ]
    page = tokens_html(shown(tokens=tokens).answer.prediction)
    levels = [page[: page.index(f">{html.escape(text)}</span>")].rsplit("level-")[-1][0] for text, _ in tokens]
    assert levels == ["0", "1", "2", "3", "4", "4", "4"]
    assert "10%" in page
    assert "nothing was written" in tokens_html(shown().answer.prediction)
