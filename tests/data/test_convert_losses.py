"""What a format does not hold is said, and JSON lines keep what scores depend on."""

import json
from pathlib import Path

import pytest
from annotation_files import photo

from mmtune.codecs.boxes import UNNAMED
from mmtune.data.convert import convert
from mmtune.data.dataset import Dataset
from mmtune.data.images import FilePicture
from mmtune.data.read import read
from mmtune.records import Box, Mask, Question, Record, Turn

SIZE = (100, 80)
BOX = Box("cat", 10, 20, 40, 60)
MASK = Mask("cat", (80, 100), b"PPP1")
CODES = "<loc0256><loc0102><loc0768><loc0410>" + "".join(f"<seg{code:03d}>" for code in range(16)) + " cat"


def data(tmp_path: Path, **changes) -> Dataset:
    photo(tmp_path / "a.jpg")
    record = Record("a.jpg", FilePicture(tmp_path / "a.jpg"), SIZE, **({"boxes": (BOX,)} | changes))
    return Dataset((record,), ("cat",))


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        pytest.param({}, {}, id="boxes"),
        pytest.param({"masks": (MASK,)}, dict.fromkeys(("jsonl", "yolo", "voc"), "masks"), id="masks"),
        pytest.param({"texts": (CODES,), "prefix": "segment cat"}, dict.fromkeys(("coco", "yolo", "voc"), "masks"),
                     id="segmentation tokens"),
        pytest.param({"texts": ("<loc0256><loc0102><loc0768><loc0410> cat",), "prefix": "detect all classes"}, {},
                     id="boxes as text"),
        pytest.param({"texts": ("a cat",)}, dict.fromkeys(("coco", "yolo", "voc"), "texts") | {"jsonl": "boxes"},
                     id="captions"),
        pytest.param({"prefix": "the left cat"}, dict.fromkeys(("coco", "yolo", "voc"), "texts"), id="an expression"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["coco", "jsonl", "yolo", "voc"])
def test_what_a_format_does_not_hold_is_said_once(tmp_path, changes, lost, form):
    faults = convert(data(tmp_path, **changes), tmp_path / "out", form)
    assert [(fault.kind, fault.record) for fault in faults] == (
        [(f"{lost[form]} left out", None)] if form in lost else []
    )
    assert all(form in fault.problem or fault.problem.startswith("a line holds") for fault in faults)


def test_segmentation_tokens_stay_as_they_are(tmp_path):
    told = data(tmp_path, texts=(CODES,), prefix="segment cat")
    convert(told, tmp_path / "a.jsonl", "jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {
        "image": "a.jpg",
        "prefix": "segment cat",
        "suffix": CODES,
    }
    assert read(tmp_path / "a.jsonl", task="segmentation")[0].texts == (CODES,)


def test_texts_go_before_boxes(tmp_path):
    """Generated scenes, and pages of receipts, have both: what a task asks for is what is written."""
    convert(read("shapes?n=2&size=64", task="captioning"), tmp_path / "a.jsonl", "jsonl")
    back = read(tmp_path / "a.jsonl", task="captioning")
    assert [record.texts for record in back] == [
        record.texts for record in read("shapes?n=2&size=64", task="captioning")
    ]


def test_questions_keep_their_ids_types_and_choices(tmp_path):
    photo(tmp_path / "a.jpg")
    picture = FilePicture(tmp_path / "a.jpg")
    about = Question("what colour", "other", ("pink", "rose"), 1, difficult=True)
    records = (
        Record("7", picture, prefix="what colour?", texts=("rose",), image_id=42, question=about),
        Record("8", picture, prefix="how many?", texts=("2", "two"), image_id=42),
    )
    assert convert(Dataset(records), tmp_path / "a.jsonl", "jsonl") == ()
    back = read(tmp_path / "a.jsonl", task="vqa")
    assert back.faults == ()
    for one, other in zip(records, back, strict=True):
        for name in ("id", "prefix", "texts", "image_id", "question"):
            assert getattr(other, name) == getattr(one, name), name


def test_real_questions_go_through_json_lines(shared_data, tmp_path):
    before = read(shared_data / "questions", task="vqa")
    convert(before, tmp_path / "a.jsonl", "jsonl")
    after = read(tmp_path / "a.jsonl", task="vqa")
    assert [(one.id, one.prefix, one.texts, one.question) for one in after] == [
        (one.id, one.prefix, one.texts, one.question) for one in before
    ]


def test_conversations_keep_their_ids(tmp_path):
    talk = (Turn("user", "hi"), Turn("assistant", "hello", 0.0), Turn("user", "a?"), Turn("assistant", "b"))
    records = (Record("first", turns=talk), Record("2", prefix="say a", texts=("a",)))
    convert(Dataset(records), tmp_path / "a.jsonl", "jsonl")
    assert [(one.id, one.turns, one.prefix, one.texts) for one in read(tmp_path / "a.jsonl", task="instruct")] == [
        (one.id, one.turns, one.prefix, one.texts) for one in records
    ]


def test_expressions_go_through_json_lines(tmp_path):
    said = data(tmp_path, prefix="the left cat", boxes=(Box(UNNAMED, 10, 20, 40, 60),), image_id=3)
    convert(said, tmp_path / "a.jsonl", "jsonl")
    (record,) = read(tmp_path / "a.jsonl", task="detection")
    assert (record.prefix, record.image_id, record.boxes[0].label) == ("the left cat", 3, UNNAMED)
