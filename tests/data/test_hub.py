import json
import pickle
from pathlib import Path

import datasets.config
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from mmtune.data.dataset import FaultLog
from mmtune.data.hub import Hub
from mmtune.data.hub_boxes import Form, form_of, items_of
from mmtune.data.hub_columns import Objects
from mmtune.data.hub_tables import RowPicture
from mmtune.data.images import size_of
from mmtune.data.read import read
from mmtune.data.reader import Source
from mmtune.errors import DataError, UsageError
from mmtune.records import Box

WIDTH, HEIGHT = 64, 48
OBJECTS = {
    "id": List(Value("int64")),
    "bbox": List(List(Value("float32"), length=4)),
    "category": List(ClassLabel(names=["cat", "dog"])),
    "area": List(Value("float32")),
    "is_crowd": List(Value("bool")),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def pixels(level=0):
    return Image.new("RGB", (WIDTH, HEIGHT), (level, 0, 0))


def boxes(*values, categories=None, **more):
    count = len(values)
    listed = {"id": list(range(count)), "area": [12.5] * count, "is_crowd": [False] * count} | more
    return {"bbox": [list(value) for value in values], "category": categories or [0] * count, **listed}


def detection(*objects, **columns):
    features = Features({"image_id": Value("int64"), "image": datasets.Image(), "objects": OBJECTS})
    rows = {
        "image_id": list(range(7, 7 + len(objects))),
        "image": [pixels(i) for i in range(len(objects))],
        "objects": objects,
    }
    for name, (feature, values) in columns.items():
        features[name], rows[name] = feature, values
    return Dataset.from_dict(rows, features=features)


def saved(rows, folder: Path):
    rows.save_to_disk(folder)
    return folder


def shade(record):
    return record.picture.open().getpixel((0, 0))


def load(path: Path, **options):
    log = FaultLog()
    content = Hub().read(Source(path, **options), log)
    return content.records, tuple(content.classes), log.faults


def kinds(faults):
    return [fault.kind for fault in faults]


def test_detection_set_saved_to_disk(tmp_path):
    crowd = boxes((1, 2, 30, 40), (5, 5, 10, 10), categories=[1, 0], is_crowd=[False, True])
    path = saved(detection(crowd, boxes()), tmp_path / "set")
    records, classes, faults = load(path, task="detection")
    assert records[0].boxes == (
        Box("dog", 1, 2, 31, 42, area=12.5),
        Box("cat", 5, 5, 15, 15, crowd=True, area=12.5),
    )
    assert records[1].boxes == ()
    assert [(r.id, r.image_id, r.size) for r in records] == [("7", 7, (WIDTH, HEIGHT)), ("8", 8, (WIDTH, HEIGHT))]
    assert (classes, faults) == (("cat", "dog"), [])
    assert records[1].source == f"{path} row 1"


def test_pictures_stay_on_the_disk_until_they_are_opened(tmp_path):
    records, _, _ = load(saved(detection(boxes(), boxes(), boxes()), tmp_path / "set"))
    picture = records[2].picture
    assert isinstance(picture, RowPicture)
    assert len(pickle.dumps(picture)) < 20_000
    for one in (picture, pickle.loads(pickle.dumps(picture))):
        assert one.open().getpixel((0, 0)) == (2, 0, 0)
        assert one.size() == size_of(one) == (WIDTH, HEIGHT)


def test_rows_that_were_selected_keep_their_own_pictures(tmp_path):
    rows = detection(boxes(), boxes(), boxes()).select([2, 0])
    records, _, _ = load(saved(rows, tmp_path / "set"))
    assert [record.id for record in records] == ["9", "7"]
    assert [shade(record) for record in records] == [(2, 0, 0), (0, 0, 0)]


def test_dataset_dict_has_splits(tmp_path):
    parts = DatasetDict({"test": detection(boxes()), "train": detection(boxes(), boxes())})
    path = saved(parts, tmp_path / "set")
    assert list(Hub().splits(path)) == ["train", "test"]
    assert len(load(path, split="train")[0]) == 2
    records, _, _ = load(path)
    assert [record.id for record in records] == ["7#train:0", "8", "7#test:0"]
    with pytest.raises(DataError, match="unknown split 'validation'"):
        load(path, split="validation")


def test_parquet_files(tmp_path):
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    detection(boxes((1, 2, 3, 4))).to_parquet(folder / "train-00000-of-00002.parquet")
    detection(boxes((2, 2, 3, 4))).to_parquet(folder / "train-00001-of-00002.parquet")
    detection(boxes(), boxes()).to_parquet(folder / "validation-00000-of-00001.parquet")
    path = tmp_path / "set"
    assert Hub().claims(path)
    assert list(Hub().splits(path)) == ["train", "validation"]
    train, classes, faults = load(path, split="train", task="detection")
    assert [record.boxes[0].x0 for record in train] == [1, 2]
    assert (classes, faults) == (("cat", "dog"), [])
    assert len(load(path, split="val")[0]) == 2
    data = read(folder / "validation-00000-of-00001.parquet")
    assert (data.format, len(data)) == ("hub", 2)


def test_parquet_without_the_hubs_types(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels(9).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    rows = {"image": [data, None], "label": [3, 1]}
    pq.write_table(pa.table(rows), tmp_path / "bytes.parquet")
    records, classes, faults = load(tmp_path / "bytes.parquet")
    assert shade(records[0]) == (9, 0, 0)
    assert records[0].texts == ("3",)
    assert (classes, kinds(faults)) == (("3",), ["missing picture", "classes without names"])
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "caption": ["x", "y"]}), tmp_path / "paths.parquet")
    records, _, faults = load(tmp_path / "paths.parquet")
    assert [record.texts for record in records] == [("x",)]
    assert shade(records[0]) == (9, 0, 0)
    assert [(fault.kind, "b.png" in fault.problem) for fault in faults] == [("missing picture", True)]
    cells = [{"bytes": None, "path": "b.png"}, {"bytes": data, "path": "b.png"}, {"bytes": None, "path": "a.png"}]
    pq.write_table(pa.table({"image": cells, "caption": ["x", "y", "z"]}), tmp_path / "structs.parquet")
    records, _, faults = load(tmp_path / "structs.parquet")
    assert [shade(record) for record in records] == [(9, 0, 0)] * 2
    assert kinds(faults) == ["missing picture"]


