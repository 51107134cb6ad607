"""The recipes of published transfers: settings and scores are the papers', and each runs on its data's own files."""

import contextlib
import dataclasses
import io
import json
import re
import shlex
import tomllib
from importlib.resources import files
from pathlib import Path

import published_layouts as layouts
import pytest

import mmtune
from mmtune.recipe import read_recipe
from mmtune.registry import task_class

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {file.stem: file for file in sorted((ROOT / "tasks" / "recipes").glob("*.toml"))}
OURS = ("detection_small_data", "instruct")  # measured here, not published

# arXiv 2407.07726, appendix J. Resolution: epochs, batch, rate, decay, dropout, smoothing, tower, decoding.
USUAL = (256, 1e-5, 1e-6, 0.0, 0.0, "tuned", "greedy")
PLAIN = (128, 5e-6, 0.0, 0.0, 0.0, "tuned", "greedy")
LATE = (32, 3e-6, 3e-7, 0.0)
SETTINGS = {
    "vqav2": {224: (10, *USUAL), 448: (10, 256, 1e-5, 0.0, 0.0, 0.0, "tuned", "greedy")},
    "okvqa": {224: (10, *PLAIN), 448: (10, *PLAIN)},
    "aokvqa_mc": {224: (15, *PLAIN), 448: (15, *PLAIN)},
    "aokvqa_da": {224: (10, *PLAIN), 448: (10, *PLAIN)},
    "gqa": {
        224: (1, 256, 1e-5, 0.0, 0.0, 0.0, "tuned", "greedy"),
        448: (1, 256, 1e-5, 0.0, 0.0, 0.0, "frozen", "greedy"),
    },
    "textvqa": {
        224: (5, 256, 3e-6, 0.0, 0.0, 0.0, "tuned", "greedy"),
        448: (10, 256, 3e-6, 3e-7, 0.0, 0.0, "tuned", "greedy"),
        896: (10, 256, 3e-6, 0.0, 0.0, 0.0, "tuned", "greedy"),
    },
    "docvqa": {224: (10, *USUAL), 448: (10, *USUAL), 896: (10, *USUAL)},
    "infovqa": {
        224: (3, 256, 1e-5, 1e-6, 0.0, 0.4, "tuned", "greedy"),
        448: (3, 128, 1e-5, 1e-6, 0.0, 0.4, "tuned", "greedy"),
        896: (3, *LATE, 0.4, "tuned", "greedy"),
    },
    "stvqa": {
        224: (3, 256, 1e-5, 1e-6, 0.0, 0.1, "tuned", "greedy"),
        448: (3, 128, 1e-5, 1e-6, 0.0, 0.1, "tuned", "greedy"),
        896: (3, *LATE, 0.1, "tuned", "greedy"),
    },
    "chartqa": dict.fromkeys((224, 448), (30, 256, 1e-5, 1e-6, 0.1, 0.2, "tuned", "greedy")),
    "vizwiz": dict.fromkeys((224, 448), (10, 256, 1e-5, 0.0, 0.0, 0.0, "tuned", "greedy")),
    "refcoco": {
        224: (100, 256, 3e-5, 0.0, 0.1, 0.3, "tuned", "greedy"),
        448: (100, 256, 1e-5, 0.0, 0.0, 0.3, "tuned", "greedy"),
        896: (100, 64, 1e-5, 0.0, 0.0, 0.3, "tuned", "greedy"),
    },
    "coco_captions": dict.fromkeys((224, 448), (5, 256, 1e-5, 1e-6, 0.0, 0.0, "tuned", "beams=2")),
    "textcaps": dict.fromkeys((224, 448), (5, 256, 1e-5, 1e-6, 0.0, 0.0, "tuned", "beams=3")),
    # arXiv 2412.03555, appendix C, says no more than how long.
    "coco_detection": dict.fromkeys((224, 448, 896), (50, *[None] * 7)),
    "doclaynet": dict.fromkeys((224, 448, 896), (50, *[None] * 7)),
}

