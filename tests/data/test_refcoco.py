"""Referring expressions beside a COCO file."""

import json
import pickle

import pytest
from annotation_files import coco_box, coco_file, photo

from mmtune.codecs.boxes import UNNAMED
from mmtune.data.read import read
from mmtune.errors import DataError, UsageError

SQUARE = [[10, 20, 40, 20, 40, 60, 10, 60]]


class Harmful:
    """What a pickle that runs code holds."""

    def __reduce__(self):
        return (print, ("this must not run",))


def ref(**more):
    sentences = [{"sent": "left cat", "sent_id": 3}, {"raw": "The cat.", "sent_id": 4}]
    return {"ref_id": 5, "ann_id": 7, "image_id": 1, "split": "train", "sentences": sentences} | more


@pytest.fixture
def folder(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    coco_file(tmp_path / "instances.json", [coco_box(segmentation=SQUARE, area=1200)])
    return tmp_path


def write(folder, refs, form="json"):
    if form == "json":
        (folder / "refs(unc).json").write_text(json.dumps(refs))
    else:
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=int(form)))
    return folder


@pytest.mark.parametrize("form", ["json", "0", "2", "4"])
def test_each_sentence_is_a_record(folder, form):
    data = read(write(folder, [ref(), ref(ref_id=6, split="val")], form), task="segmentation")
    assert (data.format, data.classes, data.faults) == ("refcoco", (UNNAMED,), ())
    assert [(record.id, record.prefix) for record in data] == [
        ("5-3", "left cat"),
        ("5-4", "The cat."),
        ("6-3", "left cat"),
        ("6-4", "The cat."),
    ]
    record = data[0]
    assert record.size == (100, 80)
    assert record.image_id == 1
    (box,), (mask,) = record.boxes, record.masks
    assert (box.x0, box.y0, box.x1, box.y1, box.area, box.label) == (10, 20, 40, 60, 1200, UNNAMED)
    assert (mask.label, mask.size) == (UNNAMED, (80, 100))
    assert [record.id for record in read(f"{folder}:val", task="segmentation")] == ["6-3", "6-4"]
    assert not read(folder, task="detection")[0].masks


def test_unknown_split(folder):
    with pytest.raises(UsageError, match="unknown split 'tset': did you mean 'test'"):
        read(f"{write(folder, [ref(split='test')])}:tset", task="segmentation")


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        pytest.param(ref(ann_id=8), "unknown object", id="no such annotation"),
        pytest.param(ref(image_id=8), "unknown object", id="no such picture"),
        pytest.param(ref(sentences=[{"sent": " "}]), "no sentence", id="empty sentence"),
        pytest.param(ref(sentences=["left"]), "no sentence", id="odd sentence"),
    ],
)
def test_faults_are_named_and_the_rest_is_used(folder, bad, kind):
    data = read(write(folder, [bad, ref(ref_id=9)]), task="segmentation")
    assert [fault.kind for fault in data.faults] == [kind]
    assert [record.id for record in data] == ["9-3", "9-4"]


def test_absent_picture(folder):
    (folder / "images" / "a.jpg").unlink()
    write(folder, [ref()])
    with pytest.raises(DataError, match="missing picture"):
        read(folder, task="segmentation")
    assert len(read(folder, task="segmentation", need_pictures=False)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(pickle.dumps([Harmful()]), "builtins.print, not only plain values", id="code"),
        pytest.param(b"nothing", "cannot be read as a pickled list", id="no pickle"),
        pytest.param(pickle.dumps({"a": 1}), "expected a list of references", id="no list"),
    ],
)
def test_other_files(folder, content, words, capsys):
    (folder / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(folder, task="segmentation", format="refcoco")
    assert "must not run" not in capsys.readouterr().out
