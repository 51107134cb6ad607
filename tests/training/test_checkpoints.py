"""Checkpoints that are damaged, and folders that cannot be written to: what is kept, and what is said."""

import errno
import os
import subprocess

import orbax.checkpoint as ocp
import pytest
from backbones import make

import mmtune
from mmtune.errors import ModelError
from mmtune.model import Model
from mmtune.models import peft_files
from mmtune.models.tiny import tiny_tokenizer
from mmtune.training import results
from mmtune.training.sums import damage, write_sums

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:train?n=12&max_objects=2&seed=1", task="detection")


def train(out, data, **settings):
    model = Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")
    fixed = {"steps": 4, "save_every": 1, "batch_size": 4, "buckets": 1, "log_every": 1, "lora": mmtune.LoRA(rank=2)}
    return mmtune.train(model, task="detection", data=data, out=out, **(fixed | settings))


def adapter(out):
    return (out / "adapter.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scenes):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(out, scenes, verbose=False)
    return adapter(out)


def largest(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def change(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


HARM = {"truncated": truncate, "deleted": os.unlink, "changed": change}


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("summed", [True, False], ids=["sums", "no-sums"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, scenes, whole, capsys, how, summed):
    if how == "changed" and not summed:
        pytest.skip("only the sums find a changed byte")
    out = tmp_path / "run"
    train(out, scenes, verbose=False)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["3", "4"]
    newest = out / "checkpoints" / "4"
    harmed = [largest(newest)]
    if (
        not summed
    ):  # as when a kill came between a checkpoint and its sums; Orbax writes some files that it does not read
        (newest / "sums.json").unlink()
        harmed = [file for file in (newest / "state").rglob("*") if file.is_file()]
    for file in harmed:
        HARM[how](file)
    (out / "adapter.safetensors").unlink()
    train(out, scenes, resume=True)
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.startswith("checkpoint 4: ")] == [
        line for line in said.splitlines() if line.endswith("it cannot be read, the run goes on from step 3")
    ]
    assert "resumed at step 3" in said
    assert adapter(out) == whole
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["3", "4", "unreadable-4"]
    for step in "34":
        truncate(largest(out / "checkpoints" / step))
    with pytest.raises(ModelError, match=r"no checkpoint can be read \(4: .*; 3: .*\): put back a copy"):
        train(out, scenes, resume=True)


def test_sums(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"345")
    assert damage(tmp_path) is None
    write_sums(tmp_path)
    assert damage(tmp_path) is None
    (tmp_path / "b" / "c").write_bytes(b"346")
    assert damage(tmp_path) == "b/c has changed"
    (tmp_path / "b" / "c").write_bytes(b"")
    assert damage(tmp_path) == "b/c has 0 bytes in place of 3"
    (tmp_path / "a").unlink()
    assert damage(tmp_path) == "a is missing"


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path, scenes, whole, capsys, monkeypatch):
    save = ocp.CheckpointManager.save
    monkeypatch.setattr(
        ocp.CheckpointManager, "save", lambda self, step, **how: full() if step == 4 else save(self, step, **how)
    )
    train(tmp_path / "run", scenes)
    said = " ".join(capsys.readouterr().err.split())
    assert "the checkpoint of step 4 cannot be written: No space left on device; the training goes on" in said
    assert adapter(tmp_path / "run") == whole


def test_weights_that_the_folder_cannot_take_are_in_the_checkpoint(tmp_path, scenes, whole, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(peft_files, "save_tensors", full)
        with pytest.raises(ModelError) as raised:
            train(out, scenes, verbose=False)
    assert str(raised.value) == (
        "somewhere: cannot be written: No space left on device: make room and go on from step 4 with "
        f"mmtune train --out {out} --resume"
    )
    train(out, scenes, verbose=False, resume=True)
    assert adapter(out) == whole


def test_weights_that_nothing_holds_go_to_the_folder_of_temporary_files(tmp_path, scenes, whole, monkeypatch):
    saved = peft_files.save_tensors
    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    monkeypatch.setattr(
        peft_files,
        "save_tensors",
        lambda tensors, file, *more: full() if (tmp_path / "run") in file.parents else saved(tensors, file, *more),
    )
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(results.tempfile, "mkdtemp", lambda **_: str(tmp_path / "kept"))
    with pytest.raises(ModelError, match=r"the weights of step 4 are in .*kept; make room, or choose another --out"):
        train(tmp_path / "run", scenes, verbose=False)
    assert adapter(tmp_path / "kept") == whole


def test_a_folder_that_cannot_be_written(tmp_path, scenes, monkeypatch):
    def read_only(_, file):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr("mmtune.training.fit.write_recipe", read_only)
    with pytest.raises(
        ModelError, match=r"recipe.toml: cannot be written: Read-only file system: make room, or choose"
    ):
        train(tmp_path / "run", scenes, verbose=False)


def test_a_disk_that_is_really_full(tmp_path, scenes):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a small file system is for root")
    try:
        with pytest.raises(ModelError, match="cannot be written: No space left on device"):
            train(tmp_path / "run", scenes, verbose=False)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_only_the_best_weights_that_count_are_kept(tmp_path, scenes):
    done = train(tmp_path / "run", scenes, val=scenes[:2], eval_every=1, verbose=False)
    step = int((tmp_path / "run" / "metrics.json").read_text().split('"best_step": ')[1].split(",")[0])
    assert done.metrics
    best = [path.name for path in (tmp_path / "run" / "checkpoints").glob("best-*")]
    assert f"best-{step}.safetensors" in best
    assert len(best) <= 3