# Per cent at 224, 448 and 896 pixels: arXiv 2407.07726, table 1; 2412.03555, tables 11, 13 and 15.
ONE, TWO, TEN_B = "PaliGemma", "PaliGemma 2 3B", "PaliGemma 2 10B"
SCORES = {
    "vqav2": {
        f"{ONE}, test-std": (83.2, 85.6, None),
        f"{ONE}, minival": (82.1, 84.6, None),
        f"{TWO}, minival": (83.0, 84.8, None),
    },
    "okvqa": {f"{ONE}, val": (63.5, 63.2, None), f"{TWO}, val": (64.2, 64.1, None)},
    "aokvqa_mc": {
        f"{ONE}, test": (76.4, 76.9, None),
        f"{ONE}, val": (78.5, 80.3, None),
        f"{TWO}, val": (79.7, 82.5, None),
    },
    "aokvqa_da": {
        f"{ONE}, test": (61.9, 63.2, None),
        f"{ONE}, val": (61.1, 65.7, None),
        f"{TWO}, val": (64.2, 67.9, None),
    },
    "gqa": {f"{ONE}, testdev": (65.6, 67.0, None), f"{TWO}, testdev": (66.2, 68.1, None)},
    "textvqa": {
        f"{ONE}, test-std": (55.5, 73.2, 76.5),
        f"{ONE}, val": (59.0, 74.6, None),
        f"{TWO}, val": (59.6, 75.2, None),
    },
    "docvqa": {
        f"{ONE}, test": (43.7, 78.0, 84.8),
        f"{ONE}, val": (37.8, 74.1, None),
        f"{TWO}, val": (39.9, 73.6, None),
    },
    "infovqa": {
        f"{ONE}, test": (28.5, 40.5, 47.8),
        f"{ONE}, val": (25.5, 37.0, None),
        f"{TWO}, val": (25.2, 37.5, None),
    },
    "stvqa": {
        f"{ONE}, test": (63.3, 81.8, 84.4),
        f"{ONE}, val": (61.6, 79.7, None),
        f"{TWO}, val": (61.9, 80.5, None),
    },
    "chartqa": {
        f"{ONE}, test human": (40.0, 54.2, None),
        f"{ONE}, test augmented": (74.2, 88.5, None),
        f"{TWO}, test human": (42.0, 54.0, None),
        f"{TWO}, test augmented": (74.4, 89.2, None),
    },
    "vizwiz": {f"{ONE}, test-std": (73.7, 75.5, None), f"{TWO}, val": (76.4, 77.5, None)},
    "refcoco": {
        f"{ONE}, val": (73.4, 75.6, 76.9),
        f"{ONE}, testA": (75.7, 77.9, 78.7),
        f"{ONE}, testB": (70.7, 72.4, 73.9),
        f"{TWO}, val": (73.4, 76.3, None),
        f"{TWO}, testA": (75.7, 78.6, None),
        f"{TWO}, testB": (71.0, 73.5, None),
    },
    "coco_captions": {f"{ONE}, val": (141.9, 144.6, None), f"{TWO}, val": (141.3, 143.4, None)},
    "textcaps": {f"{ONE}, val": (127.5, 153.9, None), f"{TWO}, val": (127.5, 152.1, None)},
    "coco_detection": {ONE: (28.7, 37.0, 41.1), TWO: (30.4, 38.5, 42.3), TEN_B: (30.3, 39.2, 43.6)},
    "doclaynet": {ONE: (50.8, 64.1, 66.5), TWO: (46.7, 62.5, 66.1), TEN_B: (50.4, 63.5, 66.0)},
}

# The published configurations' limit of an answer's tokens; detection fills whatever the noise boxes need.
TOKENS = {"aokvqa_mc": 128, "chartqa": 48, "infovqa": 48, "refcoco": 48, "stvqa": 48, "vizwiz": 48}
TOKENS |= {"coco_detection": None, "doclaynet": None}

