"""Models from the hub by its real client, against a small hub on loopback: whole, or not at all with one sentence."""

import errno
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from backbones import make
from broken_models import WRITERS, config, write_adapter
from hub_server import COMMIT, running

from mmtune.errors import ModelError, UsageError
from mmtune.files import write_json, write_text
from mmtune.model import Model
from mmtune.model_card import CARD
from mmtune.models.folder_files import FETCHED
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.hub import fetch
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables
from mmtune.run_files import RECIPE

NAME = "cats/small"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small Llama in shards, with files beside it that nobody needs."""
    folder = tmp_path_factory.mktemp("checkpoint")
    backbone = make("llama3", vocabulary_size=tiny_tokenizer().vocabulary_size)
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32", largest=400_000)
    tiny_tokenizer().save(folder)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sum(name.endswith(".safetensors") for name in found) > 1
    return found | {"pytorch_model.bin": b"a pickle", "README.md": b"# small"}


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    with running(monkeypatch, tmp_path / "cache", {NAME: dict(files)}) as server:
        yield server


def test_a_model_is_fetched_once_and_loads(hub, files):
    model = load(f"hf://{NAME}")
    assert model.name == f"hf://{NAME}"
    assert model.spec.family == "llama"
    folder = fetch(f"hf://{NAME}@{COMMIT}")
    assert {path.name for path in folder.iterdir()} == set(files) - {"pytorch_model.bin", "README.md"}
    assert all((folder / path.name).read_bytes() == files[path.name] for path in folder.iterdir())
    assert not [line for line in hub.requests if ".bin" in line]
    hub.requests.clear()
    fetch(f"hf://{NAME}")
    assert not [line for line in hub.requests if line.startswith("GET") and "resolve" in line]


def test_an_adapter_brings_its_base(hub, tmp_path):
    model = load(f"hf://{NAME}")
    lora = model.add_lora(LoRA(rank=2, targets=("q_proj",)))
    for weights in lora.table.values():
        weights["b"].assign(weights["b"] + 0.5)
    folder = model.export(tmp_path / "adapter", "peft")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == NAME
    hub.files["cats/tuned"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    tuned = load("hf://cats/tuned")
    assert tuned.name == "hf://cats/tuned"
    assert tuned.generate(None, ["a star"], 6) == model.generate(None, ["a star"], 6)
    model.drop_lora()
    assert tuned.score(None, ["a"], ["star"])[0].logprobs != model.score(None, ["a"], ["star"])[0].logprobs


def test_a_keras_preset_is_fetched_once_too(hub, tmp_path):
    backbone = make("gemma", vocabulary_size=tiny_tokenizer().vocabulary_size)
    made = Model(backbone, tiny_tokenizer(), name="small")
    folder = made.export(tmp_path / "preset", "keras")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.files["cats/preset"] = found
    loaded = load(f"hf://cats/preset@{COMMIT}")
    assert loaded.name == f"hf://cats/preset@{COMMIT}"
    assert loaded.generate(None, ["a star"], 6) == made.generate(None, ["a star"], 6)


@pytest.fixture(scope="module")
def whole_folders(tmp_path_factory):
    """A folder of each kind that the hub has, with all the settings that transformers writes."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("llama", "paligemma", "preset"):
        WRITERS[name](root / name)
    Model(make("gemma", vocabulary_size=2176), tiny_tokenizer(), name="s").export(root / "int8", "int8")
    write_text(root / "llama" / "chat_template.jinja", "{{ messages }}")
    write_json(root / "llama" / "special_tokens_map.json", {"pad_token": "<pad>"})
    pictures = {"image_processor": {"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.5, 0.25]}}
    write_json(root / "paligemma" / "processor_config.json", pictures)
    return root


@pytest.mark.parametrize("name", ["llama", "paligemma", "preset", "int8"])
def test_all_that_a_loader_reads_is_fetched(hub, whole_folders, name):
    """Loaded from the hub or from the folder, a model is the same."""
    folder = whole_folders / name
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.files["cats/whole"] = found
    there, here = load("hf://cats/whole"), load(folder)
    assert there.spec == here.spec
    assert there.tokenizer == here.tokenizer
    pictures = [np.zeros((9, 9, 3), np.uint8)] if here.image_size else None
    assert there.generate(pictures, ["a star"], 4) == here.generate(pictures, ["a star"], 4)
    folder = fetch("hf://cats/whole")
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert fetched == set(found) - {CARD}


@pytest.mark.parametrize("name", ["llama", "paligemma", "adapter", "preset", "int8"])
def test_whatever_name_a_loader_looks_for_is_one_that_is_fetched(whole_folders, name, tmp_path, monkeypatch):
    """A file that a loader knows and the list of what is fetched does not would be missing on the hub alone."""
    folder = tmp_path / name
    if name == "adapter":
        write_adapter(folder)
        config({"base_model_name_or_path": str(whole_folders / "llama")}, "adapter_config.json")(folder)
    else:
        shutil.copytree(whole_folders / name, folder)
    looked, is_file = set(), Path.is_file

    def spy(path, **settings):
        if path != folder and path.is_relative_to(folder):
            looked.add(path.relative_to(folder).as_posix())
        return is_file(path, **settings)

    monkeypatch.setattr(Path, "is_file", spy)
    load(folder)
    looked.remove(RECIPE)  # runs are never on the hub: what others load is exported
    assert len(looked) > 1
    assert [one for one in looked if not any(fnmatch(one, pattern) for pattern in FETCHED)] == []


def test_what_is_in_the_cache_needs_no_hub(hub):
    folder = fetch(f"hf://{NAME}")
    hub.refuse[NAME] = (503, "")
    assert fetch(f"hf://{NAME}") == folder


def test_a_cut_download_is_gone_on_with(hub, files):
    name = next(name for name in files if name.endswith(".safetensors"))
    hub.cut[name] = 1
    folder = fetch(f"hf://{NAME}")
    assert (folder / name).read_bytes() == files[name]


def test_a_damaged_download_is_refused_and_does_not_stay(hub, files):
    name = sorted(name for name in files if name.endswith(".safetensors"))[1]
    hub.spoil.add(name)
    for _ in range(2):
        with pytest.raises(ModelError, match=rf"{name} was damaged on its way .* and was removed: try again"):
            fetch(f"hf://{NAME}")
    hub.spoil.clear()
    assert (fetch(f"hf://{NAME}") / name).read_bytes() == files[name]


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ((401, "RepoNotFound"), "there is no such model on the hub, or it is private"),
        ((403, "GatedRepo"), "accept the licence on its page"),
        ((404, "RepoNotFound"), "there is no such model on the hub, or it is private"),
        ((429, ""), r"the hub wants fewer requests \(429\)"),
        ((503, ""), "the hub answered with the status 503"),
    ],
    ids=str,
)
def test_what_the_hub_refuses_is_one_sentence(hub, refused, words):
    hub.refuse[NAME] = refused
    with pytest.raises(ModelError, match=words) as error:
        fetch(f"hf://{NAME}")
    assert str(error.value).startswith(f"hf://{NAME}: ")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("hub")
