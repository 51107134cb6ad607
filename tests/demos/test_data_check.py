"""A data set is looked over in a process of its own, whatever it does there."""

import json
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from test_limits import png_bomb

from mmtune.demos.data_check import DataCheck, found_in
from mmtune.demos.limits import Limits
from mmtune.demos.training import Trainer
from mmtune.errors import DataError, UsageError


def labelled(folder, *pictures):
    """Writes a data set that captions some files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in pictures:
        (folder / name).write_bytes(data)
    rows = [{"image": name, "suffix": "a picture"} for name, _ in pictures]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_the_report_is_that_of_the_same_check_here(tmp_path):
    address = "shapes:val?n=3"
    found = DataCheck(address, "detection", tmp_path / "there").result()
    here = found_in(address, "detection", tmp_path / "here")
    assert (found.records, found.usable, list(found.lines)) == (here["records"], here["usable"], here["lines"])
    assert [file.read_bytes() for file in found.overlays] == [Path(file).read_bytes() for file in here["overlays"]]
    assert len(found.overlays) == 3


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="expected JSON"):
        DataCheck(f"{tmp_path}/a.json", "detection", tmp_path / "out").result()
    with pytest.raises(DataError, match="none of 1 records can be used for captioning"):
        DataCheck(str(labelled(tmp_path / "x", ("a.jpg", b"none"))), "captioning", tmp_path / "out").result()


def test_huge_pictures_are_refused_by_their_headers(tmp_path):
    """Four pictures of 13,000 x 13,000 pixels, below what Pillow itself refuses."""
    bombs = [(f"{number}.png", png_bomb(13_000, 13_000)) for number in range(4)]
    with pytest.raises(DataError, match="at most 100000000 pixels"):
        DataCheck(str(labelled(tmp_path, *bombs)), "captioning", tmp_path / "out").result()


def test_memory_is_bounded(tmp_path):
    """One byte a pixel is decoded to three: 75 MB beside what Python and its libraries take."""
    bombs = [(f"{number}.png", png_bomb(9000, 9000)) for number in range(4)]
    folder = labelled(tmp_path, *bombs)
    with pytest.raises(DataError, match=r"memory|can be used"):
        DataCheck(str(folder), "captioning", tmp_path / "out", Limits(check_memory=500 * 2**20)).result()


def test_time_is_bounded(tmp_path):
    check = DataCheck("shapes:val?n=100000", "detection", tmp_path / "out", Limits(check_seconds=2))
    begun = time.monotonic()
    with pytest.raises(DataError, match="longer than 2 seconds"):
        check.result()
    assert time.monotonic() - begun < 20


def test_a_check_is_cancelled_and_another_begins(tmp_path):
    trainer = Trainer(tmp_path, {"large": "shapes:val?n=100000", "small": "shapes:val?n=2"})
    said = []

    def look():
        try:
            trainer.check("me", "large", "detection", tmp_path / "out")
        except (DataError, UsageError) as error:
            said.append(str(error))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not said:  # of three at once, the last is told to wait
        time.sleep(0.05)
    trainer.cancel_checks("another")
    time.sleep(0.5)
    assert len(said) == 1
    trainer.cancel_checks("me")
    for thread in threads:
        thread.join(60)
    assert said[0].startswith("busy")
    assert said[1:] == ["the check was cancelled"] * 2
    assert trainer.check("me", "small", "detection", tmp_path / "again").usable == 2


def test_a_scanned_receipt_is_looked_over(tmp_path):
    Image.new("L", (4961, 7016), 255).save(tmp_path / "a.png")
    (tmp_path / "a.gt.txt").write_text("TOTAL")
    assert DataCheck(str(tmp_path), "ocr", tmp_path / "out").result().usable == 1
