"""The digests of a model's files tell any change in what would be loaded, the base of an adapter among it."""

import json
import shutil

import numpy as np
import pytest

import mmtune
from mmtune.models import file_digest
from mmtune.models.file_digest import file_digests


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digests") / "model"
    mmtune.load("tiny").export(folder)
    return folder


def flip(file, place):
    """Changes one bit."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def test_a_copy_has_the_same_digests(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "model")
    monkeypatch.chdir(checkpoint.parent)
    one = file_digests("model")
    monkeypatch.chdir(tmp_path)
    assert file_digests("model") == one
    assert "model: model.safetensors" in one
    assert "model: config.json" in one


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_bit_of_the_weights_is_told(checkpoint, tmp_path, place):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    before = file_digests(str(folder))
    weights = folder / "model.safetensors"
    flip(weights, int(place * weights.stat().st_size) if place >= 0 else place)
    after = file_digests(str(folder))
    assert {name for name in before if before[name] != after[name]} == {f"{folder}: model.safetensors"}


def test_of_large_files_blocks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(file_digest, "_WHOLE", 2**20)
    file = tmp_path / "model.gguf"
    file.write_bytes(np.random.default_rng(0).bytes(8 * 2**20))
    before = file_digests(str(file))
    for place in (0, 8 * 2**20 - 1, (8 * 2**20 - 2**16) * 32 // 63 + 100):
        flip(file, place)
        changed = file_digests(str(file))
        assert changed != before, place
        flip(file, place)
    assert file_digests(str(file)) == before
    file.write_bytes(file.read_bytes() + b"x")
    assert file_digests(str(file)) != before


def test_the_base_of_an_adapter_is_told(checkpoint, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(checkpoint, base)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    before = file_digests(str(adapter))
    assert {name.split(": ")[1] for name in before} >= {"adapter_model.safetensors", "model.safetensors"}
    flip(base / "config.json", 5)
    assert file_digests(str(adapter)) != before
    other = file_digests(str(adapter), str(checkpoint))
    assert f"{checkpoint}: model.safetensors" in other
    assert f"{base}: model.safetensors" not in other


def test_names_without_files_have_none():
    assert file_digests("tiny") == file_digests("gemma2_9b_en") == {}


def test_an_adapter_on_itself_ends(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    assert len(file_digests(str(tmp_path))) == 1
