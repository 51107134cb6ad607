"""Recipes: TOML and options in, complete TOML out, all faults at once."""

import math
import re
from dataclasses import is_dataclass, replace
from typing import get_args, get_origin, get_type_hints

import pytest

import mmtune
from mmtune.errors import RecipeError
from mmtune.models.lora_config import LoRA
from mmtune.recipe import Recipe, read_recipe, resumed, write_recipe
from mmtune.settings import number_problems

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
        (
            {"task": "detection", "data": "x"},
            ["lora.alpha=nan", "optimizer.clip=inf", "augment.flip=0.1", "steps=0", "val=nan"],
            [
                "lora.alpha: expected a finite number, got nan",
                "optimizer.clip: expected a finite",
                "steps:",
                "val: exp",
            ],
        ),
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


def number_keys(cls=Recipe, prefix=""):
    """Returns the key of each number of a dataclass with its count, 0 for one alone, from the annotations."""
    found = []
    for name, kind in get_type_hints(cls).items():
        kinds = [kind] if get_origin(kind) is tuple else [kind, *get_args(kind)]
        nested = next((k for k in kinds if is_dataclass(k)), None)
        several = next((get_args(k) for k in kinds if get_origin(k) is tuple and float in get_args(k)), ())
        if nested is not None:
            found += number_keys(nested, f"{prefix}{name}.")
        elif float in kinds or several:
            found.append((f"{prefix}{name}", len(several)))
    return found


@pytest.mark.parametrize(("key", "count"), number_keys())
@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_no_number_of_a_recipe_is_nan_or_infinite(key, count, text):
    given = f"[{', '.join([text] * count)}]" if count else text
    with pytest.raises(RecipeError, match=key):
        read_recipe(None, {"task": "detection", "data": "x", "full": True}, [f"{key}={given}"])
    value = (float(text),) * count if count else float(text)
    *parents, last = key.split(".")

    def made_in_python():
        if not parents:
            return replace(STORED, **{last: value})
        return replace(STORED, full=True, **{parents[0]: replace(getattr(STORED, parents[0]), **{last: value})})

    with pytest.raises(RecipeError, match=key):
        made_in_python()


def test_the_keys_of_numbers_are_found():
    assert {"epochs", "val", "lora.alpha", "optimizer.clip", "augment.scale", "pictures.mean"} <= dict(
        number_keys()
    ).keys()


def test_a_task_s_own_numbers_are_finite():
    with pytest.raises(RecipeError, match=r"options.mask_weight: expected"):
        read_recipe(None, {"task": "segmentation", "data": "x"}, ["options.mask_weight=nan"])


@pytest.mark.parametrize("alpha", [math.nan, math.inf, 0.0])
def test_an_adapter_made_in_python_is_checked(alpha):
    with pytest.raises(RecipeError, match=r"lora.alpha: expected a"):
        Recipe(task="detection", data="x", lora=LoRA(alpha=alpha))
    with pytest.raises(RecipeError, match=r"lora.alpha: expected a"):
        mmtune.train("tiny", task="detection", data="shapes", lora=LoRA(alpha=alpha))
    with pytest.raises(RecipeError, match=r"lora.alpha: expected a"):
        mmtune.load("tiny").add_lora(LoRA(alpha=alpha))


def test_number_problems_names_every_place():
    made = {"a": {"b": [1.0, math.inf]}, "c": "nan", "d": math.nan, "e": None, "f": 3}
    assert number_problems(made, "x.") == [
        "x.a.b[1]: expected a finite number, got inf",
        "x.d: expected a finite number, got nan",
    ]
