import json
import re

import pytest
from PIL import Image

from mmtune.data.read import read
from mmtune.errors import DataError

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog."},
        {"id": 2, "image_id": 8, "caption": "Two cats. \n"},
        {"id": 3, "image_id": 7, "caption": "A brown dog."},
    ],
}
KARPATHY = {
    "dataset": "coco",
    "images": [
        {"filename": "a.jpg", "filepath": "train2014", "cocoid": 7, "imgid": 0, "split": "train",
         "sentences": [{"raw": "A dog.", "tokens": ["a", "dog"]}, {"raw": "A brown dog.", "tokens": []}]},
        {"filename": "b.jpg", "filepath": "val2014", "cocoid": 8, "imgid": 1, "split": "restval",
         "sentences": [{"raw": "Two cats."}]},
        {"filename": "c.jpg", "filepath": "val2014", "cocoid": 9, "imgid": 2, "split": "test",
         "sentences": [{"raw": "A sign."}]},
    ],
}  # fmt: skip
TEXTCAPS = {
    "data": [
        {
            "image_id": "a",
            "image_name": "a",
            "set_name": "val",
            "caption_str": "A dog.",
            "reference_strs": ["A dog.", "Dog"],
        },
        {"image_id": "b", "image_name": "b", "set_name": "val", "caption_str": "Two cats."},
    ]
}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    return tmp_path


def written(folder, content, name="captions_val2014.json"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def test_several_captions_make_one_record(folder):
    data = read(written(folder, COCO))
    assert data.format == "coco_captions"
    assert [(record.id, record.image_id, record.texts) for record in data] == [
        ("a.jpg", 7, ("A dog.", "A brown dog.")),
        ("b.jpg", 8, ("Two cats. \n",)),
    ]
    assert data[0].picture.open().size == (8, 6)
    (fault,) = data.faults
    assert (fault.kind, fault.record) == ("picture without caption", "c.jpg")


def test_pictures_are_found_by_cocos_names(tmp_path):
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "val2014" / "COCO_val2014_000000000007.jpg")
    content = {"images": [{"id": 7}], "annotations": COCO["annotations"][:1]}
    (record,) = read(written(tmp_path, content, "annotations/captions_val2014.json"))
    assert record.picture.name.endswith("COCO_val2014_000000000007.jpg")


def test_each_file_of_a_folder_is_a_split(folder):
    written(folder, COCO, "annotations/captions_val2014.json")
    train = {"images": [{"id": 5, "file_name": "c.jpg"}], "annotations": [{"image_id": 5, "caption": "A sign."}]}
    written(folder, train, "annotations/captions_train2014.json")
    assert [record.id for record in read(f"{folder}:train")] == ["c.jpg"]
    assert [record.id for record in read(f"{folder}:val2014")] == ["a.jpg", "b.jpg"]
    assert len(read(folder)) == 3
    with pytest.raises(DataError, match=r"unknown split 'test'.*Known: train2014, val2014"):
        read(f"{folder}:test")


def test_captions_lie_beside_instances(folder):
    """The official archive has both; the task says which are meant."""
    written(folder, COCO, "annotations/captions_val2014.json")
    instances = {
        "images": COCO["images"],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 3, 3]}],
    }
    written(folder, instances, "annotations/instances_val2014.json")
    assert read(folder, task="captioning").format == "coco_captions"
    assert read(folder, task="detection").format == "coco"


def test_karpathys_splits(folder):
    file = written(folder, KARPATHY, "dataset_coco.json")
    assert [record.id for record in read(f"{file}:train")] == ["a.jpg", "b.jpg"]
    (record,) = read(f"{file}:test")
    assert (record.image_id, record.texts) == (9, ("A sign.",))
    assert read(f"{file}:train")[0].texts == ("A dog.", "A brown dog.")
    with pytest.raises(DataError, match=r"unknown split 'val'.*Known: test, train"):
        read(f"{file}:val")


def test_textcaps(folder):
    data = read(written(folder, TEXTCAPS, "TextCaps_0.1_val.json"))
    assert [(record.texts, record.image_id) for record in data] == [(("A dog.", "Dog"), "a"), (("Two cats.",), "b")]
    assert all(record.picture is not None for record in data)


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        pytest.param({"image_id": 7, "caption": 5}, "broken caption", r"annotations\[3\]", id="no text"),
        pytest.param({"image_id": 7}, "broken caption", r"annotations\[3\]", id="no caption"),
        pytest.param("x", "broken caption", r"annotations\[3\], found 'x'", id="no object"),
        pytest.param({"image_id": 70, "caption": "x"}, "unknown image", "image 70", id="unknown image"),
    ],
)
def test_broken_annotations_are_left_out(folder, changed, kind, words):
    data = read(written(folder, {**COCO, "annotations": [*COCO["annotations"], changed]}))
    assert len(data) == 2
    found = [fault for fault in data.faults if fault.kind == kind]
    assert len(found) == 1
    assert re.search(words, found[0].problem)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ({"file_name": "x.jpg"}, "broken entry"),
        ({"id": 7, "file_name": "x.jpg"}, "duplicate image id"),
        (3, "broken entry"),
    ],
)
def test_broken_images_are_left_out(folder, image, kind):
    data = read(written(folder, {**COCO, "images": [*COCO["images"], image]}))
    assert len(data) == 2
    assert data.fault_counts == {kind: 1, "picture without caption": 1}


def test_missing_pictures_matter_only_where_pictures_are_wanted(tmp_path):
    file = written(tmp_path, COCO)
    with pytest.raises(DataError, match="no record of this coco_captions data can be used"):
        read(file)
    assert len(read(file, need_pictures=False)) == 2


def test_an_empty_caption_is_none(folder):
    content = {**COCO, "annotations": [{"image_id": 7, "caption": " "}, {"image_id": 8, "caption": "x"}]}
    data = read(written(folder, content))
    assert [record.id for record in data] == ["b.jpg"]
    assert data.fault_counts == {"picture without caption": 2}
