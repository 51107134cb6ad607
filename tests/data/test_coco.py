"""The reader of COCO instances: images, annotations, masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import coco_box, coco_file, photo
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmtune.data import coco as coco_module
from mmtune.data.coco import Coco
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.reader import Source
from mmtune.records import Box, Record


def read(path: Path, **options: Any) -> Dataset:
    log = FaultLog()
    content = Coco().read(Source(path, **options), log)
    return Dataset(tuple(content.records), tuple(content.classes), tuple(log.faults))


def read_one(tmp_path: Path, *annotations: Any, **options: Any) -> tuple[Record, Dataset]:
    photo(tmp_path / "a.jpg")
    data = read(coco_file(tmp_path / "a.json", list(annotations)), **options)
    return data[0], data


def test_nuts(shared_data: Path) -> None:
    data = read(shared_data / "nuts", need_masks=True)
    assert (len(data), sum(len(record.boxes) for record in data)) == (18, 165)
    assert data.classes == ("date", "fig", "hazelnut")
    assert data.faults == ()
    assert {record.size for record in data} == {(800, 600)}
    assert data[0].image_id == 0  # ids from 0 are ids too
    assert data[2].id == "10.jpg"
    assert data[2].picture is not None
    assert data[2].picture.open().size == (800, 600)


@pytest.mark.parametrize("name", ["nuts/trainval.json", "gold/coco_map/instances_val2014_100.json"])
def test_masks_and_boxes_agree_with_the_official_reader(shared_data: Path, name: str) -> None:
    official: Any = COCO(str(shared_data / name))
    data = read(shared_data / name, need_pictures=False, need_masks=True)
    assert [record.image_id for record in data] == [image["id"] for image in official.dataset["images"]]
    crowds = 0
    for record in data:
        annotations = official.loadAnns(official.getAnnIds(imgIds=[record.image_id]))
        assert len(annotations) == len(record.boxes) == len(record.masks)
        for annotation, box, mask in zip(annotations, record.boxes, record.masks, strict=True):
            assert box.label == official.cats[annotation["category_id"]]["name"] == mask.label
            x, y, w, h = annotation["bbox"]
            assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((x, y, x + w, y + h), abs=0.5)
            assert box.area == annotation["area"]
            assert box.crowd == mask.crowd == bool(annotation["iscrowd"])
            assert mask.counts == official.annToRLE(annotation)["counts"]
            crowds += box.crowd
    assert crowds == sum(annotation["iscrowd"] for annotation in official.dataset["annotations"])


def test_official_crowds_are_there(shared_data: Path) -> None:
    data = read(shared_data / "gold/coco_map/instances_val2014_100.json", need_pictures=False)
    assert sum(box.crowd for record in data for box in record.boxes) == 9
    assert all(record.masks == () for record in data)


def test_ids_may_be_numbers_and_strings(shared_data: Path) -> None:
    data = read(shared_data / "gold/coco_map/gt_ignore_test.json", need_pictures=False)
    assert len(data) == 1
    assert len(data[0].boxes) == 14
    assert sum(box.crowd for box in data[0].boxes) == 1
    assert data.faults == ()


def test_visdrone_without_pictures(shared_data: Path) -> None:
    path = shared_data / "aerial/visdrone2019-det-train-first50image.json"
    data = read(path, need_pictures=False)
    assert (len(data), sum(len(record.boxes) for record in data)) == (50, 3326)
    assert data.classes == ("human", "vehicle")  # category ids start at 0
    assert data.faults == ()
    assert data[0].picture is None
    assert data[0].size == (1400, 1050)
    assert sum(not record.boxes for record in data) == 2  # listed without annotations, and kept
    missing = read(path)
    assert len(missing) == 0
    assert missing.fault_counts == {"missing picture": 50}


def test_aerial(shared_data: Path) -> None:
    data = read(shared_data / "aerial/terrain_all_coco.json")
    assert [record.id for record in data] == ["terrain2.png", "terrain1.jpg"]
    assert [len(record.boxes) for record in data] == [5, 7]
    assert data.fault_counts == {"missing picture": 1}
    assert "terrain3.png" in data.faults[0].problem
    assert data[0].boxes[0].area == 698368  # the whole picture's, as annotated
    splits = Coco().splits(shared_data / "aerial")
    assert "terrain1_coco" in splits
    assert "terrain1" not in splits  # a file of another tool
    folder = read(shared_data / "aerial")
    assert sorted(record.id for record in folder) == ["terrain1.jpg", "terrain2.png"]  # each once


@pytest.mark.parametrize(("folder", "first"), [("coco_format_v1", "cat"), ("coco_format_v2", "aeroplane")])
def test_class_order_is_the_files(shared_data: Path, folder: str, first: str) -> None:
    data = read(shared_data / "voc_yolo_coco" / folder)
    assert (len(data), sum(len(record.boxes) for record in data), data.faults) == (100, 273, ())
    assert data.classes[:2] == ("person", first)


def test_a_plain_box(tmp_path: Path) -> None:
    record, data = read_one(tmp_path, coco_box(area=123, iscrowd=1), coco_box(category_id=2))
    assert record.boxes == (Box("cat", 10, 20, 40, 60, crowd=True, area=123.0), Box("dog", 10, 20, 40, 60))
    assert (record.id, record.image_id, record.size) == ("a.jpg", 1, (100, 80))
    assert data.classes == ("cat", "dog")
    assert data.faults == ()


def test_a_picture_without_annotations_is_kept(tmp_path: Path) -> None:
    record, data = read_one(tmp_path)
    assert record.boxes == ()
    assert data.faults == ()


@pytest.mark.parametrize(
    ("annotation", "kind", "named"),
    [
        pytest.param(coco_box([10, 20, 0, 40]), "box without area", "annotation 7 (cat)", id="no width"),
        pytest.param(coco_box([10, 20, 30, -1]), "box without area", "y 20 to 19", id="negative height"),
        pytest.param(coco_box([100, 20, 30, 40]), "box outside the picture", "100 x 80", id="to the right"),
        pytest.param(coco_box([-30, 20, 30, 40]), "box outside the picture", "x -30 to 0", id="to the left"),
        pytest.param(coco_box([10, 20, 30]), "broken box", "[10, 20, 30]", id="three numbers"),
        pytest.param(coco_box([10, 20, 30, float("nan")]), "broken box", "nan", id="nan"),
        pytest.param(coco_box([10, 20, 30, float("inf")]), "broken box", "inf", id="infinite"),
        pytest.param(coco_box(["10", 20, 30, 40]), "broken box", "'10'", id="a string in it"),
        pytest.param(coco_box("10 20 30 40"), "broken box", "'10 20 30 40'", id="a string"),
        pytest.param(coco_box([10, 20, 30, True]), "broken box", "True", id="a boolean"),
        pytest.param(coco_box(None), "broken box", "None", id="null"),
        pytest.param({"id": 7, "image_id": 1, "category_id": 1}, "broken box", "found none", id="no bbox"),
        pytest.param(coco_box(category_id=3), "unknown category", "3", id="unknown category"),
        pytest.param(coco_box(category_id=None), "unknown category", "None", id="no category"),
        pytest.param(coco_box(image_id=2), "unknown image", "2", id="unknown image"),
        pytest.param({"bbox": [1, 1, 1, 1]}, "unknown image", "annotations[0]", id="no ids at all"),
        pytest.param("a box", "broken entry", "annotations[0]", id="no object"),
    ],
)
def test_an_unusable_annotation_is_a_fault_and_the_rest_is_used(
    tmp_path: Path, annotation: Any, kind: str, named: str
) -> None:
    record, data = read_one(tmp_path, annotation, coco_box([1, 2, 3, 4]))
    assert record.boxes == (Box("cat", 1, 2, 4, 6),)
    assert data.fault_counts == {kind: 1}
    assert named in data.faults[0].problem
    assert "left out" in data.faults[0].problem
    assert data.faults[0].file == str(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("bbox", "expected", "faults"),
    [
        pytest.param([90, 70, 30, 40], (90, 70, 100, 80), 1, id="beyond right and bottom"),
        pytest.param([-10, -20, 30, 40], (0, 0, 20, 20), 1, id="beyond left and top"),
        pytest.param([90, 70, 11, 10], (90, 70, 100, 80), 1, id="by one pixel"),
        pytest.param([0, 0, 100, 80], (0, 0, 100, 80), 0, id="the whole picture"),
        pytest.param([0, 0, 100.3, 80.5], (0, 0, 100, 80), 0, id="by rounding"),
    ],
)
def test_boxes_are_clipped_to_the_picture(
    tmp_path: Path, bbox: list[float], expected: tuple[int, int, int, int], faults: int
) -> None:
    record, data = read_one(tmp_path, coco_box(bbox))
    assert record.boxes == (Box("cat", *expected),)
    assert data.fault_counts == ({"box beyond the picture": faults} if faults else {})


def test_duplicates_and_broken_entries(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}
    data = read(
        coco_file(
            tmp_path / "x.json",
            [coco_box(image_id="1"), coco_box(image_id=2.0, category_id="5")],
            images=[
                image,
                image | {"file_name": "b.jpg"},
                {"file_name": "b.jpg"},
                {"id": "2", "file_name": "b.jpg"},
                3,
            ],
            categories=[
                {"id": 1, "name": "cat"},
                {"id": 1, "name": "dog"},
                {"id": 5, "name": "cat"},
                {"id": 6},
                {"name": "cow"},
            ],
        )
    )
    assert [(record.id, record.image_id, len(record.boxes)) for record in data] == [("a.jpg", 1, 1), ("b.jpg", "2", 1)]
    assert data.classes == ("cat",)
    assert data.fault_counts == {
        "broken category": 2,
        "broken entry": 1,
        "duplicate category": 1,
        "duplicate image id": 1,
        "picture without id": 1,
    }


def test_a_picture_listed_twice_with_other_boxes(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    images = [{"id": key, "file_name": "a.jpg", "width": 100, "height": 80} for key in (1, 2, 3)]
    data = read(coco_file(tmp_path / "x.json", [coco_box(), coco_box(image_id=2)], images=images))
    assert [len(record.boxes) for record in data] == [1]
    assert data.fault_counts == {"duplicate record": 1}  # the third differs as well: it has no boxes


@pytest.mark.parametrize(
    ("orientation", "stated", "size", "upright", "fault"),
    [
        pytest.param(None, (100, 80), (100, 80), True, None, id="agrees"),
        pytest.param(6, (80, 100), (80, 100), True, None, id="annotated upright"),
        pytest.param(6, (100, 80), (100, 80), False, None, id="annotated as stored"),
        pytest.param(None, (80, 100), (100, 80), True, "size disagrees", id="width and height swapped"),
        pytest.param(None, (50, 40), (100, 80), True, "size disagrees", id="other resolution"),
        pytest.param(None, (0, 0), (100, 80), True, None, id="zero is unknown"),
        pytest.param(None, (None, None), (100, 80), True, None, id="unknown"),
        pytest.param(None, ("100", "80"), (100, 80), True, None, id="strings"),
    ],
)
def test_sizes_are_settled(
    tmp_path: Path, orientation: int | None, stated: Any, size: tuple[int, int], upright: bool, fault: str | None
) -> None:
    photo(tmp_path / "a.jpg", (100, 80), orientation)
    image = {"id": 1, "file_name": "a.jpg", "width": stated[0], "height": stated[1]}
    data = read(coco_file(tmp_path / "a.json", [coco_box()], images=[image]))
    assert data[0].size == size
    assert data[0].picture.upright == upright
    assert data[0].picture.open().size == size
    assert data.fault_counts == ({fault: 1} if fault else {})


@pytest.mark.parametrize("limit", [1, 2, 3, 5000])
def test_headers_are_sampled_until_one_disagrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(coco_module, "_CHECKED", limit)
    images = []
    for number in range(6):
        photo(tmp_path / f"{number}.jpg", (100, 80), orientation=6)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80})
    data = read(coco_file(tmp_path / "x.json", [], images=[*images, {"id": 9, "file_name": "gone.jpg"}]))
    assert [record.picture.upright for record in data] == [False] * 6
    assert data.fault_counts == {"missing picture": 1}  # not once a pass


def test_truth_without_pictures_has_no_faults(tmp_path: Path) -> None:
    path = coco_file(tmp_path / "a.json", [coco_box()], images=[{"id": 1, "file_name": "gone.jpg"}])
    data = read(path, need_pictures=False, need_masks=True)
    assert data[0].picture is None
    assert data[0].size is None
    assert data[0].boxes == (Box("cat", 10, 20, 40, 60),)
    assert data.fault_counts == {"no mask": 1}  # of a size that nothing tells
    assert read(path, need_pictures=False).faults == ()


def test_unreadable_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    data = read(coco_file(tmp_path / "a.json", [coco_box(), coco_box()]))
    assert len(data) == 0
    assert data.fault_counts == {"broken picture": 1}  # its annotations are not counted again


SQUARE = [10, 20, 40, 20, 40, 60, 10, 60]
RUNS = [20 + 80 * 10, 40] + [40, 40] * 29 + [20 + 80 * 60]
SQUARE_PIXELS = np.zeros((80, 100), np.uint8)
SQUARE_PIXELS[20:60, 10:40] = 1
COMPRESSED: Any = coco_mask.encode(np.asfortranarray(SQUARE_PIXELS))["counts"]


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2
@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param([SQUARE], id="polygon"),
        pytest.param(SQUARE, id="polygon without the outer list"),
        pytest.param([[10, 20, 40, 20, 40, 40, 10, 40], [10, 40, 40, 40, 40, 60, 10, 60]], id="two polygons"),
        pytest.param({"size": [80, 100], "counts": RUNS}, id="run lengths"),
        pytest.param({"size": [80, 100], "counts": COMPRESSED.decode()}, id="compressed run lengths"),
    ],
)
def test_all_forms_of_masks_agree(tmp_path: Path, segmentation: Any) -> None:
    record, data = read_one(tmp_path, coco_box(segmentation=segmentation, iscrowd=1), need_masks=True)
    assert data.faults == ()
    (mask,) = record.masks
    assert (mask.label, mask.size, mask.crowd) == ("cat", (80, 100), True)
    pixels = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    assert np.array_equal(pixels, SQUARE_PIXELS)


@pytest.mark.parametrize(
    ("segmentation", "kind", "masks"),
    [
        pytest.param(None, "no mask", 0, id="null"),
        pytest.param([], "no mask", 0, id="empty list"),
        pytest.param([[]], "broken mask", 0, id="empty polygon"),
        pytest.param([[1, 2, 3, 4]], "broken mask", 0, id="two points"),
        pytest.param([[1, 2, 3, 4, 5, 6, 7]], "broken mask", 0, id="odd count"),
        pytest.param([[1, 2, 3, 4, 5, "6"]], "broken mask", 0, id="a string"),
        pytest.param([[1, 2, 3, 4, 5, 1e12]], "broken mask", 0, id="a far point"),
        pytest.param([SQUARE, [1, 2]], "broken mask", 1, id="one of two"),
        pytest.param([[10, 20, 10, 20, 10, 20]], "mask without area", 0, id="a point"),
        pytest.param({"size": [100, 80], "counts": RUNS}, "broken mask", 0, id="width first"),
        pytest.param({"size": [80, 100], "counts": RUNS[:-1]}, "broken mask", 0, id="too few pixels"),
        pytest.param({"size": [80, 100], "counts": COMPRESSED.decode()[:-2]}, "broken mask", 0, id="cut short"),
        pytest.param({"size": [80, 100], "counts": "\x01\x02"}, "broken mask", 0, id="not the alphabet"),
        pytest.param({"size": [80, 100]}, "broken mask", 0, id="no counts"),
        pytest.param({"size": [80, 100], "counts": [8000]}, "mask without area", 0, id="nothing set"),
        pytest.param("a mask", "broken mask", 0, id="a string for all"),
    ],
)
def test_unusable_masks_are_faults_and_their_boxes_stay(
    tmp_path: Path, segmentation: Any, kind: str, masks: int
) -> None:
    record, data = read_one(tmp_path, coco_box(segmentation=segmentation), need_masks=True)
    assert len(record.boxes) == 1
    assert len(record.masks) == masks
    assert data.fault_counts == {kind: 1}
    assert "annotation 7 (cat)" in data.faults[0].problem


def test_masks_only_when_asked_for(tmp_path: Path) -> None:
    record, data = read_one(tmp_path, coco_box(segmentation="a mask"))
    assert record.masks == ()
    assert data.faults == ()
