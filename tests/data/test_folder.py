from pathlib import Path

import pytest
from PIL import Image

from mmtune.data.dataset import FaultLog
from mmtune.data.folder import Folder
from mmtune.data.read import read
from mmtune.data.reader import Source
from mmtune.errors import DataError


def fill(root: Path, *names: str):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() in (".png", ".jpg"):
            Image.new("RGB", (4, 3)).save(file)
        else:
            file.write_text("x")


def load(path: Path, **options):
    log = FaultLog()
    content = Folder().read(Source(path, **options), log)
    return content.records, tuple(content.classes), log.faults


def test_sub_folders_are_labels_in_natural_order(tmp_path):
    fill(tmp_path, "10/img10.png", "10/img2.png", "2/deep/a.JPG", "b c/x.png")
    records, classes, faults = load(tmp_path)
    assert [(record.id, record.texts) for record in records] == [
        ("2/deep/a.JPG", ("2",)),
        ("10/img2.png", ("10",)),
        ("10/img10.png", ("10",)),
        ("b c/x.png", ("b c",)),
    ]
    assert (classes, faults) == (("2", "10", "b c"), [])
    assert records[0].picture is not None
    assert records[0].picture.open().size == (4, 3)


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_a_flat_folder_has_no_truth(tmp_path, prefix):
    fill(tmp_path, f"{prefix}2.png", f"{prefix}10.png")
    records, classes, faults = load(tmp_path)
    assert [record.id for record in records] == [f"{prefix}2.png", f"{prefix}10.png"]
    assert (records[0].texts, classes, faults) == ((), (), [])


def test_splits_share_their_classes(tmp_path):
    fill(tmp_path, "train/cat/1.png", "train/owl/2.png", "val/cat/3.png", "test/bee/4.png")
    assert list(Folder().splits(tmp_path)) == ["train", "val", "test"]
    records, classes, _ = load(tmp_path, split="val")
    assert [(record.id, record.texts) for record in records] == [("val/cat/3.png", ("cat",))]
    assert classes == ("bee", "cat", "owl")
    assert len(load(tmp_path)[0]) == 4
    with pytest.raises(DataError, match="unknown split 'vals': did you mean 'val'"):
        load(tmp_path, split="vals")


def test_splits_without_labels(tmp_path):
    fill(tmp_path, "train/1.png", "valid/1.png")
    assert [(record.id, record.texts) for record in load(tmp_path, split="val")[0]] == [("valid/1.png", ())]


def test_a_class_may_be_called_test(tmp_path):
    fill(tmp_path, "test/1.png", "real/2.png")
    assert Folder().splits(tmp_path) == ()
    assert load(tmp_path)[1] == ("real", "test")


def test_companions_are_passed_over_and_other_files_are_faults(tmp_path):
    companions = ["LICENSE", "README.md", "a/notes.txt", "a/1.json", "a/Thumbs.db", "a/.DS_Store", ".git/x.png"]
    fill(tmp_path, "a/1.png", "b/2.png", *companions)
    assert load(tmp_path)[2] == []
    fill(tmp_path, "a/clip.mp4", "a/none", "top.png", "top.exe", "empty/readme.txt")
    records, classes, faults = load(tmp_path)
    assert [record.id for record in records] == ["a/1.png", "b/2.png"]
    assert classes == ("a", "b")
    assert sorted((fault.kind, Path(fault.file).name) for fault in faults) == [
        ("label without pictures", "empty"),
        ("not a picture", "clip.mp4"),
        ("not a picture", "none"),
        ("not a picture", "top.exe"),
        ("picture without label", "top.png"),
    ]


def test_what_lies_beside_the_splits_is_a_fault(tmp_path):
    fill(tmp_path, "train/a/1.png", "extra/2.png", "docs/x.txt", "top.png")
    records, _, faults = load(tmp_path)
    assert [record.id for record in records] == ["train/a/1.png"]
    assert sorted((fault.kind, Path(fault.file).name) for fault in faults) == [
        ("folder outside the splits", "extra"),
        ("picture outside the splits", "top.png"),
    ]


@pytest.mark.parametrize(
    ("names", "claimed"),
    [
        (["a.png"], True),
        (["train/cat/a.png"], True),
        (["a.txt"], False),
        ([], False),
        (["metadata.jsonl", "a.png"], False),
        (["train/metadata.csv", "train/a.png"], False),
    ],
)
def test_claims(tmp_path, names, claimed):
    fill(tmp_path, *names)
    assert Folder().claims(tmp_path) is claimed


def test_a_file_or_an_empty_folder_ends_in_one_message(tmp_path):
    fill(tmp_path, "a.txt")
    with pytest.raises(DataError, match="expected a folder of pictures"):
        load(tmp_path / "a.txt")
    with pytest.raises(DataError, match="expected at least one record, but this folder data has none"):
        read(tmp_path, format="folder")


def test_real_photos(shared_data):
    data = read(shared_data / "odd_images")
    assert (data.format, len(data), data.faults) == ("folder", 9, ())
    assert [record.id for record in data][:2] == ["arabic.webp", "bird.JPEG"]
