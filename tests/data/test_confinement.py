"""What a stranger's data set may not do: reach a file outside its own folder, by any reader and any way of naming it.

`UPLOADS` has an entry for every reader, so that a new one cannot be added without standing here.
"""

import ast
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from annotation_files import coco_box, coco_file, photo, voc_file, voc_object

import mmtune.data
from mmtune.data.confinement import confined, is_inside, open_file
from mmtune.data.images import FilePicture, size_of
from mmtune.data.read import read, reader_names
from mmtune.errors import DataError, UsageError

_opened: list[str] | None = None


def _listen(event: str, args: tuple) -> None:
    if _opened is not None and event in ("open", "os.listdir", "os.scandir"):
        _opened.append(os.fspath(args[0]) if isinstance(args[0], str | Path) else "")


sys.addaudithook(_listen)


def opened_by(work: Callable[[], object]) -> tuple[list[str], object]:
    """Returns the real paths of all files and folders that are opened, and the result or the error."""
    global _opened
    _opened = []
    try:
        result = work()
    except (DataError, UsageError) as error:
        result = error
    finally:
        found, _opened = _opened, None
    return [os.path.realpath(path) for path in found], result


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def put(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text if isinstance(text, str) else json.dumps(text))


def coco(folder, name):
    images = [{"id": 1, "file_name": name, "width": 100, "height": 80}]
    coco_file(folder / "annotations" / "instances.json", [coco_box()], images=images)


def refcoco(folder, name):
    images = [{"id": 1, "file_name": name, "width": 100, "height": 80}]
    coco_file(folder / "instances.json", [coco_box()], images=images)
    put(folder / "refs.json", [{"ref_id": 1, "ann_id": 7, "image_id": 1, "sentences": [{"sent": "cat"}]}])


