"""Runs of a small model: what trains, what is saved, what stops them, and what bad pictures do."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from backbones import make
from PIL import Image

import mmtune
from mmtune.data.images import FilePicture
from mmtune.errors import DataError, ModelError, RecipeError, UsageError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Box, Query, Record
from mmtune.training.examples import Example
from mmtune.training.plan import Plan, choose_shapes


def small_model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:train?n=12&max_objects=2&seed=1", task="detection")


def run(folder, data, **settings):
    settings = {"steps": 3, "batch_size": 4, "buckets": 1, "log_every": 1, "verbose": False, **settings}
    return mmtune.train(small_model(), task="detection", data=data, out=folder / "run", **settings)


def rows(folder):
    with (folder / "run" / "log.csv").open() as file:
        return list(csv.DictReader(file))


def snapshot(model):
    return {variable.path: np.asarray(variable) for variable in model.backbone.weights}


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({"full": True}, {"text", "vision"}),
        ({"full": True, "freeze_vision": True}, {"text"}),
        ({"full": False}, set()),
        ({"full": False, "lora": mmtune.LoRA(rank=2, vision=True, targets=("q_proj", "fc1"))}, set()),
    ],
    ids=["full", "frozen-tower", "lora", "lora-tower"],
)
def test_only_what_should_train_moves(tmp_path, scenes, settings, moved):
    before = snapshot(small_model())
    done = run(tmp_path, scenes, **settings)
    after = snapshot(done.model)
    changed = {path for path in before if before[path].tobytes() != after[path].tobytes()}
    parts = {"vision" if path.startswith(("image_", "pali_gemma_vit", "vit")) else "text" for path in changed}
    assert parts == moved
    if "lora" in settings:
        values = {path: np.abs(np.asarray(weights["b"])).max() for path, weights in done.model.lora.table.items()}
        assert all(value > 0 for value in values.values())
        assert any("vision_tower" in path for path in values)


def test_run_folder_and_what_it_loads_as(tmp_path, scenes):
    done = run(tmp_path, scenes, val=scenes[:2], full=True, eval_every=2)
    folder = tmp_path / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["AP"] == done.metrics["AP"]
    assert metrics["n"] == 2
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["record"] for line in lines] == [record.id for record in scenes[:2]]
    log = rows(tmp_path)
    assert [row["step"] for row in log] == ["1", "2", "2", "3", "3"]
    assert list(log[0])[:6] == ["step", "epoch", "loss", "learning_rate", "seconds", "examples_per_second"]
    recipe = mmtune.recipe.read_recipe(folder / "recipe.toml", {}, [])
    assert (recipe.steps, recipe.classes) == (3, scenes.classes)
    assert recipe.optimizer.learning_rate is not None


def test_the_log_falls_and_the_rate_follows_the_schedule(tmp_path, scenes):
    run(tmp_path, scenes, full=True, steps=20, optimizer={"learning_rate": 0.01, "warmup": 0.2})
    log = rows(tmp_path)
    losses = [float(row["loss"]) for row in log]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5
    rates = [float(row["learning_rate"]) for row in log]
    up = [0.0025, 0.004375, 0.00625, 0.008125]  # a straight line to the peak in a fifth of the steps
    down = [0.01 * (1 + np.cos(np.pi * step / 16)) / 2 for step in range(16)]
    assert rates == pytest.approx([*up, *down], rel=1e-5)


def test_accumulation_updates_every_second_batch(tmp_path, scenes):
    """Two half batches with accumulation move the weights as one whole batch does."""
    settings = {"full": True, "optimizer": {"learning_rate": 0.01, "schedule": "constant", "warmup": 0.0, "clip": 0.0}}
    options = settings["optimizer"]
    whole = run(tmp_path / "whole", scenes[:4], steps=1, batch_size=4, **settings)
    accumulating = {**settings, "optimizer": {**options, "accumulation": 2}}
    halves = run(tmp_path / "halves", scenes[:4], steps=2, batch_size=2, **accumulating)
    one, two = snapshot(whole.model), snapshot(halves.model)
    moved = max(np.abs(one[path] - value).max() for path, value in snapshot(small_model()).items())
    apart = [np.abs(one[path] - two[path]) for path in one]
    assert moved > 5e-3
    # Adam's first step has the size of the rate wherever the gradient is above rounding.
    assert np.mean([np.mean(a < 1e-4) for a in apart]) > 0.98


@pytest.fixture(scope="module")
def plain_losses(tmp_path_factory, scenes):
    folder = tmp_path_factory.mktemp("plain")
    run(folder, scenes, full=True)
    return [float(row["loss"]) for row in rows(folder)]


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"rematerialise": "full"}, {"rematerialise": "dots"}])
def test_precision_and_rematerialisation_keep_the_loss(tmp_path, scenes, plain_losses, settings):
    run(tmp_path, scenes, full=True, **settings)
    plain, other = plain_losses, [float(row["loss"]) for row in rows(tmp_path)]
    assert other == pytest.approx(plain, rel=3e-2 if "precision" in settings else 2e-5)


def test_accumulation_goes_on_as_larger_batches_do(tmp_path, scenes):
    """Rate, warm-up, moments, decay and clipping count updates; every batch shows the rate of its update."""
    options = {"learning_rate": 0.003, "warmup": 0.4, "weight_decay": 0.1, "clip": 0.5}
    run(tmp_path / "whole", scenes, steps=6, batch_size=4, full=True, optimizer=options)
    accumulating = options | {"accumulation": 2}
    run(tmp_path / "halves", scenes, steps=12, batch_size=2, full=True, optimizer=accumulating)
    whole, halves = rows(tmp_path / "whole"), rows(tmp_path / "halves")
    rates = [float(row["learning_rate"]) for row in whole]
    assert rates == pytest.approx([0.0015, 0.00225, 0.003, 0.002561, 0.0015, 0.000439], rel=1e-3)
    assert [float(row["learning_rate"]) for row in halves] == [rate for rate in rates for _ in range(2)]
    # Each answer of these batches counts alike, so that the loss of a batch is the mean of its halves' losses.
    losses = [np.mean([float(row["loss"]) for row in halves[2 * step : 2 * step + 2]]) for step in range(6)]
    assert losses == pytest.approx([float(row["loss"]) for row in whole], rel=2e-4)
    assert max(losses) - min(losses) > 0.3


def test_the_last_batches_of_a_run_update_the_weights_too(tmp_path, scenes):
    options = {"learning_rate": 0.003, "schedule": "constant", "warmup": 0.0, "accumulation": 3}
    found = {
        steps: snapshot(run(tmp_path / str(steps), scenes, steps=steps, full=True, optimizer=options).model)
        for steps in (3, 4)
    }
    moved = [np.abs(found[4][path] - value).max() for path, value in found[3].items()]
    assert max(moved) > 1e-3


def test_dropout_draws_anew_in_every_step():
    from mmtune.data.batch import Row, collate
    from mmtune.training.model import Trainer

    model = small_model()
    lora = model.add_lora(mmtune.LoRA(rank=4, dropout=0.5))
    for weights in lora.table.values():
        weights["b"].assign(np.ones(weights["b"].shape))
    trainer = Trainer(model, mmtune.Recipe(task="detection", data="x"))
    inputs, _ = collate([Row([2, 9, 4], [[7, 8, 1]], [[1.0] * 3], np.zeros((28, 28, 3), np.uint8))], 4)
    first, second = (np.asarray(trainer(inputs, training=True)["hidden"]) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    still = [np.asarray(trainer(inputs, training=False)["hidden"]) for _ in range(2)]
    np.testing.assert_array_equal(*still)


@pytest.mark.parametrize("settings", [{"full": False}, {"full": True, "freeze_vision": True}, {"full": True}])
def test_a_run_loads_as_the_model_that_it_left(tmp_path, settings):
    scenes = mmtune.read("shapes:train?n=4&max_objects=1", task="detection")
    folder = tmp_path / "run"
    done = mmtune.train(
        "tiny",
        task="detection",
        data=scenes,
        out=folder,
        steps=2,
        batch_size=2,
        buckets=1,
        seed=3,
        verbose=False,
        **settings,
    )
    again = mmtune.load(folder)
    for one, two in zip(done.model.backbone.weights, again.backbone.weights, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes(), one.path
    picture = scenes[0].picture
    assert done.model.generate([picture], ["detect star"], 4) == again.generate([picture], ["detect star"], 4)
    assert again.setup == done.model.setup


def test_a_run_that_fails_leaves_the_model_as_it_was(tmp_path, scenes):
    model = small_model()
    before = snapshot(model)
    with pytest.raises(DataError, match="became"):
        mmtune.train(
            model,
            task="detection",
            data=scenes,
            out=tmp_path / "run",
            steps=6,
            batch_size=4,
            buckets=1,
            log_every=1,
            verbose=False,
            optimizer={"learning_rate": 1e30, "clip": 0.0, "warmup": 0.0, "schedule": "constant"},
        )
    assert model.lora is None
    after = snapshot(model)
    assert all(before[path].tobytes() == after[path].tobytes() for path in before)


def test_other_data_are_not_resumed_on(tmp_path, scenes):
    run(tmp_path, scenes[:10], steps=2)
    with pytest.raises(ModelError, match="begun on other data"):
        run(tmp_path, scenes[:8], steps=2, resume=True)
    with pytest.raises(RecipeError, match="data: the run was begun with 'records of shapes"):
        run(tmp_path, scenes, steps=2, resume=True)


def test_a_text_model_is_refused_for_pictures(tmp_path, scenes):
    model = Model(make("gemma", vocabulary_size=2176), tiny_tokenizer(), name="words")
    with pytest.raises(UsageError, match="needs pictures, and words is a text model"):
        mmtune.train(model, task="detection", data=scenes, out=tmp_path / "run", steps=1, verbose=False)
    assert not (tmp_path / "run").exists()


def test_a_wrong_target_leaves_no_run_behind(tmp_path, scenes):
    with pytest.raises(ModelError, match="matches no linear module"):
        run(tmp_path, scenes, lora=mmtune.LoRA(targets=("q_prj",)))
    run(tmp_path, scenes, steps=1)


def test_classes_that_only_validation_has_are_named(tmp_path, scenes):
    other = replace(scenes[0], id="other", boxes=(Box("unicorn", 1, 1, 9, 9),))
    done = run(tmp_path, scenes, steps=1, val=[other])
    assert [fault.record for fault in done.faults if fault.kind == "class unknown to training"] == ["other"]


def test_early_stopping(tmp_path, scenes):
    done = run(
        tmp_path,
        scenes,
        val=scenes[:1],
        steps=40,
        eval_every=2,
        early_stopping=2,
        optimizer={"learning_rate": 1e-9},
    )
    steps = [int(row["step"]) for row in rows(tmp_path)]
    assert max(steps) == 6  # best at 2, no better at 4 and 6
    adapter = (done.folder / "adapter.safetensors").read_bytes()
    again = run(
        tmp_path,
        scenes,
        val=scenes[:1],
        steps=40,
        eval_every=2,
        early_stopping=2,
        optimizer={"learning_rate": 1e-9},
        resume=True,
    )
    assert max(int(row["step"]) for row in rows(tmp_path)) == 6
    assert (again.folder / "adapter.safetensors").read_bytes() == adapter


def test_a_validation_fraction_is_held_back(tmp_path, scenes):
    done = run(tmp_path, scenes, val=0.25)
    assert json.loads((done.folder / "metrics.json").read_text())["n"] == 3


def test_a_run_is_not_written_over(tmp_path, scenes):
    run(tmp_path, scenes, steps=1)
    with pytest.raises(UsageError, match="already holds a run: resume it with --resume"):
        run(tmp_path, scenes, steps=1)
    with pytest.raises(RecipeError, match="batch_size: the run was begun with 4, not 2"):
        run(tmp_path, scenes, steps=1, batch_size=2, resume=True)


def test_unknown_metric(tmp_path, scenes):
    with pytest.raises(RecipeError, match="unknown metric 'AP_50': did you mean 'AP50'"):
        run(tmp_path, scenes, val=scenes[:1], metric="AP_50")


def test_a_truncated_photo_is_listed_and_the_rest_is_trained_on(tmp_path, scenes):
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((400, 300), 90).convert("RGB").save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:9000])
    broken = Record("broken", FilePicture(cut), (400, 300), boxes=(Box("circle", 10, 10, 90, 90),), source="list.json")
    unseen = replace(broken, id="unseen")
    done = run(tmp_path, replace(scenes, records=(*scenes.records[:3], broken)), val=[unseen, scenes[0]], steps=2)
    assert {fault.record for fault in done.faults} == {"broken", "unseen"}
    assert any("cut.jpg" in fault.problem for fault in done.faults)
    assert json.loads((done.folder / "metrics.json").read_text())["n"] == 1
    assert all(np.isfinite(float(row["loss"])) for row in rows(tmp_path) if row["loss"])


def test_nothing_to_train_on(tmp_path, scenes):
    blank = [replace(record, boxes=(Box("<loc0001>", 0, 0, 9, 9),)) for record in scenes[:2]]
    with pytest.raises(
        DataError, match=r"none of 2 training records can be used for detection; the first: .*<loc0001>"
    ):
        run(tmp_path, blank)


def test_a_lost_loss_names_step_and_records(tmp_path, scenes):
    with pytest.raises(DataError, match=r"the loss became (nan|inf) at step \d+ on the records train"):
        run(tmp_path, scenes, full=True, steps=8, optimizer={"learning_rate": 1e30, "clip": 0.0, "warmup": 0.0})


def example(text_length):
    return Example(Record(str(text_length)), Query("detect"), text_length, text_length - 3, text_length - 3)


@pytest.mark.parametrize("lengths", [[20] * 12, [20] * 30 + [90, 95], [10, 30, 60, 90] * 7 + [200]])
def test_every_example_is_used_once_an_epoch(lengths):
    examples = [example(n) for n in lengths]
    shapes = choose_shapes(examples, 3)
    assert len(shapes) <= 3
    plan = list(Plan(examples, shapes, 4, steps=60, seed=5))
    for batch in plan:
        for index, _ in batch.members:
            assert examples[index].text_length <= batch.shape.text_length
            assert examples[index].target_length <= batch.shape.target_length
    used = [member for batch in plan for member in batch.members]
    assert len(used) == len(set(used)) == 240
    whole = 240 // len(examples) - 1
    assert whole >= 3
    for epoch in range(whole):
        assert sorted(index for index, e in used if e == epoch) == list(range(len(examples)))
    assert plan == list(Plan(examples, shapes, 4, steps=90, seed=5))[:60]
    assert plan[41] == Plan(examples, shapes, 4, steps=60, seed=5)[41]
    assert plan != list(Plan(examples, shapes, 4, steps=60, seed=6))
