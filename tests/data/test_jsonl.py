import json
from pathlib import Path

import pytest
from PIL import Image

from mmtune.codecs.boxes import encode_boxes
from mmtune.data.dataset import FaultLog
from mmtune.data.jsonl import Jsonl
from mmtune.data.read import read
from mmtune.data.reader import Source
from mmtune.data.suffixes import asked_classes
from mmtune.data.tables import as_texts, natural_key, table_files
from mmtune.errors import DataError
from mmtune.records import Box


def picture(file: Path, size=(1023, 2046)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(file)


def write(file: Path, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text(text, encoding="utf-8")
    return file


def load(path: Path, **options):
    log = FaultLog()
    content = Jsonl().read(Source(path, **options), log)
    return content.records, tuple(content.classes), log.faults


def test_detection_suffixes_become_boxes_in_pixels(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    file = write(
        tmp_path / "data.jsonl",
        {
            "image": "a.png",
            "prefix": "detect dog ; cat",
            "suffix": "<loc0100><loc0200><loc0300><loc0400> cat ; <loc0000><loc0000><loc1023><loc1023> owl",
        },
        {"image": "b.png", "prefix": "detect all classes", "suffix": ""},
    )
    records, classes, faults = load(file, task="detection")
    # The picture is 1023 x 2046, so that a bin is 1 pixel wide and 2 high; the text has y first.
    assert records[0].boxes == (Box("cat", 200, 200, 400, 600), Box("owl", 0, 0, 1023, 2046))
    assert records[0].size == (1023, 2046)
    assert (records[0].id, records[0].source) == ("a.png", f"{file}:1")
    assert records[1].boxes == ()
    assert records[1].size == (1023, 2046)
    assert classes == ("dog", "cat", "owl")
    assert faults == []


def test_boxes_survive_the_way_to_text_and_back_within_half_a_bin(tmp_path):
    picture(tmp_path / "a.png", (640, 480))
    boxes = [Box("red cell; young", 3.2, 7.7, 310.4, 200.1), Box("dog", 0, 0, 640, 480)]
    file = write(
        tmp_path / "a.jsonl", {"image": "a.png", "prefix": "detect x", "suffix": encode_boxes(boxes, (640, 480))}
    )
    records, _, _ = load(file)
    assert [box.label for box in records[0].boxes] == ["red cell; young", "dog"]
    for found, meant in zip(records[0].boxes, boxes, strict=True):
        assert found.x0 == pytest.approx(meant.x0, abs=640 / 2046)
        assert found.y1 == pytest.approx(meant.y1, abs=480 / 2046)


def test_texts_are_left_alone_in_other_tasks(tmp_path):
    picture(tmp_path / "a.png")
    suffix = "<loc0000><loc0000><loc0009><loc0009> cat"
    file = write(tmp_path / "a.jsonl", {"image": "a.png", "prefix": "detect cat", "suffix": suffix})
    records, classes, faults = load(file, task="captioning")
    assert (records[0].boxes, records[0].texts, classes, faults) == ((), (suffix,), (), [])


def test_byte_order_mark_blank_lines_lists_and_several_lines_of_a_picture(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "b.png")
    file = write(
        tmp_path / "a.jsonl",
        '\ufeff{"image": "a.png", "prefix": "cap en", "suffix": ["one", "two\u2028three"]}',
        "",
        {"image": "a.png", "prefix": "ocr", "suffix": "words"},
        "   ",
        {"image": "b.png", "prefix": "", "suffix": "x"},
    )
    records, _, faults = load(file, task="captioning")
    assert faults == []
    assert [record.id for record in records] == ["a.png#1", "a.png#3", "b.png"]
    assert [record.texts for record in records] == [("one", "two\u2028three"), ("words",), ("x",)]
    assert [record.prefix for record in records] == ["cap en", "ocr", None]
    assert records[0].picture is not None
    assert records[0].picture.open().size == (1023, 2046)


def test_boxes_in_pixels_instead_of_a_suffix(tmp_path):
    picture(tmp_path / "a.png", (40, 30))
    good = {"label": "cat", "box": [1, 2, 30, 20]}
    bad = [{"label": "cat", "box": [1, 2, 3]}, {"box": [1, 2, 3, 4]}, {"label": "dog", "box": [5, 5, 5, 9]}]
    file = write(tmp_path / "a.jsonl", {"image": "a.png", "boxes": [good, *bad]})
    records, classes, faults = load(file, task="detection")
    assert records[0].boxes == (Box("cat", 1, 2, 30, 20),)
    assert classes == ("cat",)
    assert [fault.kind for fault in faults] == ["broken box", "broken box", "box without area"]


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ('{"image": "a.png", "prefix": "x"', "malformed line", "at column"),
        ("[1, 2]", "malformed line", "a list"),
        ({"prefix": "x", "suffix": "y"}, "missing key", "as image"),
        ({"image": "a.png", "suffix": "y"}, "missing key", "as prefix"),
        ({"image": "a.png", "prefix": "x"}, "missing key", "as suffix"),
        ({"image": "", "prefix": "x", "suffix": "y"}, "malformed value", "as image"),
        ({"image": "a.png", "prefix": 3, "suffix": "y"}, "malformed value", "as prefix"),
        ({"image": "a.png", "prefix": "x", "suffix": 3}, "malformed value", "as suffix"),
        ({"image": "no.png", "prefix": "x", "suffix": ""}, "missing picture", "'no.png'"),
        ({"image": "broken.png", "prefix": "x", "suffix": ""}, "broken picture", "broken.png"),
        ({"image": "a.png", "prefix": "x", "suffix": "a cat"}, "unparsable suffix", "'a cat'"),
    ],
)
def test_what_cannot_be_used_is_a_fault_and_the_rest_is_used(tmp_path, line, kind, words):
    picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    good = {"image": "a.png", "prefix": "detect cat", "suffix": "<loc0000><loc0000><loc0009><loc0009> cat"}
    file = write(tmp_path / "a.jsonl", good, line, good)
    records, _, faults = load(file, task="detection")
    assert [record.source for record in records] == [f"{file}:1", f"{file}:3"]
    assert [fault.kind for fault in faults] == [kind]
    assert faults[0].file == f"{file}:2"
    assert words in faults[0].problem


def test_the_readable_part_of_a_suffix_is_used(tmp_path):
    picture(tmp_path / "a.png")
    suffix = (
        "<loc0000><loc0000><loc0009><loc0009> cat ; <loc0000><loc0000> dog ; <loc0005><loc0005><loc0005><loc0009> x"
    )
    file = write(tmp_path / "a.jsonl", {"image": "a.png", "prefix": "detect cat", "suffix": suffix})
    records, _, faults = load(file, task="detection")
    assert [box.label for box in records[0].boxes] == ["cat"]
    assert [fault.kind for fault in faults] == ["unparsable suffix", "box without area"]


@pytest.mark.parametrize("task", ["captioning", "ocr"])
@pytest.mark.parametrize("none", [{}, {"prefix": None}, {"prefix": ""}], ids=["absent", "null", "empty"])
def test_a_prompt_of_its_own_may_stand_in_some_lines_only(tmp_path, task, none):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    lines = [{"image": "a.png", "prefix": "caption es", "suffix": "x"}, {"image": "b.png", "suffix": "y"} | none]
    records, _, faults = load(write(tmp_path / "a.jsonl", *lines), task=task)
    assert [(record.prefix, record.texts) for record in records] == [("caption es", ("x",)), (None, ("y",))]
    assert faults == []


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        pytest.param([{"answer": "a"}, {"answers": ["b", "c"]}], [("a",), ("b", "c")], id="answers"),
        pytest.param([{"answer": 2}, {"answer": [1.5, "x"]}], [("2",), ("1.5", "x")], id="numbers"),
        pytest.param([{"text": "a"}, {"transcription": "b"}], [("a",), ("b",)], id="texts"),
        pytest.param([{"captions": ["a"]}, {"caption": "b"}], [("a",), ("b",)], id="captions"),
        pytest.param([{"answer": "a"}, {"text": "not the answer"}], [("a",), None], id="another thing"),
        pytest.param([{"text": "a"}, {"text": 3}], [("a",), None], id="no text"),
    ],
)
def test_names_of_one_thing_may_differ_from_line_to_line(tmp_path, lines, texts):
    picture(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": str(number)} | line for number, line in enumerate(lines)]
    records, _, faults = load(write(tmp_path / "a.jsonl", *rows), task="vqa")
    assert {record.prefix: record.texts for record in records} == {
        str(number): text for number, text in enumerate(texts) if text is not None
    }
    assert len(faults) == texts.count(None)


@pytest.mark.parametrize(
    ("task", "texts"), [("vqa", "right"), ("ocr", "EXIT"), ("captioning", "a sign"), ("detection", "a sign")]
)
def test_the_text_that_a_task_asks_for_counts_first(tmp_path, task, texts):
    picture(tmp_path / "a.png")
    line = {"image": "a.png", "question": "where?", "text": "EXIT", "answer": "right", "caption": "a sign"}
    (tmp_path / "a.csv").write_text(f"{','.join(line)}\n{','.join(line.values())}\n")
    write(tmp_path / "a.jsonl", line)
    write(tmp_path / "hub" / "metadata.jsonl", line | {"file_name": "a.png"})
    picture(tmp_path / "hub" / "a.png")
    for address in ("a.csv", "a.jsonl", "hub"):
        data = read(tmp_path / address, task=None if task == "detection" else task)
        assert data[0].texts == (texts,), address


@pytest.mark.parametrize(("given", "number"), [(7, 7), ("7a", "7a"), (True, None), ([1], None)])
def test_the_number_of_a_picture(tmp_path, given, number):
    picture(tmp_path / "a.png")
    records, _, _ = load(write(tmp_path / "a.jsonl", {"image": "a.png", "suffix": "x", "image_id": given}))
    assert records[0].image_id == number


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}", "expected lines with the keys image, prefix and suffix, received empty objects"),
        (b"3", "a.jsonl:1: expected one JSON object a line, received 3, a number; "),
        (b"nonsense\nmore\n", "a.jsonl:1: expected one JSON object a line"),
        (b"\n\xff\xfe{}\n", "a.jsonl:2: expected one JSON object a line, received bytes that are not UTF-8"),
        (b"", "the file is empty"),
        (b'{"x": 1}', "expected lines with the keys image, prefix and suffix, received x"),
        (b"[" * 100_000, "a.jsonl:1: expected one JSON object a line"),
    ],
)
def test_a_file_without_a_usable_line_ends_in_one_message(tmp_path, content, words):
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["_annotations.train.jsonl", "_annotations.valid.jsonl"],
        ["train.jsonl", "valid.jsonl"],
        ["dataset/_annotations.train.jsonl", "dataset/_annotations.valid.jsonl"],
        ["train/annotations.jsonl", "valid/annotations.jsonl"],
    ],
)
def test_splits(tmp_path, names):
    for name, text in zip(names, "ab", strict=True):
        file = write(tmp_path / name, {"image": "1.png", "prefix": "cap", "suffix": text})
        picture(file.parent / "1.png")
    reader = Jsonl()
    assert reader.claims(tmp_path)
    assert list(reader.splits(tmp_path)) == ["train", "valid"]
    assert [record.texts for record in load(tmp_path)[0]] == [("a",), ("b",)]
    assert len({record.id for record in load(tmp_path)[0]}) == 2
    assert load(tmp_path, split="valid")[0][0].texts == ("b",)
    assert load(tmp_path, split="val")[0][0].texts == ("b",)
    with pytest.raises(DataError, match="unknown split 'tain': did you mean 'train'"):
        load(tmp_path, split="tain")