@pytest.mark.parametrize(
    ("columns", "prefix", "texts", "classes"),
    [
        ({"caption": (Value("string"), "a cat")}, None, ("a cat",), ()),
        ({"captions": (List(Value("string")), ["a", "b"])}, None, ("a", "b"), ()),
        ({"sentences": (List({"raw": Value("string")}), [{"raw": "a"}, {"raw": "b"}])}, None, ("a", "b"), ()),
        ({"text": (Value("string"), "GRAND")}, None, ("GRAND",), ()),
        ({"prefix": (Value("string"), "ocr"), "suffix": (Value("string"), "x")}, "ocr", ("x",), ()),
        ({"question": (Value("string"), "who?"), "answer": (Value("string"), "x")}, "who?", ("x",), ()),
        (
            {"question": (Value("string"), "who?"), "answers": (List({"answer": Value("string")}), [{"answer": "x"}])},
            "who?",
            ("x",),
            (),
        ),
        ({"query": (Value("string"), "how many?"), "label": (List(Value("string")), ["3"])}, "how many?", ("3",), ()),
        ({"label": (ClassLabel(names=["owl", "bee"]), 1)}, None, ("bee",), ("owl", "bee")),
        ({"breed": (ClassLabel(names=["owl", "bee"]), 1)}, None, ("bee",), ("owl", "bee")),
        ({"label": (Value("string"), "owl")}, None, ("owl",), ("owl",)),
        ({"other": (Value("int64"), 1)}, None, (), ()),
    ],
)
def test_texts(tmp_path, columns, prefix, texts, classes):
    features = Features({"image": datasets.Image()} | {name: feature for name, (feature, _) in columns.items()})
    rows = {"image": [pixels()]} | {name: [value] for name, (_, value) in columns.items()}
    path = saved(Dataset.from_dict(rows, features=features), tmp_path / "set")
    records, found, faults = load(path, task="vqa")
    assert (records[0].prefix, records[0].texts, found, faults) == (prefix, texts, classes, [])
    assert records[0].id == "row 0"


