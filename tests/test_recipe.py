"""Recipes: TOML and options in, complete TOML out, all faults at once."""

import pytest

from mmtune.errors import RecipeError
from mmtune.models.lora_config import LoRA
from mmtune.recipe import Recipe, read_recipe, write_recipe

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
        ({"task": "detection", "data": "x"}, ["nothing"], ["--set nothing: expected key=value"]),
    ],
    ids=str,
)
def test_faults_name_their_keys(changes, assignments, expected):
    with pytest.raises(RecipeError) as error:
        read_recipe(None, changes, assignments)
    for part in expected:
        assert part in str(error.value)
