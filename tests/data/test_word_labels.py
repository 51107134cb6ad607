import json

import pytest
from annotation_files import photo

from mmtune.data.read import read, reader
from mmtune.errors import DataError


def words(folder, content, name="labels.txt", pictures=("a.jpg", "b.jpg")):
    for picture in pictures:
        photo(folder / picture)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def found(data):
    return [(one.id, one.texts) for one in data]


TWO = [("a.jpg", ("Exit",)), ("b.jpg", ("GO, now",))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("labels.txt", "a.jpg\tExit\nb.jpg\tGO, now\n", id="tab"),
        pytest.param("labels.txt", "\ufeffa.jpg\tExit\r\nb.jpg\tGO, now\r\n\r\n", id="Windows"),
        pytest.param("label.txt", "a.jpg Exit\nb.jpg GO, now", id="space"),
        pytest.param("gt.txt", 'a.jpg, "Exit"\nb.jpg, "GO, now"\n', id="ICDAR"),
        pytest.param("labels.json", {"a.jpg": "Exit", "b.jpg": "GO, now"}, id="object"),
        pytest.param(
            "labels.json",
            [{"img_path": "a.jpg", "text": "Exit"}, {"filename": "b.jpg", "label": "GO, now"}],
            id="list",
        ),
        pytest.param(
            "labels.json",
            {
                "metainfo": {"task_name": "textrecog"},
                "data_list": [
                    {"img_path": "a.jpg", "instances": [{"text": "Exit"}]},
                    {"img_path": "b.jpg", "instances": [{"text": "GO, now"}]},
                ],
            },
            id="MMOCR",
        ),
    ],
)
@pytest.mark.parametrize("whole_folder", [True, False], ids=["folder", "file"])
def test_forms(tmp_path, name, content, whole_folder):
    file = words(tmp_path, content, name)
    data = read(tmp_path if whole_folder else file, task="ocr")
    assert (data.format, data.faults) == ("word_labels", ())
    assert found(data) == TWO
    assert all(one.picture is not None for one in data)


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        pytest.param('a.jpg\t"hello"', "a.jpg", '"hello"', id="quotes stay"),
        pytest.param('a.jpg\t5"', "a.jpg", '5"', id="one quote"),
        pytest.param('a.jpg, "say ""hi\\""', "a.jpg", 'say ""hi"', id="ICDAR escapes quotes"),
        pytest.param('a.jpg,"x"', "a.jpg", "x", id="ICDAR without space"),
        pytest.param("a\tavailable", "a", "available", id="name without suffix"),
        pytest.param("a.jpg\te\u0301 ", "a.jpg", "é", id="composed"),
        pytest.param("a.jpg\tܠܐ ܡܕܡ", "a.jpg", "ܠܐ ܡܕܡ", id="right to left"),
        pytest.param("./img/a.jpg two words", "./img/a.jpg", "two words", id="spaces in the text"),
    ],
)
def test_lines(tmp_path, line, name, text):
    assert found(read(words(tmp_path, line + "\n"), task="ocr")) == [(name, (text,))]


def test_the_word_in_the_name_of_a_picture_of_mjsynth(tmp_path):
    content = "./1/115_Lube_45484.jpg 45484\n./1/3_12_7.jpg 9\n"
    words(tmp_path, content, "annotation_train.txt", ["1/115_Lube_45484.jpg", "1/3_12_7.jpg"])
    assert [texts for _, texts in found(read(tmp_path, task="ocr"))] == [("Lube",), ("9",)]


def test_several_words_of_one_picture(tmp_path):
    data = read(words(tmp_path, "a.jpg\tone\nb.jpg\tx\na.jpg\ttwo\n"), task="ocr")
    assert found(data) == [("a.jpg", ("one", "two")), ("b.jpg", ("x",))]


@pytest.mark.parametrize(
    ("line", "kind", "words_", "record"),
    [
        pytest.param("c.jpg\tx", "missing picture", "expected a picture named 'c.jpg'", "c.jpg", id="picture"),
        pytest.param("b.jpg", "malformed line", "found 'b.jpg'", None, id="no word"),
        pytest.param("b.jpg\t ", "no word", "expected a word, found none", "b.jpg", id="empty word"),
    ],
)
def test_faults(tmp_path, line, kind, words_, record):
    data = read(words(tmp_path, f"a.jpg\tx\n{line}\n"), task="ocr")
    assert found(data) == [("a.jpg", ("x",))]
    assert data.fault_counts == {kind: 1}
    fault = data.faults[0]
    assert (fault.record, fault.file.endswith("labels.txt:2")) == (record, True)
    assert words_ in fault.problem