def test_a_single_file_in_a_folder_is_not_split(tmp_path):
    write(tmp_path / "data.jsonl", {"prefix": "a", "suffix": "b"})
    assert Jsonl().splits(tmp_path) == ()
    assert [file.split for file in table_files(tmp_path, (".jsonl",))] == [""]


def test_lines_without_pictures_are_text_records(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hello", "id": 7},
    )
    records, _, faults = load(file, task="instruct")
    assert faults == []
    assert [(r.id, r.prefix, r.texts, r.picture) for r in records] == [
        ("a.jsonl:1", "Add.\n\n1 2", ("3",), None),
        ("7", "Greet.", ("Hello",), None),
    ]


def test_truth_without_pictures(tmp_path):
    lines = [
        {"image": "a.png", "prefix": "detect c", "suffix": "<loc0000><loc0000><loc1023><loc1023> c", **size}
        for size in ({"width": 20, "height": 10}, {})
    ]
    records, _, faults = load(write(tmp_path / "a.jsonl", *lines), task="detection", need_pictures=False)
    assert [record.boxes for record in records] == [(Box("c", 0, 0, 20, 10),)]
    assert [fault.kind for fault in faults] == ["unknown size"]


@pytest.mark.parametrize(
    ("name", "content", "claimed"),
    [
        ("a.jsonl", '{"image": "x", "suffix": "y"}', True),
        ("a.jsonl", '{"broken"', True),
        ("a.jsonl", "words", False),
        ("a.txt", '{"image": "x", "suffix": "y"}', True),
        ("a.json", '{"images": [], "annotations": []}', False),
        ("metadata.jsonl", '{"file_name": "x", "text": "y"}', False),
        ("a.csv", "image,caption", False),
    ],
)
def test_claims_by_content(tmp_path, name, content, claimed):
    (tmp_path / name).write_text(content)
    assert Jsonl().claims(tmp_path / name) is claimed