# What makes the data, and what a record of it is asked and taught (the papers' appendices on tasks).
WORLDS = {"aokvqa_mc": "aokvqa", "aokvqa_da": "aokvqa", "coco_detection": "coco"}
ASKED = {
    "vqav2": ("answer en What is this photo taken looking through?", "net"),
    "okvqa": ("answer en What is this photo taken looking through?", "net"),
    "aokvqa_mc": (
        "answer en What is the man by the bags awaiting? choose from: skateboarder \t train \t delivery \t cab",
        "cab",
    ),
    "aokvqa_da": ("answer en What is the man by the bags awaiting?", "ride"),
    "gqa": ("answer en Is the sky dark?", "yes"),
    "textvqa": ("answer en what is the brand of this camera?", "dakota digital"),
    "docvqa": ("what is the date mentioned in this letter?", "1/8/93"),
    "infovqa": ("answer en Which team has most likes?", "titans"),
    "stvqa": ("answer en What company is this?", "microsoft"),
    "chartqa": ("How many food items are shown?", "14"),
    "vizwiz": ("answer en What's the name of this product?", "basil leaves"),
    "refcoco": ("the lady on the left", r"(<loc\d{4}>){4}(<seg\d{3}>){16}"),
    "coco_captions": ("caption en", r"Green and red beer can for Tsingtao\."),
    "textcaps": ("caption en", r"green and red beer can for tsingtao\."),
    "coco_detection": ("detect person ; hot dog", r"(<loc\d{4}>){4} hot dog ; (<loc\d{4}>){4} person"),
    "doclaynet": (
        "detect Caption ; Footnote ; Formula ; List-item ; Page-footer ; Page-header ; Picture ; Section-header ; "
        "Table ; Text ; Title",
        r"(<loc\d{4}>){4} Footnote ; (<loc\d{4}>){4} Formula",
    ),
}
# For the sake of time: fewer noise boxes make shorter answers.
QUICKER = dict.fromkeys(("coco_detection", "doclaynet"), ("options.noise_boxes=3",))

published = pytest.mark.parametrize("name", sorted(set(RECIPES) - set(OURS)))


def comments(name):
    return [line[1:].strip() for line in RECIPES[name].read_text().splitlines() if line.startswith("#")]


def value(text):
    """Returns a cell of a table: a number, a word, or None for a dash."""
    return None if text == "-" else float(text) if re.fullmatch(r"[\d.e-]+", text) else text


def table(name, heading):
    """Returns the lines of comment below a heading, as far as they belong to it."""
    lines = comments(name)
    start = next(place for place, line in enumerate(lines) if re.fullmatch(heading, line)) + 1
    end = next((place for place in range(start, len(lines)) if not lines[place]), len(lines))
    return lines[start:end]


def settings(name):
    columns = r"pixels +epochs +batch +rate +decay +dropout +smoothing +tower +decoding"
    rows = [[value(cell) for cell in line.split()] for line in table(name, columns)]
    return {int(row[0]): tuple(row[1:]) for row in rows}


def scores(name):
    rows = [line.rsplit(maxsplit=3) for line in table(name, r"\w+ +224 +448 +896")]
    return {row[0].strip(): tuple(value(cell) for cell in row[1:]) for row in rows}


# The rule and the metric by which the published number was counted: each transfer's evaluator in big_vision's
# configs/proj/paligemma/transfers (at 0127fb6), see docs/recipes.md.
SCORINGS = {
    "vqav2": ("vqa", "accuracy"),
    "textvqa": ("vqa", "accuracy"),
    "okvqa": ("okvqa", "accuracy"),
    "aokvqa_da": ("okvqa", "accuracy"),
    "vizwiz": ("okvqa", "accuracy"),
    "aokvqa_mc": ("any", "accuracy"),
    "gqa": ("any", "accuracy"),
    "docvqa": (None, "ANLS"),
    "infovqa": (None, "ANLS"),
    "stvqa": (None, "ANLS"),
    "chartqa": (None, "relaxed_accuracy"),
    "coco_captions": (None, "CIDEr"),
    "textcaps": (None, "CIDEr"),
    "refcoco": (None, "mIoU"),
    "coco_detection": (None, "AP"),
    "doclaynet": (None, "AP"),
}


