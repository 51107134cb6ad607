"""Recipes: TOML and options in, complete TOML out, all faults at once."""

import re
from dataclasses import replace

import pytest

from mmtune.errors import RecipeError
from mmtune.models.lora_config import LoRA
from mmtune.recipe import Recipe, read_recipe, resumed, write_recipe

TEXT = """
task = "detection"
data = "photos"
batch_size = 4

[optimizer]
learning_rate = 1e-3
clip = 2

[lora]
rank = 16
targets = ["q_proj", "v_proj"]

[augment]
flip = 0.5
scale = [0.5, 1.0]

[options]
noise_boxes = 30
"""


def test_file_then_options_then_assignments(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(TEXT)
    recipe = read_recipe(file, {"batch_size": 6, "steps": None}, ["lora.rank=4", "optimizer.schedule=constant"])
    assert (recipe.batch_size, recipe.steps, recipe.lora.rank) == (6, None, 4)
    assert recipe.lora.targets == ("q_proj", "v_proj")
    assert (recipe.optimizer.learning_rate, recipe.optimizer.clip) == (1e-3, 2.0)
    assert recipe.optimizer.schedule == "constant"
    assert recipe.augment.flip == 0.5
    assert recipe.task_options().noise_boxes == 30


def test_written_recipe_reads_back_equal(tmp_path):
    recipe = Recipe(task="detection", data="a:train", val="0.1", classes=("cat", "a ; b"), lora=LoRA(rank=3, dora=True))
    write_recipe(recipe, tmp_path / "run" / "recipe.toml")
    assert read_recipe(tmp_path / "run" / "recipe.toml", {}, []) == recipe


@pytest.mark.parametrize(
    ("changes", "assignments", "expected"),
    [
        ({"task": "detection"}, [], ["data: is required"]),
        ({"task": "detecton", "data": "x"}, [], ["did you mean 'detection'"]),
        (
            {"task": "detection", "data": "x"},
            ["optimizer.clip=-1", "seed=a"],
            ["seed: expected a whole number, got 'a'"],
        ),
        ({"task": "detection", "data": "x"}, ["optimizer.clip=-1", "steps=0"], ["optimizer.clip", "steps: expected 1"]),
        ({"task": "detection", "data": "x"}, ["full=yes"], ["full: expected true or false, got 'yes'"]),
        ({"task": "detection", "data": "x"}, ["precision=float64"], ["one of float32, bfloat16, got 'float64'"]),
        ({"task": "detection", "data": "x"}, ["augment.scale=[1]"], ["augment.scale: expected 2 values"]),
        ({"task": "detection", "data": "x"}, ["augment.flip=2"], ["augment.flip"]),
        ({"task": "detection", "data": "x"}, ["options.order=up"], ["options.order"]),
        ({"task": "detection", "data": "x"}, ["lora=5"], ["lora: expected a table, got 5"]),
        ({"task": "detection", "data": "x"}, ["seed.x=5"], ["seed"]),
        ({"task": "detection", "data": "x"}, ["seed=-1", "epochs=inf", "buckets=0"], ["seed:", "epochs:", "buckets:"]),
        ({"task": "detection", "data": "x"}, ["early_stopping=-1"], ["early_stopping: expected 0 or more"]),
        ({"task": "detection", "data": "x"}, ["optimizer.learning_rate=nan"], ["optimizer.learning_rate"]),
        ({"task": "detection", "data": "x"}, ["optimizer.beta_2=1.0"], ["optimizer.beta_2"]),
        ({"task": "detection", "data": "x"}, ["mesh=rows=2", "batch_size=0"], ["unknown axis 'rows'", "batch_size"]),
        ({"task": "detection", "data": "x"}, ["mesh=data=3", "batch_size=8"], ["cannot be divided over data=3"]),
        ({"task": "detection", "data": "x"}, ["freeze_vision=false"], ["freeze_vision: an adapter"]),
        ({"task": "detection", "data": "x"}, ["freeze_vision=true", "lora.vision=true"], ["contradict each other"]),
        ({"task": "detection", "data": "x", "steps": 2}, ["optimizer.accumulation=4"], ["optimizer.accumulation"]),
        ({"task": "detection", "data": "x"}, ["nothing"], ["--set nothing: expected key=value"]),
    ],
    ids=str,
)
def test_faults_name_their_keys(changes, assignments, expected):
    with pytest.raises(RecipeError) as error:
        read_recipe(None, changes, assignments)
    for part in expected:
        assert part in str(error.value)


STORED = Recipe(task="detection", data="a:train", steps=30, batch_size=4, out="runs/a", classes=("cat",))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"task": "detection", "data": "a:train", "batch_size": 4},
        {"out": "/elsewhere/a/"},
        {"optimizer": {"clip": 1.0}},
        {"epochs": 10},
        {"lora": {"targets": list(LoRA().targets)}},
    ],
    ids=str,
)
def test_the_same_recipe_is_gone_on_with(given):
    recipe = resumed(STORED, given)
    assert replace(recipe, out="runs/a") == STORED
    assert recipe.out == given.get("out", "runs/a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 8}, "batch_size: the run was begun with 4, not 8"),
        ({"optimizer": {"clip": 2.0}}, "optimizer.clip: the run was begun with 1.0, not 2.0"),
        ({"val": "0.1"}, "val: the run was begun with None, not '0.1'"),
    ],
    ids=str,
)
def test_another_recipe_is_not(given, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        resumed(STORED, given)


def test_val_may_be_a_number(tmp_path):
    recipe = read_recipe(None, {"task": "detection", "data": "x"}, ["val=0.1"])
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert recipe.val == 0.1
    assert read_recipe(tmp_path / "recipe.toml", {}, []) == recipe