def test_texts_without_pictures(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    path = saved(Dataset.from_dict({"text": ["fine", "hm"], "label": [1, -1]}, features=features), tmp_path / "set")
    records, classes, faults = load(path, task="instruct")
    assert [(record.prefix, record.texts, record.picture) for record in records] == [("fine", ("good",), None)]
    assert (classes, kinds(faults)) == (("bad", "good"), ["malformed value"])


def test_paligemma_suffixes(tmp_path):
    rows = {"image": [pixels()], "prefix": ["detect cat"], "suffix": ["<loc0000><loc0000><loc1023><loc1023> cat"]}
    features = Features({"image": datasets.Image(), "prefix": Value("string"), "suffix": Value("string")})
    path = saved(Dataset.from_dict(rows, features=features), tmp_path / "set")
    records, classes, faults = load(path, task="detection")
    assert records[0].boxes == (Box("cat", 0, 0, WIDTH, HEIGHT),)
    assert (records[0].size, classes, faults) == ((WIDTH, HEIGHT), ("cat",), [])


def test_boxes_that_would_leave_the_picture_are_corners(tmp_path):
    path = saved(detection(boxes((30, 20, 60, 40)), boxes((0, 0, 64, 48))), tmp_path / "set")
    records, _, faults = load(path, task="detection")
    assert records[0].boxes[0] == Box("cat", 30, 20, 60, 40, area=12.5)
    assert kinds(faults) == ["boxes are corners"]
    forced, _, faults = load(path, task="detection", options={"boxes": "xywh"})
    assert forced[0].boxes[0] == Box("cat", 30, 20, 64, 48, area=12.5)
    assert kinds(faults) == ["box beyond the picture"]


def test_a_column_says_how_boxes_are_written(tmp_path):
    said = {"bbox_format": (Value("string"), ["pascal_voc", "coco"])}
    path = saved(detection(boxes((10, 10, 20, 20)), boxes((10, 10, 20, 20)), **said), tmp_path / "set")
    records, _, faults = load(path, task="detection")
    assert [record.boxes[0].x1 for record in records] == [20, 30]
    assert faults == []
    wrong = {"bbox_format": (Value("string"), ["centre"])}
    with pytest.raises(DataError, match="row 0: unknown bbox_format 'centre'"):
        load(saved(detection(boxes((1, 1, 2, 2)), **wrong), tmp_path / "wrong"))


@pytest.mark.parametrize(
    ("values", "size", "form"),
    [
        ([(0, 0, 10, 10)], (20, 20), Form(False, False)),
        ([(12, 12, 18, 18)], (20, 20), Form(True, False)),
        ([(12, 12, 10, 10)], (20, 20), Form(False, False)),
        ([(12, 12, 9.5, 10)], (20, 20), Form(False, False)),
        ([(5, 5, 10, 10)] * 99 + [(12, 12, 18, 18)], (20, 20), Form(False, False)),
        ([(0.1, 0.1, 0.5, 0.5)], (20, 20), Form(False, True)),
        ([(0.8, 0.8, 0.9, 0.9)], (200, 200), Form(True, True)),
        ([], (20, 20), Form(False, False)),
    ],
)
def test_form_of_boxes(values, size, form):
    assert form_of([(one, size) for one in values]) == form


def test_boxes_in_fractions(tmp_path):
    records, _, faults = load(saved(detection(boxes((0.25, 0.5, 0.5, 0.25))), tmp_path / "set"), task="detection")
    assert records[0].boxes == (Box("cat", 16, 24, 48, 36, area=12.5),)
    assert kinds(faults) == ["boxes are fractions"]


@pytest.mark.parametrize(
    ("cell", "count", "problems"),
    [
        ({"bbox": [[1, 2, 3, 4]], "category": [0]}, 1, 0),
        ([{"bbox": [1, 2, 3, 4], "category": "cat"}], 1, 0),
        (None, 0, 0),
        ({"bbox": None, "category": None}, 0, 0),
        ({"bbox": [], "category": []}, 0, 0),
        ({"bbox": [[1, 2, 3, 4]], "category": [0, 1]}, 0, 1),
        ({"bbox": [[1, 2, 3], [1, 2, 3, 4]], "category": [0, 1]}, 1, 1),
        ({"bbox": [[1, 2, 3, float("nan")]], "category": [0]}, 0, 1),
        ({"bbox": [[1, 2, 3, 4]], "category": [None]}, 0, 1),
        ({"bbox": [[1, 2, 3, 4]]}, 0, 1),
        ([{"bbox": [1, 2, 3, 4]}, 5], 0, 2),
        ("cat", 0, 1),
    ],
)
def test_items_of_rows(cell, count, problems):
    found = items_of({"objects": cell}, Objects("objects", "bbox", "category", None, None, None))
    assert (len(found[0]), len(found[1])) == (count, problems)


def test_flat_columns_and_categories_without_names(tmp_path):
    features = Features(
        {"image": datasets.Image(), "bbox": List(List(Value("float32"))), "category_id": List(Value("int64"))}
    )
    rows = {"image": [pixels()], "bbox": [[[1, 2, 3, 4], [2, 2, 3, 4]]], "category_id": [[10, 2]]}
    path = saved(Dataset.from_dict(rows, features=features), tmp_path / "set")
    records, classes, faults = load(path, task="detection")
    assert [box.label for box in records[0].boxes] == ["10", "2"]
    assert (classes, kinds(faults)) == (("2", "10"), ["classes without names"])


def test_a_wrong_size_is_a_fault(tmp_path):
    stated = {"width": (Value("int64"), [WIDTH]), "height": (Value("int64"), [HEIGHT + 1])}
    records, _, faults = load(saved(detection(boxes(), **stated), tmp_path / "set"), task="detection")
    assert (records[0].size, kinds(faults)) == ((WIDTH, HEIGHT), ["size disagrees"])


def test_broken_pictures_are_faults(tmp_path):
    features = Features({"image": datasets.Image(), "objects": OBJECTS})
    rows = {"image": [{"bytes": b"none", "path": None}, None], "objects": [boxes((1, 1, 2, 2))] * 2}
    path = saved(Dataset.from_dict(rows, features=features), tmp_path / "set")
    records, _, faults = load(path, task="detection")
    assert list(records) == []
    assert sorted((fault.kind, fault.file) for fault in faults) == [
        ("broken picture", f"{path} row 0"),
        ("missing picture", f"{path} row 1"),
    ]
    assert [record.boxes[0].x1 for record in load(path, need_pictures=False)[0]] == [3]


def metadata(file: Path, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    pixels(3).save(file.parent / "1.png")


def test_folder_with_metadata(tmp_path):
    objects = {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}
    metadata(
        tmp_path / "train" / "metadata.jsonl",
        {"file_name": "1.png", "objects": objects},
        "{broken",
        {"file_name": "2.png", "objects": objects},
        {"objects": objects},
    )
    metadata(tmp_path / "test" / "metadata.jsonl", {"file_name": "1.png", "objects": {"bbox": [], "categories": []}})
    data = read(f"{tmp_path}:train", task="detection")
    file = tmp_path / "train" / "metadata.jsonl"
    assert data.format == "hub"
    assert [(r.id, r.boxes, r.source) for r in data] == [("1.png", (Box("cat", 1, 2, 4, 6),), f"{file}:1")]
    assert data.classes == ("cat",)
    assert [(fault.kind, fault.file) for fault in data.faults] == [
        ("malformed line", f"{file}:2"),
        ("missing picture", f"{file}:3"),
        ("missing picture", f"{file}:4"),
    ]
    assert [record.id for record in read(tmp_path, task="detection")] == ["1.png#train:1", "1.png#test:1"]


def test_folder_with_captions_in_metadata(tmp_path):
    metadata(tmp_path / "metadata.jsonl", {"file_name": "1.png", "text": "a cat"})
    data = read(tmp_path, task="captioning")
    assert (data.format, data[0].texts, data[0].size) == ("hub", ("a cat",), None)


def test_folder_with_metadata_in_csv(tmp_path):
    metadata(tmp_path / "metadata.csv", "file_name,text", '1.png,"a cat, black"')
    data = read(tmp_path, task="captioning")
    assert (data.format, data[0].texts, data.faults) == ("csv", ("a cat, black",), ())
    assert read(tmp_path, task="captioning", format="hub")[0].texts == ("a cat, black",)


def test_no_network_ends_in_one_sentence(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'org/name' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError) as caught:
        read("hf://org/name:train")
    message = str(caught.value)
    assert message.startswith("hf://org/name: expected a data set on the Hugging Face hub, or in its cache, but")
    assert "save_to_disk" in message
    assert "HF_DATASETS_OFFLINE=1" in message
    assert "\n" not in message


def test_a_name_on_the_hub_is_loaded_with_its_options(tmp_path, monkeypatch):
    asked = []

    def answer(name, config, revision):
        asked.append((name, config, revision))
        return DatasetDict({"train": detection(boxes((1, 1, 2, 2))), "test": detection(boxes())})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", answer)
    data = read("hf://org/name:train?name=small&revision=v1", task="detection")
    assert asked == [("org/name", "small", "v1")]
    assert [record.boxes for record in data] == [(Box("cat", 1, 1, 3, 3, area=12.5),)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 none"), "expected parquet files"),
        (lambda folder: (folder / "state.json").write_text("{"), "expected a folder written by save_to_disk"),
        (lambda folder: (folder / "metadata.jsonl").write_text("{"), "metadata.jsonl:1: expected one JSON object"),
        (lambda folder: (folder / "a.txt").write_text("x"), "found none of these"),
        (lambda folder: Dataset.from_dict({"a": [1], "b": [2]}).save_to_disk(folder), "received the columns a, b"),
    ],
)
def test_what_is_no_data_set_ends_in_one_message(tmp_path, make, words):
    folder = tmp_path / "set"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError) as caught:
        load(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_option(tmp_path):
    with pytest.raises(UsageError, match="unknown option of a hub data set 'box': did you mean 'boxes'"):
        load(saved(detection(boxes()), tmp_path / "set"), options={"box": "xyxy"})
    with pytest.raises(UsageError, match="unknown form of boxes 'yolo'"):
        load(saved(detection(boxes()), tmp_path / "other"), options={"boxes": "yolo"})
