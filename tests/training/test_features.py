"""Kept image tokens of a frozen tower: the same numbers as computed in every step, and none where they are wrong."""

import csv
import os
from dataclasses import replace

import numpy as np
import pytest
from backbones import make
from PIL import Image
from safetensors.numpy import load_file

import mmtune
from mmtune.data.images import FilePicture
from mmtune.errors import RecipeError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.recipe import Cache, Recipe
from mmtune.training import features as kept
from mmtune.training.feature_store import GIB, DiskStore


def small_model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:train?n=6&max_objects=2&seed=1", task="detection")


@pytest.fixture
def encoded(monkeypatch):
    """Counts the pictures that are encoded to be kept, in batches filled up to 16."""
    calls = []
    true = kept.encode

    def encode(tree, spec, images, *rest, **more):
        calls.append(len(np.unique(np.asarray(images).reshape(len(images), -1), axis=0)))
        return true(tree, spec, images, *rest, **more)

    monkeypatch.setattr(kept, "encode", encode)
    return calls


def run(folder, data, features, model=None, **settings):
    cache = {"features": features, **settings.pop("cache", {})}
    settings = {"steps": 6, "batch_size": 2, "buckets": 1, "log_every": 1, "verbose": False, **settings}
    model = model or small_model()
    return mmtune.train(model, task="detection", data=data, out=folder, cache=cache, **settings)


def losses(folder):
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def factors(folder, factor):
    arrays = load_file(folder / "adapter.safetensors")
    return np.concatenate([array.ravel() for name, array in sorted(arrays.items()) if factor in name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kept_and_live_tokens_train_the_same_adapter(tmp_path, scenes, encoded, precision):
    for features in ("off", "auto", "disk"):
        held = {"folder": str(tmp_path / "kept")}
        run(tmp_path / features, scenes, features, precision=precision, cache=held, steps=4, batch_size=3)
        assert sum(encoded) == {"off": 0, "auto": 6, "disk": 12}[features]
    tolerance = 1e-6 if precision == "float32" else 2e-2
    for features in ("auto", "disk"):
        np.testing.assert_allclose(losses(tmp_path / features), losses(tmp_path / "off"), rtol=tolerance)
        # Each factor of all layers at once: Adam blows up the rounding of a layer whose gradient is next to nothing.
        for factor in ("lora_A", "lora_B"):
            ours, live = (factors(tmp_path / name, factor) for name in (features, "off"))
            assert np.linalg.norm(ours - live) <= 10 * tolerance * np.linalg.norm(live)


@pytest.mark.parametrize(
    "settings",
    [
        {"full": True},
        {"lora": mmtune.LoRA(rank=2, vision=True, targets=("q_proj", "fc1"))},
        {"augment": mmtune.Augment(flip=0.5)},
        {"cache": {"features": "off"}},
        {"cache": {"features": "auto", "memory_gib": 1e-6}},
        {"cache": {"features": "disk", "disk_gib": 1e-6}},
        {"steps": 3},
    ],
    ids=["tuned tower", "adapted tower", "augmented", "off", "too large", "too large for the disk", "seen once"],
)
def test_tokens_are_computed_where_keeping_them_is_wrong_or_useless(tmp_path, scenes, encoded, settings):
    settings = {"cache": {"features": "auto"}, **settings}
    run(tmp_path / "run", scenes, settings["cache"].pop("features"), **settings)
    assert encoded == []


def test_a_frozen_tower_in_full_tuning_is_kept(tmp_path, scenes, encoded):
    run(tmp_path / "run", scenes, "auto", full=True, freeze_vision=True)
    assert sum(encoded) == 6


def test_files_serve_later_runs_with_the_same_tower_and_pictures(tmp_path, scenes, encoded):
    held = {"folder": str(tmp_path / "kept")}
    run(tmp_path / "a", scenes, "disk", cache=held)
    run(tmp_path / "b", scenes, "disk", cache=held)
    assert sum(encoded) == 6
    assert (tmp_path / "a" / "adapter.safetensors").read_bytes() == (
        tmp_path / "b" / "adapter.safetensors"
    ).read_bytes()
    files = [file for file in (tmp_path / "kept").rglob("*") if file.is_file()]
    assert len(files) == 6
    files[0].write_bytes(files[0].read_bytes()[:-8])  # cut
    files[1].unlink()
    run(tmp_path / "c", scenes, "disk", cache=held)
    assert sum(encoded) == 8
    assert losses(tmp_path / "c") == losses(tmp_path / "a")
    other = small_model()
    bias = other.backbone.vit_encoder.weights[0]
    bias.assign(bias + 0.5)
    run(tmp_path / "d", scenes, "disk", other, cache=held)
    assert sum(encoded) == 14


def test_records_that_share_a_picture_share_its_tokens(tmp_path, scenes, encoded):
    record = scenes.records[0]
    record.picture.open().save(tmp_path / "one.png")
    twice = [
        replace(record, id=name, picture=FilePicture(tmp_path / "one.png"), size=(224, 224)) for name in ("a", "b")
    ]
    run(tmp_path / "run", [*twice, *scenes.records[1:3]], "auto")
    assert sum(encoded) == 3


def test_a_broken_photo_is_listed_and_the_rest_is_kept(tmp_path, scenes, encoded):
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:80])
    broken = replace(scenes.records[0], id="broken", picture=FilePicture(tmp_path / "cut.png"), size=(64, 64))
    done = run(tmp_path / "run", [broken, *scenes.records], "auto", steps=7)
    assert [fault.record for fault in done.faults] == ["broken"]
    assert sum(encoded) == 6
    assert np.isfinite(losses(tmp_path / "run")).all()


