"""The reader of YOLO's label files."""

from pathlib import Path
from typing import Any

import pytest
from annotation_files import photo
from pycocotools import mask as coco_mask

from mmtune.data.coco import Coco
from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.reader import Reader, Source
from mmtune.data.voc import Voc
from mmtune.data.yolo import Yolo
from mmtune.errors import DataError
from mmtune.records import Box


def read(path: Path, reader: Reader | None = None, **options: Any) -> Dataset:
    log = FaultLog()
    content = (reader or Yolo()).read(Source(path, **options), log)
    return Dataset(tuple(content.records), tuple(content.classes), tuple(log.faults))


def write(folder: Path, **files: str) -> None:
    """Writes files given by their path with `__` for the slash and a final `_suffix`."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(".".join(path.name.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_darknet(shared_data: Path) -> None:
    path = shared_data / "voc_yolo_coco/yolo_format"
    assert Yolo().claims(path)
    assert Yolo().splits(path) == ("train",)
    data = read(path)
    assert (len(data), sum(len(record.boxes) for record in data), data.faults) == (100, 273, ())
    assert data.classes[:3] == ("person", "cat", "boat")
    assert data.classes == tuple((path / "obj.names").read_text().split())
    assert read(path, split="train").records == data.records
    assert read(path / "obj.data").records == data.records


@pytest.mark.parametrize(
    ("folder", "reader"),
    [("pascalvoc_format", Voc()), ("coco_format_v1", Coco()), ("coco_format_v2", Coco())],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_all_forms_of_the_same_boxes_agree(shared_data: Path, folder: str, reader: Reader) -> None:
    yolo = {record.id: record for record in read(shared_data / "voc_yolo_coco/yolo_format")}
    other = read(shared_data / "voc_yolo_coco" / folder, reader)
    assert {record.id.removesuffix(".jpg") for record in other} == set(yolo)
    for record in other:
        mine = yolo[record.id.removesuffix(".jpg")]
        assert mine.size == record.size
        assert sorted(box.label for box in mine.boxes) == sorted(box.label for box in record.boxes)
        left = list(mine.boxes)
        for box in record.boxes:  # in some other order
            near = [
                found
                for found in left
                if found.label == box.label
                and max(abs(found.x0 - box.x0), abs(found.y0 - box.y0)) <= 2
                and max(abs(found.x1 - box.x1), abs(found.y1 - box.y1)) <= 2
            ]
            assert near, (record.id, box)
            left.remove(near[0])
        assert not left


def one(tmp_path: Path, rows: str, **options: Any) -> Dataset:
    photo(tmp_path / "a.jpg", (100, 80))
    write(tmp_path, obj_names="cat\ndog\n\n", a_txt=rows)
    return read(tmp_path, **options)


def edges(box: Box) -> tuple[float, ...]:
    return tuple(round(edge, 6) for edge in (box.x0, box.y0, box.x1, box.y1))


@pytest.mark.parametrize(
    ("row", "label", "expected"),
    [
        pytest.param("0 0.25 0.5 0.3 0.5", "cat", (10, 20, 40, 60), id="a box"),
        pytest.param("1.0 0.25 0.5 0.3 0.5", "dog", (10, 20, 40, 60), id="a float class"),
        pytest.param("\t0  0.25\t0.5 3e-1 0.5 ", "cat", (10, 20, 40, 60), id="white space"),
        pytest.param("0 0.1 0.25 0.4 0.25 0.4 0.75 0.1 0.75", "cat", (10, 20, 40, 60), id="an outline"),
        pytest.param("0 0.5 0.5 1 1", "cat", (0, 0, 100, 80), id="the whole picture"),
    ],
)
def test_rows(tmp_path: Path, row: str, label: str, expected: tuple[int, ...]) -> None:
    data = one(tmp_path, f"{row}\n\n")
    assert data.faults == ()
    (box,) = data[0].boxes
    assert (box.label, edges(box)) == (label, expected)
    assert data.classes == ("cat", "dog")
    assert data[0].size == (100, 80)


@pytest.mark.parametrize(
    ("row", "kind", "named"),
    [
        pytest.param("0 0.25 0.5 0.3", "wrong number of columns", "expected 5 columns", id="four columns"),
        pytest.param("0 0.25 0.5 0.3 0.5 0.9", "wrong number of columns", "0.9", id="six columns"),
        pytest.param("0 .1 .1 .2 .2 .3 .3 .4", "wrong number of columns", "three points", id="eight columns"),
        pytest.param("2 0.25 0.5 0.3 0.5", "unknown class", "0..1", id="class too high"),
        pytest.param("-1 0.25 0.5 0.3 0.5", "unknown class", "'-1 0.25", id="negative class"),
        pytest.param("0.5 0.25 0.5 0.3 0.5", "unknown class", "0.5", id="half a class"),
        pytest.param("cat 0.25 0.5 0.3 0.5", "not a number", "cat", id="a name"),
        pytest.param("0 0.25 nan 0.3 0.5", "not a number", "nan", id="nan"),
        pytest.param("0 25 40 30 40", "not a fraction", "0..1", id="pixels"),
        pytest.param("0 0.25 0.5 0 0.5", "box without area", "(cat)", id="no width"),
        pytest.param("0 0.25 0.5 -0.3 0.5", "box without area", "(cat)", id="negative width"),
        pytest.param("0 1.5 0.5 0.3 0.5", "box outside the picture", "100 x 80", id="outside"),
    ],
)
def test_an_unusable_row_is_a_fault_and_the_rest_is_used(tmp_path: Path, row: str, kind: str, named: str) -> None:
    data = one(tmp_path, f"1 0.5 0.5 0.2 0.2\n{row}\n")
    assert [box.label for box in data[0].boxes] == ["dog"]
    assert data.fault_counts == {kind: 1}
    assert data.faults[0].file == f"{tmp_path / 'a.txt'}:2"
    assert data.faults[0].record == "a"
    assert named in data.faults[0].problem


def test_boxes_are_clipped(tmp_path: Path) -> None:
    data = one(tmp_path, "0 0.9 0.5 0.4 0.5\n0 0.9 0.5 0.2001 0.5")
    assert [edges(box)[2] for box in data[0].boxes] == [100, 100]
    assert data.fault_counts == {"box beyond the picture": 1}  # the second is within rounding


def test_an_empty_label_file_means_no_objects(tmp_path: Path) -> None:
    data = one(tmp_path, "")
    assert (len(data), data[0].boxes, data.faults) == (1, (), ())


def test_a_label_file_that_is_no_text(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path, data_yaml="names: [cat]\ntrain: images\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")
    data = read(tmp_path)
    assert (len(data), data.fault_counts) == (1, {"broken label file": 1})


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2
def test_outlines_become_masks(tmp_path: Path) -> None:
    rows = "0 0.1 0.25 0.4 0.25 0.4 0.75 0.1 0.75\n1 0.5 0.5 0.2 0.2\n"
    data = one(tmp_path, rows, need_masks=True)
    assert len(data[0].boxes) == 2
    (mask,) = data[0].masks
    assert mask.size == (80, 100)
    pixels = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    assert pixels.sum() == pixels[20:60, 10:40].sum() == 40 * 30
    assert data.fault_counts == {"no mask": 1}  # the row that is a plain box


def test_key_points_are_left_aside(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    row = "0 0.25 0.5 0.3 0.5 0.1 0.1 2 0.9 0.9 2 \n"
    write(tmp_path, data_yaml="kpt_shape: [2, 3]\nnames: [cat]\ntrain: images\n", labels__a_txt=row)
    data = read(tmp_path)
    assert edges(data[0].boxes[0]) == (10, 20, 40, 60)
    assert data.faults == ()


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", "\n  - cat\n  - dog", "\n  1: dog\n  0: cat"])
def test_ultralytics(tmp_path: Path, names: str) -> None:
    for split in ("train", "val"):
        photo(tmp_path / "images" / split / "sub" / f"{split}.jpg")
        write(tmp_path, **{f"labels__{split}__sub__{split}_txt": "1 0.25 0.5 0.3 0.5\n"})
    write(tmp_path, data_yaml=f"path: ../datasets/pets\ntrain: images/train\nval: images/val\ntest:\nnames: {names}\n")
    for path in (tmp_path, tmp_path / "data.yaml"):
        assert Yolo().claims(path)
        assert Yolo().splits(path) == ("train", "val")
        data = read(path)
        assert [record.id for record in data] == ["train/sub/train", "val/sub/val"]
        assert [record.boxes[0].label for record in data] == ["dog", "dog"]
        assert data.classes == ("cat", "dog")
        assert data.faults == ()
        assert [record.id for record in read(path, split="val")] == ["val/sub/val"]
    with pytest.raises(DataError, match=r"unknown split 'vall': did you mean 'val'\? Known: train, val"):
        read(tmp_path, split="vall")


def test_exported_folders_with_paths_that_lead_nowhere(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        photo(tmp_path / split / "images" / "1.jpg")
        write(tmp_path, **{f"{split}__labels__1_txt": "0 0.25 0.5 0.3 0.5\n"})
    write(
        tmp_path,
        data_yaml="train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['cat']\n",
    )
    data = read(tmp_path)
    assert [(record.id, len(record.boxes)) for record in data] == [("train/1", 1), ("valid/1", 1)]
    assert data.fault_counts == {"missing folder": 1}
    assert "split 'test'" in data.faults[0].problem


def test_lists_of_pictures(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / "images" / f"{name}.jpg")
        write(tmp_path, **{f"labels__{name}_txt": "0 0.25 0.5 0.3 0.5\n"})
    write(
        tmp_path,
        data_yaml="train: [train.txt, more.txt]\nval: val.txt\nnames: [cat]\n",
        train_txt="./images/a.jpg\n",
        more_txt=f"{tmp_path}/images/b.jpg\n\n",
        val_txt="images/c.jpg\nimages/a.jpg\nimages/gone.jpg\n",
    )
    assert [record.id for record in read(tmp_path, split="train")] == ["a", "b"]
    data = read(tmp_path)
    assert [record.id for record in data] == ["a", "b", "c"]  # each once
    assert all(record.boxes for record in data)
    assert data.fault_counts == {"missing picture": 1}
    assert data.faults[0].file == f"{tmp_path / 'val.txt'}:3"


def test_lists_of_pictures_in_folders_of_splits(tmp_path: Path) -> None:
    for split, row in (("train", "0 0.25 0.5 0.3 0.5"), ("valid", "1 0.25 0.5 0.3 0.5")):
        photo(tmp_path / split / "images" / "1.jpg")
        write(tmp_path, **{f"{split}__labels__1_txt": row, f"{split}_txt": f"{split}/images/1.jpg\n"})
    write(tmp_path, data_yaml="train: train.txt\nval: valid.txt\nnames: [cat, dog]\n")
    data = read(tmp_path)
    assert [(record.id, record.boxes[0].label) for record in data] == [("train/1", "cat"), ("valid/1", "dog")]
    assert data.faults == ()


def test_pictures_without_labels_and_labels_without_pictures(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "background.jpg")
    write(tmp_path, data_yaml="train: images\nnames: [cat]\n", labels__orphan_txt="0 0.25 0.5 0.3 0.5\n")
    data = read(tmp_path)
    assert [(record.id, record.boxes) for record in data] == [("background", ())]
    assert data.fault_counts == {"no label file": 1, "missing picture": 1}
    assert {fault.record for fault in data.faults} == {"background", "orphan"}
    assert len(read(tmp_path, need_pictures=False)) == 1  # without a size there are no pixels


@pytest.mark.parametrize(
    ("labels", "pictures", "splits", "ids"),
    [
        pytest.param(["a_txt"], ["a.jpg"], (), ["a"], id="beside"),
        pytest.param(["labels__a_txt"], ["images/a.jpg"], (), ["a"], id="labels and images"),
        pytest.param(["labels__train__a_txt"], ["images/train/a.jpg"], ("train",), ["train/a"], id="labels/train"),
        pytest.param(["train__labels__a_txt"], ["train/images/a.jpg"], ("train",), ["train/a"], id="train/labels"),
        pytest.param(["obj_valid_data__a_txt"], ["obj_valid_data/a.PNG"], ("valid",), ["a"], id="obj_valid_data"),
    ],
)
def test_folders_with_names_only(
    tmp_path: Path, labels: list[str], pictures: list[str], splits: tuple[str, ...], ids: list[str]
) -> None:
    write(tmp_path, classes_txt="cat\ndog\n", **dict.fromkeys(labels, "1 0.25 0.5 0.3 0.5\n"))
    for name in pictures:
        photo(tmp_path / name)
    assert Yolo().claims(tmp_path)
    assert Yolo().splits(tmp_path) == splits
    data = read(tmp_path)
    assert ([record.id for record in data], data.faults) == (ids, ())
    assert data[0].boxes[0].label == "dog"
    assert data[0].picture.name == str(tmp_path / pictures[0])


def test_unreadable_picture(tmp_path: Path) -> None:
    write(tmp_path, data_yaml="train: images\nnames: [cat]\n", labels__a_txt="0 0.25 0.5 0.3 0.5\n", images__a_jpg="no")
    data = read(tmp_path)
    assert (len(data), data.fault_counts) == (0, {"broken picture": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("train: images\nnames: []\n", "expected class names", id="no names"),
        pytest.param("train: images\nnames: [cat\n", r"data\.yaml:\d: expected YAML", id="malformed"),
    ],
)
def test_unusable_configurations(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, data_yaml=text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "claimed"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"data_yaml": "names: [cat]\n"}, False, id="a yaml without splits"),
        pytest.param({"docker_yml": "services: {}\n"}, False, id="another yaml"),
        pytest.param({"classes_txt": "cat\n", "a_txt": "once upon a time\n"}, False, id="texts"),
        pytest.param({"classes_txt": "cat\n"}, False, id="names alone"),
        pytest.param({"obj_names": "cat\n", "a_txt": ""}, True, id="an empty label file"),
        pytest.param({"obj_data": "names = data/gone.names\n"}, False, id="names that are gone"),
    ],
)
def test_claims(tmp_path: Path, files: dict[str, str], claimed: bool) -> None:
    write(tmp_path, **files)
    assert Yolo().claims(tmp_path) == claimed


@pytest.mark.parametrize(
    "folder", ["nuts", "bccd", "voc_yolo_coco", "aerial", "questions", "receipts", "words", "lines"]
)
def test_claims_nothing_else(shared_data: Path, folder: str) -> None:
    assert not Yolo().claims(shared_data / folder)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(BOMB + "names: *i\ntrain: images\n", "aliases stand for more", id="a billion values by aliases"),
        pytest.param("names: &a [*a]\ntrain: images\n", "within", id="an alias in itself"),
        pytest.param("names: " + "[" * 5000 + "]" * 5000 + "\ntrain: images\n", "plain YAML", id="nested deep"),
        pytest.param("names: [" + "x, " * 1_500_000 + "]\ntrain: images\n", "at most 4,000,000 characters", id="long"),
        pytest.param("names: [a, 2024-99-99]\ntrain: images\n", "plain YAML", id="an impossible date"),
        pytest.param(
            "names: [a]\nx: !!python/object:os.system {}\ntrain: images\n", "could not determine", id="an object"
        ),
        pytest.param("names: [a\0]\ntrain: images\n", "expected YAML", id="a control character"),
    ],
)
def test_yaml_that_grows_when_it_is_read_is_refused(tmp_path, text, said):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_aliases_may_be_used(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text("all: &names [cat, dog]\nnames: *names\ntrain: images\n")
    assert read(tmp_path).classes == ("cat", "dog")
