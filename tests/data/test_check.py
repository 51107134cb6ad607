"""The data check against data sets whose faults are known."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.data.images import BytesPicture, FilePicture
from mmtune.records import Box, Fault, Mask, Output, Prediction, Query, Record, Span
from mmtune.task import Task
from mmtune.tasks.detection import Detection


@dataclass(frozen=True)
class Drawn:
    """A picture that no file holds."""

    name: str = "scene"

    def open(self):
        return Image.new("RGB", (30, 20), "white")


class Captioning(Task):
    """The least a task without boxes can be; what it draws is the plain picture."""

    name = "captioning-in-test"
    headline = "x"
    Options = dict

    def queries(self, record):  # noqa: ARG002
        return (Query("cap en"),)

    def targets(self, record, query, rng=None):  # noqa: ARG002
        return [(Span(text),) for text in record.texts]

    def parse(self, record, answers):
        return Prediction(record.id, "", answers[0][1].text)

    def metric(self):
        raise NotImplementedError

    def max_tokens(self, records, tokenizer):
        raise NotImplementedError


def _picture(folder, name, mode="RGB", size=(40, 30)):
    file = folder / name
    Image.new(mode, size, 200).save(file) if mode in ("L", "P") else Image.new(mode, size, "grey").save(file)
    return FilePicture(file)


@pytest.fixture
def data(tmp_path):
    broken = tmp_path / "broken.jpg"
    Image.effect_noise((64, 64), 50).save(broken)
    broken.write_bytes(broken.read_bytes()[:600])
    cat, dog = Box("cat", 4, 3, 20, 15), Box("dog", 10, 10, 40, 30, difficult=True)
    records = (
        Record("grey", _picture(tmp_path, "grey.png", "L"), (40, 30), boxes=(cat, dog), source="a.json"),
        Record("palette", _picture(tmp_path, "palette.png", "P"), None, boxes=(cat,), source="a.json"),
        Record("broken", FilePicture(broken), (64, 64), boxes=(cat,), source="a.json"),
        Record(
            "other size", _picture(tmp_path, "big.png", size=(80, 30)), (40, 30), boxes=(cat, cat), source="a.json:7"
        ),
        Record("odd label", Drawn(), (30, 20), boxes=(Box("cow", 1, 1, 5, 5, crowd=True), Box("a\nb", 1, 1, 5, 5))),
        Record("no picture", None, (9, 9), masks=(Mask("cat", (9, 9), b""),), texts=("a", "b")),
    )
    return Dataset(records, ("dog", "cat", "bird"), (Fault("a.json", None, "box without area", "x"),), "coco", "mine")


def test_everything_is_counted(data):
    report = check(data, Detection(data.classes))
    assert (report.records, report.pictures, report.usable) == (6, 4, 3)
    assert report.boxes == {"dog": 1, "cat": 5, "bird": 0, "a\nb": 1, "cow": 1}
    assert list(report.boxes) == ["dog", "cat", "bird", "a\nb", "cow"]
    assert (report.crowd, report.difficult, report.masks, report.texts) == (1, 1, 1, 2)
    assert report.boxes_per_picture == ((0, 1), (1, 2), (2, 3))
    assert report.sizes == ((40, 30, 2), (80, 30, 1), (30, 20, 1))
    assert report.modes == {"L": 1, "P": 1, "RGB": 1, "generated": 1}


def test_every_fault_has_its_file_and_record(data):
    report = check(data, Detection(data.classes))
    found = [(fault.kind, fault.file.rpartition("/")[2], fault.record) for fault in report.faults]
    assert found == [
        ("box without area", "a.json", None),
        ("undecodable picture", "broken.jpg", "broken"),
        ("size disagrees", "a.json:7", "other size"),
        ("unusable for detection", "scene", "odd label"),
        ("unusable for detection", "", "no picture"),
    ]
    assert "expected a picture of 40 x 30 pixels, as annotated, found 80 x 30" in report.faults[2].problem
    assert r"control character '\n'" in report.faults[3].problem
    assert "expected a picture, which the task detection needs" in report.faults[4].problem
    assert report.fault_counts["unusable for detection"] == 2


def test_report_as_json_and_as_lines(data, tmp_path):
    report = check(data, Detection(data.classes), tmp_path / "out")
    content = json.loads(json.dumps(report.as_json()))
    assert content["classes"] == report.boxes
    assert content["boxes"] == {"total": 8, "crowd": 1, "difficult": 1}
    assert content["faults"][0] == {"file": "a.json", "record": None, "kind": "box without area", "problem": "x"}
    assert content["overlays"] == [str(file) for file in report.overlays]
    text = "\n".join(report.lines())
    for words in (
        "mine: 6 records (coco), 4 pictures decoded, 3 usable for detection",
        "8 boxes (1 crowd, 1 difficult) of 5 classes\n  dog: 1\n  cat: 5\n  bird: 0",
        "boxes per picture: 0 to 2, median 1.5",
        "sizes: 40x30: 2, 80x30: 1, 30x20: 1\nmodes: L: 1,",
        "5 faults: 2 unusable for detection, 1 box without area",
        "size disagrees: a.json:7 [other size]: expected",
    ):
        assert words in text


def test_overlays_show_the_decoded_target_and_nothing_half_written(tmp_path):
    box = Box("cat", 20, 30, 70, 80)
    records = tuple(Record(str(index), Drawn(), (100, 100), boxes=(box,)) for index in range(21))
    blank = Image.new("RGB", (100, 100), "white")
    report = check(_with(records, blank), Detection(["cat"]), tmp_path)
    names = [*(f"overlay_{number}.png" for number in range(1, 9)), "overlays.png"]
    assert [file.name for file in report.overlays] == names
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    drawn = np.asarray(Image.open(report.overlays[0]).convert("RGB"), int)
    changed = np.argwhere(np.abs(drawn - 255).sum(axis=2) > 0)
    edges = changed[changed[:, 0] >= 30]  # the label's plate lies above the box
    assert (edges.min(axis=0).tolist(), edges.max(axis=0).tolist()) == ([30, 20], [79, 69])
    sheet = Image.open(report.overlays[-1])
    assert sheet.width > 4 * 100
    report = check(_with(records[:2], blank), Detection(["cat"]), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["overlay_1.png", "overlay_2.png", "overlays.png"]


def _with(records, image):
    class Still(Drawn):
        def open(self):
            return image.copy()

    return Dataset(tuple(Record(r.id, Still(), r.size, boxes=r.boxes) for r in records), ("cat",))


def test_a_task_without_boxes_shows_picture_and_text(tmp_path):
    report = check(Dataset((Record("1", Drawn(), texts=("a long caption " * 40, "b")),)), Captioning(), tmp_path)
    assert (report.usable, report.texts, report.boxes) == (1, 2, {})
    assert Image.open(report.overlays[0]).size == (30, 20)
    assert not report.faults


def test_a_target_that_cannot_be_read_back_is_a_fault(tmp_path):
    class Mumbling(Captioning):
        def parse(self, record, answers):  # noqa: ARG002
            return Prediction(record.id, "", "mm", invalid=2)

    report = check(Dataset((Record("1", Drawn(), texts=("a",)),)), Mumbling(), tmp_path)
    assert [(fault.kind, fault.record) for fault in report.faults] == [("target not readable", "1")]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_progress_and_small_data_sets(tmp_path, count):
    seen = []
    encoded = (tmp_path / "x.png", Image.new("RGB", (3, 3)).save(tmp_path / "x.png"))[0].read_bytes()
    records = tuple(Record(str(index), BytesPicture(encoded, "x")) for index in range(count))
    report = check(Dataset(records), out=tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, count) for done in range(1, count + 1)]
    assert (report.pictures, report.usable, report.overlays) == (count, count, ())
    assert report.lines()[-1] == "no faults"
    assert not (tmp_path / "out").exists()


def test_real_photos(shared_data, tmp_path):
    from mmtune.data.read import read

    data = read(str(shared_data / "bccd:train"), task="detection")
    report = check(data, Detection(data.classes), tmp_path)
    assert report.records == report.pictures == report.usable == len(data) > 100
    assert report.sizes == ((640, 480, report.records),)
    assert len(report.overlays) == 9


def test_ceiling_is_what_the_targets_themselves_score():
    """One disc of known codes: the report holds the overlap of the truth with what its sixteen codes decode to."""
    from mmtune.codecs.mask_files import load_codec
    from mmtune.codecs.mask_runs import mask_pixels, pasted_counts
    from mmtune.tasks.segmentation import Segmentation

    rows, columns = np.mgrid[:20, :30]
    disc = (rows - 10) ** 2 + (columns - 14) ** 2 < 70
    masks = (Mask("cat", (20, 30), pasted_counts(disc, (0, 0), (30, 20))),)
    record = Record("r", Drawn(), (30, 20), masks=masks)
    report = check(Dataset((record,), ("cat",), (), "", "mine"), task := Segmentation(("cat",)))
    (query,) = task.queries(record)
    text = "".join(span.text for target in task.targets(record, query) for span in target)
    (found,) = task.parse(record, [(query, Output(text))]).masks
    both, either = disc & mask_pixels(found), disc | mask_pixels(found)
    assert report.ceiling["mIoU"] == pytest.approx(both.sum() / either.sum())
    assert 0.9 < report.ceiling["mIoU"] < 1
    assert report.as_json()["ceiling"]["codec_id"] == f"small {load_codec().fingerprint}"
    assert f"read back, score mIoU {report.ceiling['mIoU']:.4f}, AP " in "\n".join(report.lines())


def test_tasks_that_lose_nothing_have_no_ceiling(data):
    report = check(data, Detection(data.classes))
    assert report.as_json()["ceiling"] is None
    assert "ceiling" not in "\n".join(report.lines())