def test_what_was_not_used_for_longest_makes_room(tmp_path, scenes):
    store = DiskStore(tmp_path, "tower", (2, 3), np.dtype(np.float32), 3 * 24)
    keys = [store.key(record.picture) for record in scenes.records[:4]]
    for number, key in enumerate(keys):
        store.put(key, np.full((2, 3), number, np.float32))
        os.utime(store._file(key), (number, number))
    assert store.get(keys[0]).tolist() == [[0.0] * 3] * 2  # now used
    store.make_room([store.key(scenes.records[4].picture)])
    assert [store.get(key) is not None for key in keys] == [True, False, False, True]


@pytest.mark.parametrize("room", [1, 3, 7])
def test_room_is_made_as_by_a_naive_model(tmp_path, room):
    """Of what is asked for nothing goes, of the rest what was used last stays, and the limit holds at every moment."""
    store = DiskStore(tmp_path, "tower", (2, 3), np.dtype(np.float32), room * 24)
    rng = np.random.default_rng(room)
    names = [f"{number:04x}" for number in range(12)]
    held: list[str] = []  # what was used last comes last
    for time in range(1, 60):
        wanted = sorted(rng.choice(names, rng.integers(0, room + 1), replace=False))
        store.make_room(wanted)
        missing = [name for name in wanted if store.get(name) is None]
        assert missing == [name for name in wanted if name not in held]
        for name in missing:
            store.put(name, np.zeros((2, 3), np.float32))
            assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= room * 24
        for name in wanted:
            os.utime(store._file(name), (time, time))
        others = [name for name in held if name not in wanted]
        held = [*others[max(0, len(others) + len(wanted) - room) :], *wanted]
        assert sorted(name for name in names if store._file(name).is_file()) == sorted(held)


def test_a_later_run_encodes_nothing_anew_where_the_limit_holds_its_pictures_alone(tmp_path, scenes, encoded):
    held = {"folder": str(tmp_path / "kept"), "disk_gib": 7 * 4 * 48 * 4 / GIB}  # seven pictures of four tokens
    run(tmp_path / "a", scenes, "disk", cache=held, steps=3)
    run(tmp_path / "b", scenes, "disk", cache=held, steps=3)
    assert sum(encoded) == 6
    others = mmtune.read("shapes:train?n=3&max_objects=2&seed=2", task="detection")
    run(tmp_path / "c", others, "disk", cache=held, steps=3)
    assert sum(encoded) == 9
    assert len([file for file in (tmp_path / "kept").rglob("*") if file.is_file()]) == 7


def test_an_unknown_place_is_refused():
    with pytest.raises(RecipeError, match="memory_gib"):
        Recipe(task="detection", data="x", cache=Cache(memory_gib=0))
