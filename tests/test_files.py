"""Files are whole under their real names, on the disk before they have them, and readable to whom the umask says."""

import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from backbones import make

import mmtune
from mmtune.exporting import FORMATS
from mmtune.files import atomic, publish, save_tensors, write_json
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.models.tiny import tiny_tokenizer
from mmtune.training.sums import SUMS, write_sums

ROOT = Path(__file__).resolve().parents[1]
_OWN = re.compile(r"save_file\(|\.rename\(|os\.replace\(")


@pytest.fixture(params=[0o022, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder):
    return {str(file.relative_to(folder)): stat.S_IMODE(file.stat().st_mode) for file in files(folder)}


def files(folder):
    return [file for file in folder.rglob("*") if file.is_file()]


def test_files_have_the_mode_of_the_umask(tmp_path, umask):
    save_tensors({"a": np.zeros(3)}, tmp_path / "a.safetensors")
    save_tensors({"a": np.ones(3)}, tmp_path / "a.safetensors")  # in place of another
    write_json(tmp_path / "b.json", {})
    assert modes(tmp_path) == dict.fromkeys(("a.safetensors", "b.json"), 0o666 & ~umask)


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("umask", [0o027], indirect=True)
def test_so_has_every_file_of_runs_and_exports(tmp_path, umask):
    model = Model(make("paligemma", vocabulary_size=2176), tiny_tokenizer(), name="small")
    data = mmtune.read("shapes:train?n=4&max_objects=1", task="detection")
    settings = {"steps": 1, "batch_size": 2, "verbose": False, "lora": LoRA(rank=1), "options": {"max_boxes": 2}}
    mmtune.train(model, task="detection", data=data, val=data[:1], out=tmp_path / "lora", **settings)
    for form in FORMATS:
        model.export(tmp_path / form, form)
    mmtune.train(model, task="detection", data=data, out=tmp_path / "full", full=True, **settings)
    found = modes(tmp_path)
    wanted = {"lora/adapter.safetensors", "full/weights.safetensors", "hf/model.safetensors", "lora/report.html"}
    assert wanted < set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode != 0o666 & ~umask} == {}


@pytest.fixture
def events(monkeypatch):
    """What was synced and renamed, in order: numbers of files and folders, and names."""
    seen: list[tuple[str, object]] = []
    true_sync, true_replace, true_rename = os.fsync, os.replace, Path.rename

    def sync(opened):
        seen.append(("sync", os.fstat(opened).st_ino))
        true_sync(opened)

    def replace(old, new):
        seen.append(("name", Path(new).name))
        true_replace(old, new)

    def rename(self, new):
        seen.append(("name", Path(new).name))
        return true_rename(self, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "rename", rename)
    return seen


def test_a_file_is_on_the_disk_before_its_name_and_the_name_before_it_goes_on(tmp_path, events):
    save_tensors({"a": np.zeros(3)}, tmp_path / "a.safetensors")
    file = (tmp_path / "a.safetensors").stat().st_ino
    assert events == [("sync", file), ("name", "a.safetensors"), ("sync", tmp_path.stat().st_ino)]


def test_a_folder_is_on_the_disk_with_all_that_it_holds_before_its_name(tmp_path, events):
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (work / "a").write_text("a")
    (work / "deep" / "b").write_text("b")
    (work / "link").symlink_to("nowhere")
    publish(work, tmp_path / "out")
    out = tmp_path / "out"
    inside = {path.stat().st_ino for path in (out, out / "a", out / "deep", out / "deep" / "b")}
    named = events.index(("name", "out"))
    assert {number for kind, number in events[:named]} == inside
    assert events[named + 1 :] == [("sync", tmp_path.stat().st_ino)]


def test_a_checkpoint_is_on_the_disk_before_its_sums_say_so(tmp_path, events):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "a").write_text("a")
    write_sums(tmp_path)
    before = events[: events.index(("name", SUMS))]
    assert ("sync", (tmp_path / "state" / "a").stat().st_ino) in before


def half_written(file):
    with atomic(file) as temporary:
        temporary.write_text("half")
        raise ValueError("no")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a"
    file.write_text("old")
    with pytest.raises(ValueError, match="no"):
        half_written(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert file.read_text() == "old"


def test_nothing_else_renames_or_writes_weights():
    """What does so by itself would have its own mode, and names before contents."""
    found = {}
    for folder in ("mmtune", "tasks", "demos"):
        for file in (ROOT / folder).rglob("*.py"):
            lines = [line.strip() for line in file.read_text().splitlines()]
            calls = [line for line in lines if line[0:1] not in "'\"" and _OWN.search(line)]
            found |= {str(file.relative_to(ROOT)): calls} if calls else {}
    assert set(found) - {"mmtune/files.py"} == {"mmtune/training/checkpoints.py"}
    assert len(found["mmtune/training/checkpoints.py"]) == 1  # a damaged checkpoint, out of the way