@pytest.mark.parametrize(
    ("prefix", "classes"),
    [
        ("detect cat ; dog", ("cat", "dog")),
        ("segment red car\n", ("red car",)),
        ("detect a;b", ("a;b",)),
        ("detect all classes", ()),
        ("detective story", ()),
        ("answer en detect cat", ()),
        (None, ()),
        ("detect", ()),
    ],
)
def test_asked_classes(prefix, classes):
    assert asked_classes(prefix) == classes


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([{"answer": "a", "answer_id": 1}, {"answer": "b"}], ("a", "b")),
        ([{"raw": "a", "tokens": ["a"]}], ("a",)),
        (None, ()),
        ([], ()),
        (3, None),
        (["a", 3], None),
        ({"x": "a"}, None),
    ],
)
def test_as_texts(value, texts):
    assert as_texts(value) == texts


def test_natural_order_compares_texts_of_any_shape():
    names = ["b", "10", "a", "a10", "2", "a2b", "a2", ""]
    assert sorted(names, key=natural_key) == ["", "2", "10", "a", "a2", "a2b", "a10", "b"]


def test_real_word_crops(shared_data):
    data = read(shared_data / "words" / "crops" / "old_label.jsonl", task="ocr")
    assert data.format == "jsonl"
    assert len(data) == 10
    words = {record.id: record.texts for record in data}
    assert words["1223731.jpg"] == ("GRAND",)
    assert all(record.picture is not None and record.picture.open().mode == "RGB" for record in data)