def coco_captions(folder, name):
    images = [{"id": 1, "file_name": name}]
    put(folder / "captions.json", {"images": images, "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]})


def vqa(folder, name):
    put(folder / "q.json", {"questions": [{"image": name, "image_id": 5, "question": "What?", "question_id": 9}]})
    answers = [{"answer": "cat", "answer_id": 1}]
    put(folder / "a.json", {"annotations": [{"question_id": 9, "image_id": 5, "answers": answers}]})


def yolo(folder, name):
    put(folder / "data.yaml", f"names: [cat]\ntrain: {Path(name).parent if '/' in name else 'images'}\n")
    put(folder / "labels" / f"{Path(name).stem}.txt", "0 .5 .5 .2 .2\n")
    if "/" not in name:
        (folder / "images").mkdir()
        shutil.move(folder / name, folder / "images" / name)


def table(name):
    features = {"image": datasets.Value("string"), "caption": datasets.Value("string")}
    return datasets.Dataset.from_dict({"image": [name], "caption": ["a cat"]}, features=datasets.Features(features))


def saved_on_disk(folder, name):
    table(name).save_to_disk(folder / "set")
    for file in (folder / "set").iterdir():
        shutil.move(file, folder / file.name)
    (folder / "set").rmdir()


IMAGE = datasets.Image()
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
UPLOADS: dict[str, list[Callable[[Path, str], object]]] = {
    "refcoco": [refcoco],
    "coco": [coco],
    "coco_captions": [coco_captions],
    "flickr": [lambda folder, name: put(folder / "x.token.txt", f"{name}#0\ta cat\n")],
    "voc": [lambda folder, name: voc_file(folder / "a.xml", voc_object(), name=name)],
    "yolo": [
        yolo,
        lambda folder, name: [
            put(folder / "data.yaml", "names: [cat]\ntrain: train.txt\n"),
            put(folder / "train.txt", name),
            put(folder / f"{Path(name).stem}.txt", "0 .5 .5 .2 .2\n"),
        ],
    ],
    "chat": [
        lambda folder, _: put(folder / "chat.jsonl", {"messages": TURNS}),
    ],
    "vqa": [vqa],
    "receipts": [lambda folder, name: put(folder / "box" / f"{Path(name).stem}.csv", "1,2,6,2,6,8,1,8,TOTAL\n")],
    "text_lines": [lambda folder, name: put(folder / f"{Path(name).stem}.gt.txt", "word")],
    "jsonl": [lambda folder, name: put(folder / "x.jsonl", lines({"image": name, "suffix": "a cat"}))],
    "word_labels": [lambda folder, name: put(folder / "labels.txt", f"{name}\tword\n")],
    "csv": [lambda folder, name: put(folder / "x.csv", f"image,caption\n{name},a cat\n")],
    "folder": [lambda folder, _: (folder / "cat").mkdir() or photo(folder / "cat" / "b.jpg")],
    "hub": [
        lambda folder, name: put(folder / "metadata.jsonl", lines({"file_name": name, "text": "a cat"})),
        lambda folder, name: table(name).to_parquet(folder / "x.parquet"),
        saved_on_disk,
    ],
    "shapes": [],  # generated: no files
}
CASES = [
    pytest.param(name, build, id=f"{name}-{number}")
    for name, builds in UPLOADS.items()
    for number, build in enumerate(builds)
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def places(tmp_path):
    """A folder for uploads with one in it, and a secret place beside them: (upload, secret)."""
    upload, secret = tmp_path / "uploads" / "mine", tmp_path / "uploads" / "secret"
    upload.mkdir(parents=True)
    photo(secret / "a.jpg")
    return upload, secret


def records_of(address, name):
    found = read(address, format=name)
    for record in found:
        if record.picture is not None:
            with contextlib.suppress(DataError):
                record.picture.open()
    return found


def test_every_reader_stands_here():
    assert UPLOADS.keys() == set(reader_names())


@pytest.mark.parametrize(("name", "build"), CASES)
def test_an_upload_is_read_as_ever(places, name, build):
    upload, _ = places
    photo(upload / "a.jpg")
    build(upload, "a.jpg")
    found = records_of(f"{upload}?confined=1", name)
    assert len(found) >= 1
    assert repr(found.records) == repr(read(upload, format=name).records)


@pytest.mark.parametrize("way", ["absolute", "parent"])
@pytest.mark.parametrize(("name", "build"), CASES)
def test_files_named_outside_are_not_opened(places, name, build, way):
    upload, secret = places
    target = str(secret / "a.jpg") if way == "absolute" else "../secret/a.jpg"
    build(upload, target)
    opened, result = opened_by(lambda: records_of(f"{upload}?confined=1", name))
    assert not [path for path in opened if path.startswith(str(secret))]
    shutil.rmtree(secret)
    _, without = opened_by(lambda: records_of(f"{upload}?confined=1", name))
    # Nor is it told whether there is such a file.
    assert getattr(result, "faults", str(result)) == getattr(without, "faults", str(without))


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "yolo"])
def test_the_same_names_are_followed_where_nobody_forbids_it(places, name):
    upload, secret = places
    UPLOADS[name][0](upload, str(secret / "a.jpg"))
    opened, result = opened_by(lambda: records_of(upload, name))
    assert str(secret / "a.jpg") in opened
    assert len(result) == 1


@pytest.mark.parametrize(("name", "build"), CASES)
def test_links_out_of_an_upload_are_not_followed(places, name, build):
    upload, secret = places
    photo(upload / "a.jpg")
    build(upload, "a.jpg")
    files = [file for file in upload.rglob("*") if file.is_file()]
    for file in files:
        hidden = secret / f"hidden-{file.name}"
        shutil.move(file, hidden)
        file.symlink_to(hidden)
        opened, _ = opened_by(lambda: records_of(f"{upload}?confined=1", name))
        assert not [path for path in opened if path.startswith(str(secret))], file
        file.unlink()
        shutil.move(hidden, file)


def test_class_names_come_from_no_other_file(places):
    upload, secret = places
    put(secret / "passwd", "root:x:0:0\nnobody:x:1:1\n")
    put(upload / "obj.data", f"classes = 2\nnames = {secret / 'passwd'}\ntrain = train.txt\n")
    put(upload / "train.txt", "a.jpg\n")
    photo(upload / "a.jpg")
    put(upload / "a.txt", "0 .5 .5 .2 .2\n")
    with pytest.raises(DataError) as error:
        read(f"{upload}?confined=1", format="yolo", task="detection")
    assert "root:x" not in str(error.value)
    assert read(upload, format="yolo", task="detection").classes == ("root:x:0:0", "nobody:x:1:1")


def test_tables_outside_a_saved_data_set_are_not_opened(places):
    upload, secret = places
    datasets.Dataset.from_dict({"text": ["secret"]}).save_to_disk(secret / "set")
    shutil.copytree(secret / "set", upload, dirs_exist_ok=True)
    state = json.loads((upload / "state.json").read_text())
    (file,) = state["_data_files"]
    file["filename"] = f"../secret/set/{file['filename']}"
    put(upload / "state.json", state)
    opened, result = opened_by(lambda: read(f"{upload}?confined=1"))
    assert isinstance(result, DataError)
    assert not [path for path in opened if path.startswith(str(secret))]


def test_cells_are_not_decoded_from_files_or_addresses_that_they_name(places):
    """Names of classes may be declared as pictures: the library's own iteration would open what its cells name."""
    upload, secret = places
    photo(upload / "a.jpg")
    objects = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))), "category": datasets.List(IMAGE)}
    features = datasets.Features({"image": datasets.Value("string"), "objects": objects})
    category = [{"path": str(secret / "a.jpg"), "bytes": None}]
    rows = {"image": ["a.jpg"], "objects": [{"bbox": [[1, 2, 3, 4]], "category": category}]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(upload / "x.parquet")
    opened, _ = opened_by(lambda: read(f"{upload}?confined=1", format="hub"))
    assert not [path for path in opened if path.startswith(str(secret))]


def test_a_picture_carries_its_root_to_where_it_is_opened(places):
    upload, secret = places
    with confined(upload):
        outside, inside = FilePicture(secret / "a.jpg"), FilePicture(photo(upload / "b.jpg"))
    assert size_of(inside) == (100, 80)
    assert inside.open().size == (100, 80)
    for look in (size_of, FilePicture.open):
        with pytest.raises(DataError, match="leads out of the data set's folder"):
            look(outside)


def test_roots_nest_and_end(places):
    upload, secret = places
    assert is_inside(secret)
    with confined(upload):
        assert not is_inside(secret)
        with confined(None):
            assert not is_inside(secret)
        assert is_inside(upload / "there" / ".." / "a.jpg")
        assert not is_inside(upload / "there" / ".." / ".." / "secret")
    assert is_inside(secret)
    with pytest.raises(PermissionError):
        open_file(secret / "a.jpg", upload)


@pytest.mark.parametrize("address", ["shapes?confined=1", "hf://a/b?confined=1"])
def test_only_files_and_folders_are_confined(address):
    with pytest.raises(UsageError, match="for files and folders"):
        read(address)


def test_the_option_is_on_or_off(places):
    upload, _ = places
    with pytest.raises(UsageError, match="expected confined=0 or confined=1, received confined=yes"):
        read(f"{upload}?confined=yes")


def test_readers_open_files_in_one_way():
    """No module of the data folder opens a path by itself, but those that write, and the door itself."""
    faults = []
    for file in sorted(Path(mmtune.data.__file__).parent.rglob("*.py")):
        if file.name == "confinement.py" or file.name.startswith("write_"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            is_path_open = name == "open" and isinstance(called, ast.Attribute) and (node.args or node.keywords)
            is_image = isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "Image"
            if name in ("read_text", "read_bytes") and isinstance(called, ast.Attribute):
                faults.append(f"{file.name}:{node.lineno}")
            if (is_path_open and not is_image) or (name == "open" and isinstance(called, ast.Name)):
                faults.append(f"{file.name}:{node.lineno}")
    assert not faults
