"""Files and folders of COCO instances: what is recognised, which splits there are, what cannot be read."""

import json
from pathlib import Path
from typing import Any

import pytest
from annotation_files import coco_box, coco_file, photo

from mmtune.data.coco import Coco
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.reader import Source
from mmtune.errors import DataError


def read(path: Path, **options: Any) -> Dataset:
    log = FaultLog()
    content = Coco().read(Source(path, **options), log)
    return Dataset(tuple(content.records), tuple(content.classes), tuple(log.faults))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            '{"images": [],\n "annotations": [}\n', r"a\.json:2: expected JSON, but at column 18", id="malformed"
        ),
        pytest.param('[{"image_id": 1}]', "found a list of results", id="results"),
        pytest.param('{"images": []}', "expected a list under 'annotations', found nothing", id="no annotations"),
        pytest.param('{"images": {}, "annotations": []}', "a list under 'images', found dict", id="images a dict"),
        pytest.param(
            '{"images": [], "annotations": [{"id": 1}], "categories": []}', "expected categories", id="no categories"
        ),
        pytest.param(b'{"images": "\xff"}', "expected JSON in UTF-8, but byte 12", id="not utf-8"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    path = coco_file(tmp_path / "a.json", [coco_box()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Coco().claims(path)
    assert len(read(path)) == 1


def test_official_folders(tmp_path: Path) -> None:
    for split, number in (("train2017", 1), ("val2017", 2)):
        photo(tmp_path / split / f"{number}.jpg")
        images = [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80}]
        coco_file(tmp_path / "annotations" / f"instances_{split}.json", [coco_box(image_id=number)], images=images)
        coco_file(tmp_path / "annotations" / f"person_keypoints_{split}.json", [], images=images)
    (tmp_path / "annotations" / "captions_val2017.json").write_text(
        json.dumps({"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]})
    )
    assert Coco().claims(tmp_path)
    assert not Coco().claims(tmp_path / "annotations" / "captions_val2017.json")
    assert Coco().splits(tmp_path) == ("train2017", "val2017")
    for split in ("val2017", "val", "instances_val2017"):
        data = read(tmp_path, split=split)
        assert [record.id for record in data] == ["2.jpg"]
        assert data[0].picture.name == str(tmp_path / "val2017" / "2.jpg")
        assert data.faults == ()
    assert [record.id for record in read(tmp_path)] == ["1.jpg", "2.jpg"]
    with pytest.raises(DataError, match=r"unknown split 'tain': did you mean 'train2017'\? Known: train2017, val2017"):
        read(tmp_path, split="tain")


def test_a_split_without_its_year_must_be_clear(tmp_path: Path) -> None:
    for split in ("train2014", "train2017"):
        coco_file(tmp_path / f"{split}.json", [])
    with pytest.raises(DataError, match="Known: train2014, train2017"):
        read(tmp_path, split="train")


def test_exported_folders(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        photo(tmp_path / split / f"{split}.jpg")
        images = [{"id": 0, "file_name": f"{split}.jpg", "width": 100, "height": 80}]
        coco_file(tmp_path / split / "_annotations.coco.json", [coco_box(image_id=0)], images=images)
    assert Coco().splits(tmp_path) == ("train", "valid")
    assert [record.id for record in read(tmp_path)] == ["train.jpg", "valid.jpg"]
    assert [record.id for record in read(tmp_path, split="valid")] == ["valid.jpg"]


def test_the_same_picture_in_two_splits_is_read_once(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    coco_file(tmp_path / "train.json", [coco_box()])
    coco_file(tmp_path / "trainval.json", [coco_box()])
    assert (len(read(tmp_path)), read(tmp_path).faults) == (1, ())
    coco_file(tmp_path / "trainval.json", [coco_box([1, 2, 3, 4])])
    data = read(tmp_path)
    assert (len(data), data.fault_counts) == (1, {"duplicate record": 1})


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        pytest.param('{"images": [], "annotations": [], "categories": []}', True, id="empty"),
        pytest.param('{"annotations": [{"bbox": [1, 2, 3, 4]}], "images": [], ', True, id="malformed at the end"),
        pytest.param('{"annotations": [{"question_id": 1, "answers": []}]}', False, id="vqa"),
        pytest.param('{"shapes": [], "imagePath": "a.png"}', False, id="other tool"),
        pytest.param("[]", False, id="list"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_claims(tmp_path: Path, text: str, claimed: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert Coco().claims(path) == claimed
    assert Coco().claims(tmp_path) == claimed


def test_claims_large_files_by_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"info": "{"x" * 700_000}", "images": [], "annotations": [], "categories": []}}')
    assert Coco().claims(path)


@pytest.mark.parametrize("folder", ["bccd", "voc_yolo_coco/yolo_format", "questions/vqav2", "receipts", "captions"])
def test_claims_nothing_else(shared_data: Path, folder: str) -> None:
    assert not Coco().claims(shared_data / folder)
