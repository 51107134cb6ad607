"""Uploaded data sets stay in their folder, and within their bounds."""

import stat
import zipfile

import pytest

from mmtune.demos.limits import Limits
from mmtune.demos.uploads import safe_name, unpacked
from mmtune.errors import DataError


def zipped(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def test_a_zip_becomes_its_folder(tmp_path):
    file = zipped(tmp_path / "a.zip", {"photos/train/a.txt": "1", "photos/b.txt": "2", "__MACOSX/x": "3"})
    root = unpacked([file], tmp_path / "out")
    assert root == tmp_path / "out" / "photos"
    assert (root / "train" / "a.txt").read_text() == "1"


def test_loose_files_lie_side_by_side(tmp_path):
    for name in ("a.jpg", "b.json"):
        (tmp_path / name).write_text(name)
    root = unpacked([tmp_path / "a.jpg", str(tmp_path / "b.json")], tmp_path / "out")
    assert sorted(file.name for file in root.iterdir()) == ["a.jpg", "b.json"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "a/b:c"])
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    file = zipped(tmp_path / "a.zip", {"fine.txt": "1", name: "2"})
    with pytest.raises(DataError, match="outside the data set"):
        unpacked([file], tmp_path / "in" / "out")
    assert not (tmp_path / "in" / "out").exists()
    assert not (tmp_path / "in" / "x").exists()


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("passwords")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="outside the data set"):
        unpacked([tmp_path / "a.zip"], tmp_path / "out")


def test_a_bomb_is_stopped_by_what_comes_out_of_it(tmp_path):
    file = zipped(tmp_path / "a.zip", {f"{n}.txt": bytes(2**20) for n in range(8)})
    assert file.stat().st_size < 20_000
    with pytest.raises(DataError, match="more than 4 MB"):
        unpacked([file], tmp_path / "out", Limits(unpacked=4 * 2**20))
    assert not (tmp_path / "out").exists()


def test_too_many_files_are_refused(tmp_path):
    file = zipped(tmp_path / "a.zip", {f"{n}.txt": "" for n in range(11)})
    with pytest.raises(DataError, match="holds 11 files, at most 10"):
        unpacked([file], tmp_path / "out", Limits(files=10))
    with pytest.raises(DataError, match="11 files were given"):
        unpacked([file] * 11, tmp_path / "out", Limits(files=10))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip at all"])
def test_what_is_no_zip_is_said(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="expected a zip"):
        unpacked([tmp_path / "a.zip"], tmp_path / "out")
    with pytest.raises(DataError, match="no files"):
        unpacked([], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "safe"),
    [("my cells", "my-cells"), ("../../etc", "etc"), ("..", "data"), ("a" * 99, "a" * 60), ("日本", "data")],
)
def test_names_are_safe(name, safe):
    assert safe_name(name) == safe