def test_faults_in_json(tmp_path):
    content = {"data_list": [{"img_path": "a.jpg", "instances": [{"text": "x"}]}, {"img_path": "b.jpg"}, 7]}
    data = read(words(tmp_path, content, "labels.json"), task="ocr")
    assert data.fault_counts == {"malformed line": 2}
    assert data.faults[0].file.endswith("labels.json, item 1")
    assert data.faults[0].record == "b.jpg"


@pytest.mark.parametrize(
    ("first", "second"),
    [("train_label.txt", "test_label.txt"), ("labels.train.txt", "labels.test.txt"), ("train.json", "test.json")],
)
def test_splits(tmp_path, first, second):
    for name, word in ((first, "one"), (second, "two")):
        words(tmp_path, {"a.jpg": word} if name.endswith("json") else f"a.jpg\t{word}\n", name)
    assert found(read(tmp_path, task="ocr")) == [("train/a.jpg", ("one",)), ("test/a.jpg", ("two",))]
    assert found(read(f"{tmp_path}:test", task="ocr")) == [("test/a.jpg", ("two",))]


def test_one_of_the_same_labels_twice(tmp_path):
    words(tmp_path, "a.jpg\tx\n")
    words(tmp_path, {"a.jpg": "x"}, "labels.json")
    assert found(read(tmp_path, task="ocr")) == [("a.jpg", ("x",))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("captions.txt", "image,caption\na.jpg,a dog, running\n", id="table with a header"),
        pytest.param("labels.txt", "image\ttext\na.jpg\tx\n", id="table with tabs and a header"),
        pytest.param("notes.txt", "read me\n", id="notes"),
        pytest.param("classes.txt", "cat\ndog\n", id="classes"),
        pytest.param("a.txt", "0 0.5 0.5 0.1 0.1\n", id="YOLO"),
        pytest.param("other.json", {"name": "x", "version": "2"}, id="json"),
        pytest.param("results.json", [{"image_id": 1, "category_id": 2}], id="results"),
        pytest.param("labels.txt", "", id="empty"),
        pytest.param("labels.txt", "x.jpg\tone\n", id="pictures that are not there"),
    ],
)
def test_other_folders_are_not_claimed(tmp_path, name, content):
    words(tmp_path, content, name)
    assert not reader("word_labels").claims(tmp_path)


def test_truth_without_pictures(tmp_path):
    file = words(tmp_path, "0001\tone\n0002\ttwo\tthree\n", pictures=())
    assert found(read(file, task="ocr", need_pictures=False)) == [("0001", ("one",)), ("0002", ("two\tthree",))]
    assert not reader("word_labels").claims(tmp_path)


def test_nothing_to_read_is_told(tmp_path):
    file = words(tmp_path, "no list at all\n")
    with pytest.raises(DataError, match="expected the names of pictures with the words on them, found none"):
        read(file, task="ocr", format="word_labels")
    with pytest.raises(DataError, match="expected a list of pictures and words"):
        read(tmp_path, task="ocr", format="word_labels")


CROPS = ["GRAND", "HOTEL", "HOTEL", "PACIFIC", "03/09/2009", "ANING", "Virgin", "america", "ATTACK", "DAVIDSON"]


@pytest.mark.parametrize(
    ("name", "format_"),
    [("labels.json", "word_labels"), ("old_label.jsonl", "jsonl"), ("old_label.txt", "word_labels"), ("", "jsonl")],
)
def test_real_crops_in_every_form(shared_data, name, format_):
    data = read(shared_data / "words" / "crops" / name, task="ocr")
    assert (data.format, data.faults) == (format_, ())
    assert [texts for _, texts in found(data)] == [(word,) for word in CROPS]
    assert data[0].id == "1223731.jpg"
    assert min(one.picture.open().size for one in data) == (35, 19)


def test_real_photos_of_words(shared_data):
    data = read(shared_data / "words" / "photos", task="ocr")
    assert (data.format, len(data), data.faults) == ("word_labels", 10, ())
    assert (data[0].id, data[0].texts, data[9].id, data[9].texts) == (
        "demo_1",
        ("available",),
        "demo_10",
        ("university",),
    )
    # Some are RGBA, some JPEG: what is opened is RGB.
    assert {one.picture.open().mode for one in data} == {"RGB"}


def test_an_object_of_words_loses_none_in_silence(tmp_path):
    words(tmp_path, {"a.jpg": "Exit", "b.jpg": None, "c.jpg": 2024, "d.jpg": 9.9}, "labels.json", ("a.jpg", "c.jpg"))
    data = read(tmp_path / "labels.json", task="ocr")
    assert found(data) == [("a.jpg", ("Exit",)), ("c.jpg", ("2024",))]
    assert [(fault.kind, fault.record, fault.file.rpartition(", ")[2]) for fault in data.faults] == [
        ("malformed line", "b.jpg", "item 1"),
        ("malformed line", "d.jpg", "item 3"),
    ]
    assert "expected a text by the name of its picture" in data.faults[0].problem