@pytest.mark.parametrize("name", sorted(SCORINGS))
def test_the_score_is_counted_as_the_published_one(name):
    recipe = read_recipe(RECIPES[name], {}, [])
    scoring, metric = SCORINGS[name]
    assert (recipe.metric or task_class(recipe.task).headline) == metric
    assert scoring is None or recipe.task_options().scoring == scoring
    page = (ROOT / "docs" / "recipes.md").read_text().partition("## How the published numbers were counted")[2]
    assert f"| `{name}` |" in page.partition("\n## ")[0]


def test_every_recipe_is_accounted_for():
    assert SCORINGS.keys() == RECIPES.keys() - set(OURS)
    assert set(RECIPES) == {*SETTINGS, *OURS}
    assert set(SETTINGS) == set(SCORES) == set(ASKED)


@pytest.mark.parametrize("name", OURS)
def test_our_own_are_read(name):
    assert read_recipe(RECIPES[name], {}, []).model == "tiny"


def test_recipes_are_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["mmtune.tasks"] == ["recipes/*.toml"]
    shipped = {entry.name for entry in (files("mmtune.tasks") / "recipes").iterdir()}
    assert shipped >= {file.name for file in RECIPES.values()}


@published
def test_the_tables_are_the_papers(name):
    assert settings(name) == SETTINGS[name]
    assert scores(name) == SCORES[name]


@published
def test_the_settings_are_those_of_the_first_row(name):
    recipe = read_recipe(RECIPES[name], {}, [])
    pixels, (epochs, batch, rate, decay, _, smoothing, tower, _) = next(iter(SETTINGS[name].items()))
    optimizer = recipe.optimizer
    assert recipe.model == f"pali_gemma_3b_{pixels}"
    assert recipe.full
    assert bool(recipe.freeze_vision) == (tower == "frozen")
    if recipe.steps is None:
        assert recipe.epochs == epochs
    else:
        assert name == "refcoco"
        assert recipe.steps == round(100 * 24407 / 256)
    assert (recipe.batch_size, optimizer.learning_rate) == (batch or 256, rate or 1e-5)
    # Published decay is not multiplied by the rate; AdamW's is.
    assert optimizer.weight_decay * optimizer.learning_rate == pytest.approx(decay or 0.0)
    assert optimizer.label_smoothing == (smoothing or 0.0)
    adam = (optimizer.beta_1, optimizer.beta_2, optimizer.clip, optimizer.schedule, optimizer.warmup)
    assert adam == (0.9, 0.999, 1.0, "cosine", 0.05)
    assert (optimizer.location_smoothing, optimizer.accumulation, recipe.dense.on) == (0.0, 1, False)


@published
def test_models_are_presets(name):
    presets = pytest.importorskip("keras_hub.models").PaliGemmaBackbone.presets
    for pixels in SETTINGS[name]:
        assert {f"pali_gemma_3b_{pixels}", f"pali_gemma2_pt_3b_{pixels}"} <= set(presets)


@published
def test_the_commands_fit_the_recipe(name):
    recipe = read_recipe(RECIPES[name], {}, [])
    train, evaluate = (shlex.split(line) for line in comments(name) if line.startswith("mmtune "))
    assert train[1:] == ["train", f"tasks/recipes/{name}.toml", "--data", recipe.data, "--val", str(recipe.val)]
    assert recipe.out == f"runs/{name}"
    assert evaluate[1:6] == ["eval", recipe.out, "--task", recipe.task, "--data"]
    assert evaluate[6].partition(":")[0] == recipe.data.partition(":")[0]
    options = dict(zip(evaluate[7::2], evaluate[8::2], strict=True))
    tokens, decoding = TOKENS.get(name, 32), SETTINGS[name][224][-1]
    beams = re.fullmatch(r"beams=(\d)", decoding or "")
    expected = {"--beams": beams[1]} if beams else {}
    assert options == expected | ({} if tokens is None else {"--max-tokens": str(tokens)})


