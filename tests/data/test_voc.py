"""The reader of Pascal VOC."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from annotation_files import photo, voc_file, voc_object

import mmtune
from mmtune.data.convert import convert
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.reader import Source
from mmtune.data.voc import Voc
from mmtune.errors import DataError, UsageError
from mmtune.records import Box

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path, **options: Any) -> Dataset:
    log = FaultLog()
    content = Voc().read(Source(path, **options), log)
    return Dataset(tuple(content.records), tuple(content.classes), tuple(log.faults))


def test_bccd(shared_data: Path) -> None:
    assert Voc().claims(shared_data / "bccd")
    data = read(shared_data / "bccd")
    boxes = sum(len(record.boxes) for record in data)
    assert (len(data), boxes + len(data.faults)) == (364, 4888)
    assert data.fault_counts == {"box without area": 2}
    assert [fault.record for fault in data.faults] == ["BloodImage_00338", "BloodImage_00343"]
    assert "object 13 (RBC) spans x 504 to 504, y 337 to 337" in data.faults[0].problem
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert {record.size for record in data} == {(640, 480)}
    assert [record.id for record in data] == sorted(record.id for record in data)
    first = data[[record.id for record in data].index("BloodImage_00338")]
    assert first.boxes[0] == Box("RBC", 453, 81, 555, 182)


@pytest.mark.parametrize(("split", "count"), [("train", 205), ("val", 87), ("trainval", 292), ("test", 72)])
def test_bccd_splits(shared_data: Path, split: str, count: int) -> None:
    data = read(shared_data / "bccd", split=split)
    listed = (shared_data / "bccd/ImageSets/Main" / f"{split}.txt").read_text().split()
    assert len(data) == count
    assert [record.id for record in data] == listed
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert set(Voc().splits(shared_data / "bccd")) == {"train", "val", "trainval", "test"}


def test_bare_folder_with_pictures_above(shared_data: Path) -> None:
    data = read(shared_data / "voc_yolo_coco/pascalvoc_format")
    assert (len(data), sum(len(record.boxes) for record in data), data.faults) == (100, 273, ())
    assert sum(box.difficult for record in data for box in record.boxes) == 38
    assert data.classes == tuple(sorted(data.classes))
    assert len(data.classes) == 20
    assert data[0].picture is not None
    assert data[0].picture.name.endswith("voc_yolo_coco/images/2007_000027.jpg")


OFFICIAL = "<source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>"


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        pytest.param(OFFICIAL, {}, (0, 0, 100, 80), id="official: from 1, the last pixel included"),
        pytest.param(OFFICIAL.replace("2007", "2012"), {}, (0, 0, 100, 80), id="VOC2012"),
        pytest.param(OFFICIAL, {"origin": "0"}, (1, 1, 100, 80), id="official, but from 0 by hand"),
        pytest.param("<source><database>Unknown</database></source>", {}, (1, 1, 100, 80), id="another tool"),
        pytest.param("<source><database>roboflow.com</database></source>", {}, (1, 1, 100, 80), id="roboflow"),
        pytest.param("", {}, (1, 1, 100, 80), id="no source"),
        pytest.param("", {"origin": "1"}, (0, 0, 100, 80), id="from 1 by hand"),
    ],
)
def test_official_files_count_pixels_from_1(tmp_path: Path, source: str, options: Any, expected: Any) -> None:
    photo(tmp_path / "a.jpg")
    voc_file(tmp_path / "a.xml", source + voc_object("cat", (1, 1, 100, 80)))
    data = read(tmp_path, options=options)
    assert data[0].boxes == (Box("cat", *expected),)
    assert data.faults == ()


def test_an_official_object_of_one_pixel_has_an_area(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    voc_file(tmp_path / "a.xml", OFFICIAL + voc_object("cat", (7, 9, 7, 9)))
    assert read(tmp_path)[0].boxes == (Box("cat", 6, 8, 7, 9),)


@pytest.mark.parametrize(
    ("address", "said"),
    [("?origin=2", "expected ?origin=0"), ("?start=1", "the format voc takes the options origin alone after '?'")],
)
def test_another_option_is_refused(tmp_path: Path, address: str, said: str) -> None:
    voc_file(tmp_path / "a.xml", voc_object())
    with pytest.raises(UsageError, match=re.escape(said)):
        mmtune.read(f"{tmp_path}{address}", format="voc")


def test_the_address_settles_the_origin(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    voc_file(tmp_path / "a.xml", OFFICIAL + voc_object("cat", (11, 21, 40, 60)))
    boxes = [mmtune.read(f"{tmp_path}{address}")[0].boxes[0] for address in ("", "?origin=0", "?origin=1")]
    assert boxes == [Box("cat", 10, 20, 40, 60), Box("cat", 11, 21, 40, 60), Box("cat", 10, 20, 40, 60)]


def test_real_official_files_are_moved_and_survive_being_written(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "voc_yolo_coco/pascalvoc_format"
    data = read(folder)
    for record in data:
        written = ElementTree.parse(folder / f"{record.id}.xml").getroot()
        edges = [[float(one.findtext(f"bndbox/{edge}") or "") for edge in EDGES] for one in written.iterfind("object")]
        assert [(box.x0 + 1, box.y0 + 1, box.x1, box.y1) for box in record.boxes] == [tuple(four) for four in edges]
    convert(data, tmp_path / "voc", "voc")
    back = mmtune.read(tmp_path / "voc")
    assert [record.boxes for record in back] == [record.boxes for record in data]


def test_edges_are_kept_as_written(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    voc_file(tmp_path / "a.xml", voc_object("cat", (1, 1, 100, 80), "<difficult>1</difficult>") + voc_object("dog"))
    data = read(tmp_path)
    assert data[0].boxes == (Box("cat", 1, 1, 100, 80, difficult=True), Box("dog", 10, 20, 40, 60))
    assert data.faults == ()


def test_parts_are_no_objects(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc_file(tmp_path / "a.xml", voc_object("person", (10.5, 20, 40, 60), part))
    data = read(tmp_path)
    assert data[0].boxes == (Box("person", 10.5, 20, 40, 60),)
    assert data.classes == ("person",)


@pytest.mark.parametrize(
    ("element", "kind", "named"),
    [
        pytest.param(voc_object(edges=(10, 20, 10, 60)), "box without area", "object 1 (cat)", id="no width"),
        pytest.param(voc_object(edges=(40, 20, 10, 60)), "box without area", "x 40 to 10", id="swapped"),
        pytest.param(voc_object(edges=(100, 20, 120, 60)), "box outside the picture", "100 x 80", id="outside"),
        pytest.param(voc_object(edges=("", 20, 40, 60)), "broken box", "'xmin': ''", id="an empty number"),
        pytest.param(voc_object(edges=("nan", 20, 40, 60)), "broken box", "nan", id="nan"),
        pytest.param(voc_object(edges=("ten", 20, 40, 60)), "broken box", "ten", id="a word"),
        pytest.param("<object><name>cat</name></object>", "broken box", "None", id="no bndbox"),
        pytest.param(voc_object(name=" "), "object without name", "object 1", id="no name"),
    ],
)
def test_an_unusable_object_is_a_fault_and_the_rest_is_used(
    tmp_path: Path, element: str, kind: str, named: str
) -> None:
    photo(tmp_path / "a.jpg")
    voc_file(tmp_path / "a.xml", element + voc_object(edges=(1, 2, 3, 4)))
    data = read(tmp_path)
    assert data[0].boxes == (Box("cat", 1, 2, 3, 4),)
    assert data.fault_counts == {kind: 1}
    assert data.faults[0].record == "a"
    assert named in data.faults[0].problem


@pytest.mark.parametrize(
    ("text", "file", "problem"),
    [
        pytest.param("<annotation>\n<object>\n</annotation>", "b.xml:3", "mismatched tag", id="mismatched"),
        pytest.param("", "b.xml:1", "no element found", id="empty"),
        pytest.param("<root/>", "b.xml", "found <root>", id="other root"),
        pytest.param('<?xml version="1.0" encoding="none"?><annotation/>', "b.xml", "expected XML", id="encoding"),
    ],
)
def test_malformed_xml_is_a_fault_and_the_rest_is_used(tmp_path: Path, text: str, file: str, problem: str) -> None:
    for name in "ab":
        photo(tmp_path / f"{name}.jpg")
    voc_file(tmp_path / "a.xml", voc_object())
    (tmp_path / "b.xml").write_text(text)
    data = read(tmp_path)
    assert [record.id for record in data] == ["a"]
    assert data.fault_counts == {"malformed xml": 1}
    assert data.faults[0].file.startswith(str(tmp_path / file))
    assert data.faults[0].record == "b"
    assert problem in data.faults[0].problem


@pytest.mark.parametrize(
    ("pictures", "filename", "found"),
    [
        pytest.param(["JPEGImages/a.jpg"], "a.jpg", "JPEGImages/a.jpg", id="the official layout"),
        pytest.param(["JPEGImages/a.png"], "a.jpg", "JPEGImages/a.png", id="other suffix"),
        pytest.param(["JPEGImages/a.JPG"], "a", "JPEGImages/a.JPG", id="no suffix"),
        pytest.param(["JPEGImages/a.jpg", "JPEGImages/old.jpg"], "old.jpg", "JPEGImages/a.jpg", id="an old name"),
        pytest.param(["JPEGImages/b.jpg"], "b.jpg", "JPEGImages/b.jpg", id="by filename only"),
        pytest.param(["Annotations/a.jpg"], "a.jpg", "Annotations/a.jpg", id="beside"),
        pytest.param(["images/a.jpg"], "/home/x/a.jpg", "images/a.jpg", id="in ../images"),
        pytest.param(["JPEGImages/b.jpg"], "c.jpg", None, id="missing"),
    ],
)
def test_finding_pictures(tmp_path: Path, pictures: list[str], filename: str, found: str | None) -> None:
    for name in pictures:
        photo(tmp_path / name)
    voc_file(tmp_path / "Annotations" / "a.xml", voc_object(), name=filename)
    data = read(tmp_path)
    assert [record.picture.name for record in data] == ([str(tmp_path / found)] if found else [])
    assert data.fault_counts == ({} if found else {"missing picture": 1})
    without = read(tmp_path, need_pictures=False)
    assert len(without) == 1
    assert without.faults == ()


@pytest.mark.parametrize(
    ("orientation", "size", "expected", "upright", "fault"),
    [
        pytest.param(6, "<width>100</width><height>80</height>", (100, 80), False, None, id="as stored"),
        pytest.param(6, "<width>80</width><height>100</height>", (80, 100), True, None, id="upright"),
        pytest.param(None, "<width>0</width><height>0</height>", (100, 80), True, None, id="zeros"),
        pytest.param(None, "", (100, 80), True, None, id="none"),
        pytest.param(None, "<width>80</width><height>100</height>", (100, 80), True, "size disagrees", id="swapped"),
    ],
)
def test_sizes_are_settled(
    tmp_path: Path, orientation: int | None, size: str, expected: tuple[int, int], upright: bool, fault: str | None
) -> None:
    photo(tmp_path / "a.jpg", (100, 80), orientation)
    voc_file(tmp_path / "a.xml", voc_object(), size)
    data = read(tmp_path)
    assert (data[0].size, data[0].picture.upright) == (expected, upright)
    assert data.fault_counts == ({fault: 1} if fault else {})


def test_unreadable_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    voc_file(tmp_path / "a.xml", voc_object())
    data = read(tmp_path)
    assert (len(data), data.fault_counts) == (0, {"broken picture": 1})


def test_lists_of_splits(tmp_path: Path) -> None:
    for name in ("2008_1", "2008_2"):
        photo(tmp_path / "JPEGImages" / f"{name}.jpg")
        voc_file(tmp_path / "Annotations" / f"{name}.xml", voc_object())
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_2\n\n2008_3\n")
    (lists / "cat_train.txt").write_text("2008_1 -1\n2008_2  1\n")
    assert Voc().splits(tmp_path) == ("train",)
    data = read(tmp_path, split="train")
    assert [record.id for record in data] == ["2008_2"]
    assert data.fault_counts == {"no annotation file": 1}
    assert data.faults[0].file == f"{lists / 'train.txt'}:3"
    assert data.faults[0].record == "2008_3"
    assert len(read(tmp_path)) == 2
    with pytest.raises(DataError, match="unknown split 'trian': did you mean 'train'"):
        read(tmp_path, split="trian")


def test_folders_as_splits(tmp_path: Path) -> None:
    for split, name in (("train", "cat"), ("valid", "dog")):
        photo(tmp_path / split / "1.jpg")
        voc_file(tmp_path / split / "1.xml", voc_object(name))
    assert Voc().claims(tmp_path)
    assert Voc().splits(tmp_path) == ("train", "valid")
    data = read(tmp_path)
    assert [(record.id, record.image_id, record.boxes[0].label) for record in data] == [
        ("train/1", "1", "cat"),
        ("valid/1", "1", "dog"),
    ]
    assert data[1].picture.name == str(tmp_path / "valid" / "1.jpg")
    part = read(tmp_path, split="valid")
    assert [record.id for record in part] == ["valid/1"]
    assert part.classes == ("cat", "dog")  # those of all splits
    with pytest.raises(DataError, match=r"unknown split 'val': did you mean 'valid'\? Known: train, valid"):
        read(tmp_path, split="val")


def test_a_single_file(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    path = voc_file(tmp_path / "a.xml", voc_object())
    assert Voc().claims(path)
    assert [record.id for record in read(path)] == ["a"]


def test_claims_by_content(tmp_path: Path) -> None:
    assert not Voc().claims(tmp_path)
    (tmp_path / "pom.xml").write_text("<project/>")
    assert not Voc().claims(tmp_path)
    voc_file(tmp_path / "a.xml")
    assert Voc().claims(tmp_path)
    with pytest.raises(DataError, match="found no XML file"):
        read(tmp_path / "gone")


@pytest.mark.parametrize("folder", ["nuts", "voc_yolo_coco/yolo_format", "aerial", "questions", "receipts", "words"])
def test_claims_nothing_else(shared_data: Path, folder: str) -> None:
    assert not Voc().claims(shared_data / folder)
