"""Every writer against the readers, on real and on made-up data."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import photo
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmtune.data.convert import FORMATS, convert
from mmtune.data.dataset import Dataset
from mmtune.data.images import BytesPicture, FilePicture
from mmtune.data.read import read
from mmtune.errors import DataError, UsageError
from mmtune.records import Box, Mask, Record

BOX_FORMATS = ("coco", "yolo", "voc")


def _edges(box: Box) -> tuple[float, float, float, float]:
    return box.x0, box.y0, box.x1, box.y1


def _assert_same(first: Dataset, second: Dataset, off: float) -> None:
    """The same pictures in the same order, with the same boxes within `off` pixels."""
    assert second.faults == ()
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.size == other.size
        assert [box.label for box in one.boxes] == [box.label for box in other.boxes]
        for mine, its in zip(one.boxes, other.boxes, strict=True):
            assert _edges(its) == pytest.approx(_edges(mine), abs=off)
        assert one.picture is not None
        assert other.picture is not None
        assert os.path.samefile(one.picture.name, other.picture.name)


@pytest.mark.parametrize("format_", BOX_FORMATS)
@pytest.mark.parametrize(
    "source", ["voc_yolo_coco/pascalvoc_format", "voc_yolo_coco/coco_format_v2", "voc_yolo_coco/yolo_format", "nuts"]
)
def test_round_trips_of_real_data(shared_data: Path, tmp_path: Path, source: str, format_: str) -> None:
    data = read(shared_data / source)
    data = replace(data, records=tuple(sorted(data.records, key=lambda record: record.id)))
    assert convert(data, tmp_path / "out", format_) == ()
    back = read(tmp_path / "out")
    assert back.format == format_
    assert set(back.classes) == {box.label for record in data for box in record.boxes}
    if format_ != "voc":  # which has no order
        assert back.classes == data.classes
    _assert_same(data, back, 1e-6)


def test_voc_to_coco_to_voc_keeps_what_is_difficult(shared_data: Path, tmp_path: Path) -> None:
    data = read(shared_data / "voc_yolo_coco/pascalvoc_format")
    convert(data, tmp_path / "coco.json", "coco")
    coco = read(tmp_path / "coco.json")
    assert [record.boxes for record in coco] == [
        tuple(replace(box, area=box.width * box.height) for box in record.boxes) for record in data
    ]
    convert(coco, tmp_path / "voc", "voc")
    back = read(tmp_path / "voc")
    boxes = sorted((box.label, *_edges(box), box.difficult) for record in back for box in record.boxes)
    assert boxes == sorted((box.label, *_edges(box), box.difficult) for record in data for box in record.boxes)
    assert sum(box[-1] for box in boxes) == 38
    assert read(f"{tmp_path}/voc:trainval").records == back.records


def test_jsonl_is_paligemmas_text(shared_data: Path, tmp_path: Path) -> None:
    data = read(f"{shared_data}/bccd:test")
    convert(data, tmp_path / "test.jsonl", "jsonl")
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len(lines) == 72
    assert {line["prefix"] for line in lines} == {"detect Platelets ; RBC ; WBC"}
    record, line = data[0], lines[0]
    assert os.path.samefile(tmp_path / line["image"], shared_data / f"bccd/JPEGImages/{record.id}.jpg")
    objects = line["suffix"].split(" ; ")
    assert len(objects) == len(record.boxes)
    for text, box in zip(objects, record.boxes, strict=True):
        locations, label = text.split(" ", 1)
        assert label == box.label
        bins = [int(part[:4]) for part in locations.split("<loc")[1:]]
        y0, x0, y1, x1 = (number / 1023 for number in bins)
        assert (x0 * 640, y0 * 480, x1 * 640, y1 * 480) == pytest.approx(_edges(box), abs=0.5 * 640 / 1023 + 1e-9)
    _assert_same(data, read(tmp_path / "test.jsonl", task="detection"), 0.5 * 640 / 1023 + 1e-9)


def test_masks_and_crowds_go_through_coco(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "gold/coco_map/instances_val2014_100.json"
    data = read(path, need_pictures=False, need_masks=True)
    convert(data, tmp_path / "a.json", "coco")
    back = read(tmp_path / "a.json", need_pictures=False, need_masks=True)
    assert [(r.id, r.image_id, r.masks) for r in back] == [(r.id, r.image_id, r.masks) for r in data]
    pairs = [pair for one, other in zip(data, back, strict=True) for pair in zip(one.boxes, other.boxes, strict=True)]
    assert len(pairs) == 839
    for one, other in pairs:
        assert (one.label, one.crowd, one.area) == (other.label, other.crowd, other.area)
        assert _edges(one) == pytest.approx(_edges(other), abs=1e-9)
    assert back.classes == data.classes
    official = COCO(str(tmp_path / "a.json"))
    assert len(official.getAnnIds(iscrowd=True)) == 9


def _mask(label: str, left: int) -> Mask:
    pixels = np.zeros((80, 100), np.uint8)
    pixels[20:60, left : left + 20] = 1
    encoded: Any = coco_mask.encode(np.asfortranarray(pixels))
    return Mask(label, (80, 100), encoded["counts"])


def test_masks_find_their_boxes(tmp_path: Path) -> None:
    boxes = (Box("cat", 0, 0, 9, 9), Box("cat", 50, 20, 70, 60), Box("dog", 10, 20, 30, 60), Box("cat", 11, 20, 29, 60))
    masks = (_mask("cat", 10), _mask("cat", 50), _mask("cat", 75))
    record = Record("a.jpg", size=(100, 80), boxes=boxes, masks=masks)
    convert(Dataset((record,), ("cat", "dog")), tmp_path / "a.json", "coco")
    annotations = json.loads((tmp_path / "a.json").read_text())["annotations"]
    counts = [entry["segmentation"] and entry["segmentation"]["counts"].encode() for entry in annotations]
    assert counts == [[], masks[1].counts, [], masks[0].counts, masks[2].counts]
    assert annotations[4]["bbox"] == [75, 20, 20, 40]  # of a mask without a box
    assert [entry["category_id"] for entry in annotations] == [1, 1, 2, 1, 1]


@dataclass(frozen=True)
class Scene:
    """A picture that is no file."""

    name: str
    size: tuple[int, int] = (100, 80)

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size, (10, 200, 30))


def _in_memory() -> Dataset:
    boxes = (Box("cat", 10, 20, 40, 60), Box("dog", 0, 0, 100, 80))
    records = (
        Record("train/1", Scene("one"), (100, 80), boxes=boxes),
        Record("train_1", Scene("two"), None, boxes=boxes[:1]),
        Record("A.PNG", Scene("three"), (100, 80)),
        Record("a", Scene("four"), (100, 80)),
    )
    return Dataset(records, ("cat", "dog"), name="scenes")


@pytest.mark.parametrize(
    ("format_", "out", "folder"),
    [
        ("coco", "out", "out/images"),
        ("coco", "out/deep/set.json", "out/deep/set_images"),
        ("jsonl", "out", "out/images"),
        ("jsonl", "set.jsonl", "set_images"),
        ("yolo", "out", "out/images"),
        ("voc", "out", "out/JPEGImages"),
    ],
)
def test_pictures_in_memory_are_written(tmp_path: Path, format_: str, out: str, folder: str) -> None:
    assert convert(_in_memory(), tmp_path / out, format_) == ()
    files = sorted(path.name for path in (tmp_path / folder).iterdir())
    assert files == ["A.png", "a-2.png", "train_1-2.png", "train_1.png"]
    back = read(tmp_path / out, task="detection")
    assert back.faults == ()
    assert sorted(len(record.boxes) for record in back) == [0, 0, 1, 2]
    for record in back:
        assert record.picture is not None
        assert record.picture.open().getpixel((5, 5)) == (10, 200, 30)
        assert record.size == (100, 80)


@pytest.mark.parametrize("format_", FORMATS)
def test_pictures_used_as_stored_are_written_turned(tmp_path: Path, format_: str) -> None:
    path = photo(tmp_path / "in" / "a.jpg", (100, 80), orientation=6)
    record = Record("a", FilePicture(path, upright=False), (100, 80), boxes=(Box("cat", 60, 20, 100, 60),))
    convert(Dataset((record,), ("cat",)), tmp_path / "out", format_)
    (back,) = read(tmp_path / "out", task="detection").records
    assert back.size == (100, 80)
    assert _edges(back.boxes[0]) == pytest.approx((60, 20, 100, 60), abs=0.1)
    assert back.picture is not None
    assert back.picture.open().size == (100, 80)


@pytest.mark.parametrize("format_", BOX_FORMATS)
def test_pictures_are_referenced_not_copied(tmp_path: Path, format_: str) -> None:
    path = photo(tmp_path / "in" / "a.JPG")
    record = Record("a", FilePicture(path), boxes=(Box("cat", 1, 2, 3, 4),))
    convert(Dataset((record,), ("cat",)), tmp_path / "x" / "out", format_)
    (tmp_path / "x").rename(tmp_path / "y")  # relative paths survive a move of everything
    (back,) = read(tmp_path / "y" / "out").records
    assert isinstance(back.picture, FilePicture)
    assert back.picture.path.samefile(path)
    links = [found for found in (tmp_path / "y").rglob("*.JPG") if not found.is_symlink()]
    assert links == []


def test_crowds_where_the_format_has_no_mark(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    boxes = (Box("cat", 1, 2, 3, 4), Box("cat", 10, 20, 40, 60, crowd=True))
    data = Dataset((Record("a", FilePicture(tmp_path / "a.jpg"), boxes=boxes),), ("cat",))
    for format_ in FORMATS:
        convert(data, tmp_path / format_, format_)
    assert [box.difficult for box in read(tmp_path / "voc")[0].boxes] == [False, True]
    assert [box.crowd for box in read(tmp_path / "coco")[0].boxes] == [False, True]
    assert len(read(tmp_path / "yolo")[0].boxes) == 1
    assert (tmp_path / "jsonl" / "annotations.jsonl").read_text().count(" cat") == 2  # one in the prefix


def test_texts_go_through_jsonl(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    picture = FilePicture(tmp_path / "a.jpg")
    records = (
        Record("1", picture, prefix="answer en how many?", texts=("2", "two")),
        Record("2", picture, texts=("un été",)),
        Record("3", None, prefix="Say hello", texts=("hello",)),
    )
    convert(Dataset(records), tmp_path / "a.jsonl", "jsonl")
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()] == [
        {"image": "a.jpg", "question_id": "1", "prefix": "answer en how many?", "suffix": ["2", "two"]},
        {"image": "a.jpg", "prefix": "", "suffix": "un été"},
        {"id": "3", "prefix": "Say hello", "suffix": "hello"},
    ]


@pytest.mark.parametrize("format_", BOX_FORMATS)
def test_formats_of_boxes_refuse_texts(tmp_path: Path, format_: str) -> None:
    data = Dataset((Record("1", texts=("a",)),), name="captions")
    with pytest.raises(UsageError, match=f"captions: the format {format_} holds boxes, but this data has none"):
        convert(data, tmp_path / "out", format_)
    assert list(tmp_path.iterdir()) == []


def test_class_names_that_are_no_text(tmp_path: Path) -> None:
    data = Dataset((Record("1", size=(9, 9), boxes=(Box(" cat", 1, 2, 3, 4),)),))
    with pytest.raises(DataError, match="begins or ends with white space"):
        convert(data, tmp_path / "out.jsonl", "jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ['<&"é>', "traffic light", "a: b # c", "no", "1"])
@pytest.mark.parametrize("format_", BOX_FORMATS)
def test_class_names_survive(tmp_path: Path, format_: str, name: str) -> None:
    photo(tmp_path / "a.jpg")
    data = Dataset((Record("a", FilePicture(tmp_path / "a.jpg"), boxes=(Box(name, 1, 2, 3, 4),)),))
    convert(data, tmp_path / "out", format_)
    assert read(tmp_path / "out").classes == (name,)


def test_image_ids_are_kept_where_they_are_numbers(tmp_path: Path) -> None:
    boxes = (Box("cat", 1, 2, 3, 4),)
    for ids, expected in (((7, 3), [7, 3]), (("7", 3), [1, 2]), ((7, 7), [1, 2]), ((None, None), [1, 2])):
        records = tuple(Record(f"{n}", size=(9, 9), boxes=boxes, image_id=key) for n, key in enumerate(ids))
        convert(Dataset(records), tmp_path / "a.json", "coco")
        content = json.loads((tmp_path / "a.json").read_text())
        assert [image["id"] for image in content["images"]] == expected
        assert [annotation["image_id"] for annotation in content["annotations"]] == expected
        (tmp_path / "a.json").unlink()


@pytest.mark.parametrize("format_", ["yolo", "jsonl"])
def test_records_of_unknown_size_are_left_out(tmp_path: Path, format_: str) -> None:
    boxes = (Box("cat", 1, 2, 3, 4),)
    known, unknown = Record("a", size=(9, 9), boxes=boxes), Record("b", boxes=boxes)
    (fault,) = convert(Dataset((known, unknown)), tmp_path / "out", format_)
    assert (fault.kind, fault.record) == ("unknown size", "b")
    with pytest.raises(DataError, match=f"no record can be written as {format_}: expected a picture or its size"):
        convert(Dataset((unknown,)), tmp_path / "other", format_)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("format_", FORMATS)
def test_broken_pictures_are_left_out(tmp_path: Path, format_: str) -> None:
    boxes = (Box("cat", 1, 2, 3, 4),)
    broken = Record("b", BytesPicture(b"none", "row 2"), (100, 80), boxes=boxes)
    (fault,) = convert(Dataset((Record("a", Scene("one"), boxes=boxes), broken)), tmp_path / "out", format_)
    assert (fault.kind, fault.record) == ("broken picture", "b")
    assert len(read(tmp_path / "out", task="detection")) == 1


@pytest.mark.parametrize(
    ("format_", "out", "there"),
    [
        ("coco", "a.json", "a.json"),
        ("coco", "a.json", "a_images/x.png"),
        ("yolo", "out", "out/x.txt"),
        ("voc", "out", "out"),
    ],
)
def test_nothing_is_overwritten(tmp_path: Path, format_: str, out: str, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UsageError, match="expected a name that is free, but it exists"):
        convert(_in_memory(), tmp_path / out, format_)
    assert path.read_text() == "mine"
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


@pytest.mark.parametrize("format_", FORMATS)
def test_empty_folders_are_used(tmp_path: Path, format_: str) -> None:
    (tmp_path / "out").mkdir()
    convert(_in_memory(), tmp_path / "out", format_)
    assert len(read(tmp_path / "out", task="detection")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmtune.data.convert.write_voc", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(_in_memory(), tmp_path / "out", "voc")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown format 'vocc': did you mean 'voc'\? Known: coco, jsonl, voc, yolo"):
        convert(_in_memory(), tmp_path / "out", "vocc")