@published
def test_the_page_has_its_row(name):
    page = (ROOT / "docs" / "recipes.md").read_text().partition("## How the published numbers were counted")[0]
    (line,) = re.findall(rf"^\| `{name}` \|(.*)\|$", page, re.MULTILINE)
    task, _, what, metric, one, two, options = (cell.strip() for cell in line.split("|"))
    recipe = read_recipe(RECIPES[name], {}, [])
    epochs, batch, rate, *_ = SETTINGS[name][224]
    assert task == recipe.task
    assert [value(cell) for cell in what.split(" / ")] == [epochs, batch, rate]
    assert metric == (recipe.metric or task_class(recipe.task).headline)
    heading = next(line for line in comments(name) if re.fullmatch(r"\w+ +224 +448 +896", line))
    assert heading.split()[0] == metric
    for cell, model in ((one, ONE), (two, TWO)):
        numbers, _, split = cell.partition(" (")
        key = f"{model}, {split.removesuffix(')')}" if split else model
        shown = tuple(map(value, numbers.split(" / ")))
        assert shown == SCORES[name][key][: len(shown)]
        assert len(shown) >= 2
    command = next(line for line in comments(name) if line.startswith("mmtune eval"))
    assert options.strip("`") == " ".join(command.split()[7:])


@pytest.fixture(scope="module")
def quick():
    """The embedded model with one layer where it has four, compiled in haste."""
    import jax

    import mmtune.models.load as load
    import mmtune.models.tiny as tiny

    with pytest.MonkeyPatch.context() as patch:
        jax.config.update("jax_disable_most_optimizations", True)
        patch.setattr(tiny, "TINY", dataclasses.replace(tiny.TINY, num_layers=1, vision_layers=1))
        patch.setattr(load, "_tiny", tiny.build_tiny)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def world(name, tmp_path, monkeypatch):
    """The folder in which the recipe's own addresses lead to data."""
    getattr(layouts, WORLDS.get(name, name))(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@published
def test_the_prompt_and_the_target(name, world):
    del world
    recipe = read_recipe(RECIPES[name], {}, [])
    data = mmtune.read(recipe.data, task=recipe.task)
    # Some keep the pictures of all splits together.
    assert [fault for fault in data.faults if fault.kind != "pictures without questions"] == []
    task = task_class(recipe.task)(data.classes, recipe.task_options())
    (query,) = task.queries(data[0])
    (target,) = task.targets(data[0], query)
    prompt, text = ASKED[name]
    assert query.prompt == prompt
    assert re.fullmatch(text, "".join(span.text for span in target))


def run(*words):
    from mmtune.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code, said.getvalue()[-2000:]


@published
def test_two_steps(name, world, quick):
    del quick
    words = ["train", str(RECIPES[name]), "--model", "tiny", "--batch-size", "2", "--steps", "2", "--out", "run"]
    run(*words, "--set", "eval_every=2", "buckets=1", *QUICKER.get(name, ()))
    result = json.loads((world / "run" / "metrics.json").read_text())
    recipe, own = read_recipe(world / "run" / "recipe.toml", {}, []), read_recipe(RECIPES[name], {}, [])
    assert (result["step"], result["task"]) == (2, recipe.task)
    assert result["n"] > 0
    assert result["metrics"][recipe.metric or task_class(recipe.task).headline] >= -1
    assert (recipe.optimizer, recipe.metric, recipe.data) == (own.optimizer, own.metric, own.data)


@pytest.mark.parametrize("name", ["textcaps"])
def test_the_command_that_evaluates(name, world, quick):
    del quick
    command = next(line for line in comments(name) if line.startswith("mmtune eval"))
    words = shlex.split(command.replace(f"runs/{name}", "tiny"))[1:]
    assert "--beams" in words
    run(*words, "--limit", "1", "--json", "scores.json")
    assert json.loads((world / "scores.json").read_text())["n"] == 1
