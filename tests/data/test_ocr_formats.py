"""Formats that are not made for reading text hold it as well."""

import json

import pytest
from annotation_files import photo

from mmtune.data.read import read
from mmtune.tasks.ocr import OCR


@pytest.mark.parametrize(
    ("name", "content", "format_", "texts"),
    [
        pytest.param("a.jsonl", '{"image": "a.jpg", "text": "x, y\\nz"}', "jsonl", ("x, y\nz",), id="json lines"),
        pytest.param("a.jsonl", '{"image": "a.jpg", "transcription": "x"}', "jsonl", ("x",), id="transcription"),
        pytest.param("a.jsonl", '{"image": "a.jpg", "prefix": "ocr\\n", "suffix": ""}', "jsonl", ("",), id="no text"),
        pytest.param("a.jsonl", '{"image": "a.jpg", "suffix": ["x", "X"]}', "jsonl", ("x", "X"), id="versions"),
        pytest.param("a.csv", 'image,text\na.jpg,"x, y\nz"\n', "csv", ("x, y\nz",), id="csv"),
        pytest.param("a.csv", "filename;transcription\na.jpg;x\n", "csv", ("x",), id="semicolons"),
        pytest.param("metadata.jsonl", '{"file_name": "a.jpg", "text": "x"}', "hub", ("x",), id="hub"),
        pytest.param(
            "metadata.jsonl", '{"file_name": "a.jpg", "transcription": "x"}', "hub", ("x",), id="hub's columns"
        ),
    ],
)
def test_a_picture_and_its_text(tmp_path, name, content, format_, texts):
    photo(tmp_path / "a.jpg")
    (tmp_path / name).write_text(content + "\n")
    data = read(tmp_path, task="ocr")
    assert (data.format, [one.texts for one in data], data.faults) == (format_, [texts], ())
    task = OCR()
    assert task.check(data[0]) == []
    (query,) = task.queries(data[0])
    assert query.prompt == "ocr"
    assert ["".join(span.text for span in target) for target in task.targets(data[0], query)] == list(texts)


def test_folders_of_labels(tmp_path):
    photo(tmp_path / "Exit" / "1.jpg")
    photo(tmp_path / "GO now" / "2.jpg")
    assert [one.texts for one in read(tmp_path, task="ocr")] == [("Exit",), ("GO now",)]


def test_pictures_without_text_are_told(shared_data):
    data = read(shared_data / "odd_images", task="ocr")
    assert len(data) == 9
    assert all(OCR().check(one) == ("expected the text on the picture, found none",) for one in data)


def test_odd_pictures_of_words(shared_data, tmp_path):
    """Every mode is opened as RGB; a truncated file opens its header only, and `data check` says so."""
    from mmtune.data.check import check

    names = ["arabic.webp", "bird.JPEG", "cat-dog.png", "gray.jpg", "truncated.jpg"]
    for name in names:
        (tmp_path / name).symlink_to(shared_data / "odd_images" / name)
    (tmp_path / "labels.json").write_text(json.dumps(dict.fromkeys(names, "word")))
    data = read(tmp_path, task="ocr")
    assert (data.format, len(data), data.faults) == ("word_labels", 5, ())
    report = check(data, OCR())
    assert (report.pictures, report.usable, report.fault_counts) == (4, 4, {"undecodable picture": 1})
    assert report.faults[0].record == "truncated.jpg"
    assert [one.picture.open().mode for one in data if one.picture and one.id != "truncated.jpg"] == ["RGB"] * 4
