import json

import pytest
from PIL import Image

from mmtune.data.caption_rows import one_record_a_picture
from mmtune.data.read import read
from mmtune.records import Record

ROWS = [
    {"image": "a.png", "prefix": "caption en", "suffix": "A dog."},
    {"image": "b.png", "prefix": "caption en", "suffix": "Two cats."},
    {"image": "a.png", "prefix": "caption en", "suffix": "A brown dog."},
    {"image": "a.png", "prefix": "caption es", "suffix": "Un perro."},
]


@pytest.fixture
def table(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def test_paligemmas_rows_of_one_picture_and_prompt_are_one_record(table):
    data = read(table, task="captioning")
    assert [(record.id, record.prefix, record.texts) for record in data] == [
        ("a.png#1", "caption en", ("A dog.", "A brown dog.")),
        ("b.png", "caption en", ("Two cats.",)),
        ("a.png#4", "caption es", ("Un perro.",)),
    ]


def test_other_tasks_keep_their_rows(table):
    assert [record.texts for record in read(table, task="vqa")] == [(row["suffix"],) for row in ROWS]


def test_lists_of_captions_and_captions_without_prompt(table):
    table.write_text(json.dumps({"image": "a.png", "captions": ["A dog.", "A brown dog."]}) + "\n")
    (record,) = read(table, task="captioning")
    assert (record.id, record.prefix, record.texts) == ("a.png", None, ("A dog.", "A brown dog."))


def test_rows_of_a_csv_table(table):
    file = table.with_name("captions.csv")
    file.write_text('image,caption\na.png,A dog.\nb.png,"Two cats, one grey."\na.png,A brown dog.\n')
    data = read(file, task="captioning")
    assert [(record.id, record.texts) for record in data] == [
        ("a.png", ("A dog.", "A brown dog.")),
        ("b.png", ("Two cats, one grey.",)),
    ]


def test_texts_without_picture_stay_apart():
    records = [Record("x", texts=("a",)), Record("x", texts=("b",))]
    assert one_record_a_picture(records, ["1", "2"]) == (records, ["1", "2"])
    assert one_record_a_picture([], []) == ([], [])