def test_a_revision_that_is_not_there():
    with pytest.raises(ModelError, match="has no revision v2"):
        fetch(f"hf://{NAME}@v2")


def test_a_hub_that_cannot_be_reached(hub):
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(ModelError, match="it is not in the cache, and the hub cannot be reached"):
        fetch(f"hf://{NAME}")


@pytest.mark.usefixtures("hub")
def test_a_disk_that_is_full(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(ModelError, match="there is no room left for it on the disk; what is complete is kept"):
        fetch(f"hf://{NAME}")


def test_a_repository_without_a_model(hub):
    hub.files["cats/photos"] = {"README.md": b"# photos"}
    with pytest.raises(ModelError, match=r"expected a model .* found none in this repository"):
        fetch("hf://cats/photos")


@pytest.mark.parametrize("address", ["hf://small", "hf://a/b/c", "hf:///x", "hf://a/@main", "hf://a b/c!"])
def test_what_is_no_address(hub, address):
    with pytest.raises(UsageError, match=r"expected hf://org/name|[Rr]epo id"):
        fetch(address)
    assert not hub.requests


def test_no_weight_is_downloaded_where_the_vocabulary_cannot_be_read(hub, files, tmp_path):
    folder = Model(make("gemma", vocabulary_size=2176), tiny_tokenizer(), name="a").export(tmp_path / "preset", "keras")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.files["cats/preset"] = found | {"assets/tokenizer/vocabulary.spm": b"x"}
    hub.files["cats/checkpoint"] = files | {"tokenizer.model": b"x"}
    for name in ("preset", "checkpoint"):
        with pytest.raises(ModelError, match="no SentencePiece model"):
            load(f"hf://cats/{name}")
    assert not [line for line in hub.requests if line.endswith((".h5", ".safetensors"))], hub.requests
