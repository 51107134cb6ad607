"""The script that trains the embedded model: its samples, its batches, and a run that is cut and gone on with."""

import dataclasses

import numpy as np
import pytest

import mmtune.models.tiny as tiny
from mmtune.models.tiny import TINY, tiny_tokenizer
from mmtune.training import pretrain
from mmtune.training.pretrain import Plan, Pretraining
from mmtune.training.pretrain_feed import Feed
from mmtune.training.pretrain_scenes import COUNTS, SampleMaker

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def maker():
    return SampleMaker(tiny_tokenizer(), TINY.image_size, TINY.patch_size, masks=25)


def test_a_sample_is_the_same_each_time(maker):
    first, second = maker(3), maker(3)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.long == second.long
    assert first.short == second.short
    for one, other in zip(first.dense, second.dense, strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_cover_every_task_and_fit_their_vocabulary(maker):
    tokenizer = tiny_tokenizer()
    prompts = set()
    for index in range(60):
        sample = maker(index)
        assert sample.pixels.shape == (TINY.image_size, TINY.image_size, 3)
        for number, count in enumerate(COUNTS):
            assert 0 <= sample.dense.labels[number].min() <= sample.dense.labels[number].max() < count
        for row in (*sample.long, *sample.short):
            prompts.add("".join(tokenizer.texts(list(row.prefix))).split()[0].removeprefix("<bos>"))
            assert list(row.suffixes[0])[-1] == tokenizer.eos
    assert prompts >= {"detect", "segment", "caption", "answer", "ocr"}


def test_a_picture_has_a_long_prompt_and_two_short_ones_a_round(maker):
    twice = dataclasses.replace(maker, rounds=2)
    assert [(len(twice(index).long), len(twice(index).short)) for index in range(3)] == [(2, 4)] * 3
    with Feed(4, 2, 0, 1, ((640,), (72,)), masks=25, rounds=2) as feed:
        batch = feed.next(False)
    assert batch.images.shape[0] == 2
    assert batch.long[0]["token_ids"].shape == (4, 640)
    assert batch.short[0]["token_ids"].shape == (8, 72)


def test_masks_of_as_many_objects_as_are_asked_for(maker):
    """Codes of a picture's masks: sixteen for each object, of crowds only where crowds are taught."""
    tokenizer = tiny_tokenizer()

    def most(masks):
        rows = [row for index in range(60) for row in dataclasses.replace(maker, masks=masks)(index).long]
        return max(sum(i >= tokenizer.seg for i in row.suffixes[0]) for row in rows)

    assert most(0) == 0
    assert 0 < most(3) <= 3 * 16
    assert most(25) > 7 * 16


def test_edges_lie_anywhere_within_a_pixel_and_nowhere_else(maker):
    """Of boxes in whole pixels alone, a decoder would see every ninth location only."""
    tokenizer, pitch = tiny_tokenizer(), 1023 / TINY.image_size
    ids = tokenizer.encode("<loc0000><loc0213><loc1023><seg000><seg127> star ; x") * 200
    moved = np.array(maker._between_pixels([ids, ids], np.random.default_rng(0))).reshape(2, 200, -1)
    np.testing.assert_array_equal(*moved)
    moved = moved[0]
    start = np.array(ids).reshape(200, -1)
    np.testing.assert_array_equal(moved[:, 3:], start[:, 3:])
    reach = int(pitch / 2 + 0.5)
    assert set(moved[:, 1] - start[:, 1]) == set(range(-reach, reach + 1))
    assert set(moved[:, 0] - tokenizer.loc) == set(range(reach + 1))
    assert set(tokenizer.loc + 1023 - moved[:, 2]) == set(range(reach + 1))
    samples = [maker(index) for index in range(40)]
    edges = {i - tokenizer.loc for s in samples for i in s.long[0].suffixes[0] if 0 <= i - tokenizer.loc < 1024}
    whole = {round(pixel * pitch) for pixel in range(TINY.image_size + 1)}
    assert len(edges - whole) > 5 * len(edges & whole)


def test_learning_rates_rise_stay_and_fall():
    plan = Plan(dense=100, steps=300, decay=50, warmup=10, dense_rate=2.0, rate=1.0)
    rates = [plan.learning_rate(step) for step in range(300)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[50] == 2.0
    assert rates[99] < 0.1
    assert rates[100] == pytest.approx(0.1)
    assert rates[200] == 1.0
    assert rates[299] == pytest.approx(0.02)
    assert [plan.only_dense(step) for step in (99, 100, 101, 102)] == [True, False, True, False]


@pytest.fixture
def small_model(monkeypatch):
    """A model of one layer each, which is compiled in seconds."""
    short = dataclasses.replace(tiny.TINY, num_layers=1, vision_layers=1)
    monkeypatch.setattr(tiny, "TINY", short)
    monkeypatch.setattr(pretrain, "TINY", short)


@pytest.mark.usefixtures("small_model")
def test_a_run_goes_on_where_it_was_cut(tmp_path):
    plan = Plan(dense=3, steps=6, dense_batch=4, batch=2, between=0, masks=0)
    with Feed(plan.dense_batch, plan.batch, 0, 1) as feed:
        batches = [feed.next(plan.only_dense(step)) for step in range(plan.steps)]
        # Whichever shapes come first, one is compiled.
        batches[4] = batches[5] = batches[3]
    whole = Pretraining(plan)
    first = np.asarray(whole.groups["tongue"].values[whole._embedding])
    for step, batch in enumerate(batches):
        losses = whole.step(step, batch)
        if step == 2:
            assert set(losses) == {"dense", "kind", "colour", "character"}
            whole.save(tmp_path, 3, 128)
    cut = Pretraining(plan, seed=1)
    assert cut.restore(tmp_path) == (3, 128)
    for step in range(3, plan.steps):
        losses = cut.step(step, batches[step])
    assert losses["long"] > 0
    for name, group in whole.groups.items():
        for one, other in zip(group.values, cut.groups[name].values, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    # Tokens that never came stay apart from each other, as they were.
    read = [part["token_ids"].ravel() for part in (batches[3].long[0], batches[3].short[0])]
    tokens = np.unique(np.concatenate(read))
    moved = np.any(np.asarray(whole.groups["tongue"].values[whole._embedding]) != first, axis=1)
    assert moved[tokens[tokens != 0]].all()
    assert not moved[~whole.met].any()
    assert 0 < moved.sum() < 1000


@pytest.mark.usefixtures("small_model")
def test_the_first_stage_leaves_the_decoder_alone():
    plan = Plan(dense=2, steps=3, dense_batch=4)
    with Feed(plan.dense_batch, 2, 0, 1) as feed:
        batch = feed.next(True)
    training = Pretraining(plan)
    before = {name: [np.asarray(value) for value in group.values] for name, group in training.groups.items()}
    training.step(1, batch)
    after = {name: [np.asarray(value) for value in group.values] for name, group in training.groups.items()}
    assert all(np.array_equal(a, b) for a, b in zip(before["tongue"], after["tongue"], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(before["eyes"], after["eyes"], strict=True))


@pytest.mark.usefixtures("small_model")
def test_weights_are_what_the_model_loads(tmp_path):
    from mmtune.models.load import assign_weights

    training = Pretraining(Plan(), seed=2)
    training.write_weights(tmp_path / "w.safetensors")
    other = tiny.build_tiny(5)
    assign_weights(other.weights, tmp_path / "w.safetensors")
    for variable, wanted in zip(other.weights, training.backbone.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), np.asarray(wanted).astype(np.float16).astype(np.float32))
