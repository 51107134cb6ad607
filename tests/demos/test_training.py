"""Plans of the page are commands, and runs are what the command line writes."""

import json
import shlex
from dataclasses import replace

import pytest
from PIL import Image

from mmtune.cli.train import train
from mmtune.data.read import read
from mmtune.demos.plan import Plan, suggested
from mmtune.demos.training import Trainer, final_metrics
from mmtune.errors import DataError, UsageError
from mmtune.registry import task_names


@pytest.mark.parametrize("task", task_names())
def test_the_command_is_one_that_train_takes(task, tmp_path, monkeypatch):
    """The words are read by the command line itself, up to where it would begin to train."""
    import typer

    import mmtune.api
    from mmtune.cli import spread_lists

    recipes = []
    monkeypatch.setattr(mmtune.api, "train_recipe", lambda recipe, **_: recipes.append(recipe))
    app = typer.Typer()
    app.command()(train)
    plan = suggested(task, "some where", "tiny", 100)
    words = shlex.split(Trainer(tmp_path, {}).command(plan))
    assert words[:2] == ["mmtune", "train"]
    with pytest.raises(SystemExit) as left:
        app(spread_lists(words[1:])[1:])
    assert not left.value.code
    (recipe,) = recipes
    assert (recipe.task, recipe.data, recipe.steps, recipe.lora.rank) == (task, "some where", 125, 16)
    assert recipe.lora.alpha == 32
    assert recipe.optimizer.learning_rate == (8e-3 if task in ("detection", "segmentation") else 4e-3)


def test_suggestions_keep_within_what_a_visitor_waits_for():
    assert [suggested("ocr", "x", "tiny", n).steps for n in (1, 100, 10_000)] == [60, 125, 480]
    assert suggested("ocr", "x", "gemma", 100).learning_rate == 0


@pytest.mark.parametrize(
    "wrong",
    [
        *({"steps": 0}, {"steps": 1.5}, {"steps": "9"}, {"batch_size": 10**9}, {"val": -1}, {"val": float("nan")}),
        *({"learning_rate": True}, {"task": "painting"}, {"lora_rank": None}),
    ],
)
def test_a_plan_is_checked(wrong):
    with pytest.raises(UsageError):
        Plan(**({"task": "ocr", "data": "x"} | wrong))


def test_names_of_others_are_refused(tmp_path):
    trainer = Trainer(tmp_path, {"mine": "shapes"})
    for name in ("/etc", "../..", "shapes:train", "", None, ["mine"]):
        with pytest.raises(UsageError, match="unknown data set"):
            trainer.address("me", name)
        for function in (trainer.status, trainer.stop, trainer.resume, trainer.ended):
            with pytest.raises(UsageError, match="unknown run"):
                function("me", name)


def test_a_data_set_is_looked_over(tmp_path):
    trainer = Trainer(tmp_path, {"scenes": "shapes:val?n=3"})
    report = trainer.check("me", "scenes", "detection", tmp_path / "shown")
    assert (report.records, report.usable, len(report.overlays)) == (3, 3, 3)
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}]}\n')
    name = trainer.upload("me", [tmp_path / "a.jsonl"])
    with pytest.raises(DataError):
        trainer.check("me", name, "instruct", tmp_path / "none")


def test_an_uploaded_data_set_is_confined_to_its_folder(tmp_path):
    """In the check and in the run's command, by that in its recipe, from which it is resumed, and in what is shown."""
    for name in ("secret.jpg", "b.jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    rows = [{"image": str(tmp_path / "secret.jpg"), "suffix": "a"}, {"image": "b.jpg", "suffix": "b"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trainer = Trainer(tmp_path / "runs", {})
    name = trainer.upload("me", [tmp_path / "a.jsonl", tmp_path / "b.jpg"])
    report = trainer.check("me", name, "ocr", tmp_path / "shown")
    assert report.records == 1
    assert any("missing picture" in line for line in report.lines)
    plan = replace(suggested("ocr", trainer.address("me", name), "tiny", 1), data_name=trainer.data_name("me", name))
    words = plan.words("out")
    assert len(read(words[words.index("--data") + 1], task="ocr")) == 1
    shown = shlex.split(trainer.command(plan))
    assert shown[shown.index("--data") + 1] == "upload?confined=1"
    assert shown[shown.index("--out") + 1] == "ocr"


def test_scores_are_those_of_the_run(tmp_path):
    (tmp_path / "metrics.json").write_text('{"task": "ocr", "metrics": {"CER": 0.5, "per_class": {"a": 1}}, "step": 3}')
    assert final_metrics(tmp_path) == {"CER": 0.5}
    assert final_metrics(tmp_path / "none") == {}
