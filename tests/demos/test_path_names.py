"""Visitors read names where the server has paths."""

from pathlib import Path

import pytest

from mmtune.demos.path_names import PathNames, offered, path_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("runs/data/1f/photos/photos/train/a.txt: broken", "photos/train/a.txt: broken"),
        ("'{here}/runs/data/1f/photos/photos?confined=1'", "'photos?confined=1'"),
        ("runs/detection/log.csv, {here}/runs/detection", "detection/log.csv, detection"),
        ("File '/usr/lib/python3.11/os.py', line 1", "File 'os.py', line 1"),
        ("--data=/etc/passwd or:/srv/x", "--data=passwd or:x"),
        ("https://example.org/a/b.html", "https://example.org/a/b.html"),
        ("hf://google/paligemma", "hf://google/paligemma"),
        ("and/or 3 / 4, 1/2, </b>", "and/or 3 / 4, 1/2, </b>"),
        ("other/runs/data/x, runs-2/x", "other/runs/data/x, runs-2/x"),
    ],
)
def test_names_stand_for_paths(text, shown):
    names = PathNames()
    names.add(Path("runs"), "")
    names.add(Path("runs/data/1f/photos/photos"), "photos")
    assert names.hide(text.replace("{here}", str(Path.cwd()))) == shown


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/srv/photos:train?n=2", "photos:train?n=2"),
        ("data/photos/", "photos"),
        ("shapes:train?n=4", "shapes:train?n=4"),
        ("photos?images=/srv/raw", "photos?images=raw"),
        ("hf://org/name:test", "hf://org/name:test"),
    ],
)
def test_what_the_operator_offers_is_called_by_its_own_name(address, name):
    assert path_name(address) == name


def test_two_of_one_name_are_told_apart():
    assert offered(["/a/photos", "/b/photos"]) == {"photos": "/a/photos", "photos-2": "/b/photos"}
