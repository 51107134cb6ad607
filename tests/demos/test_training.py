"""Plans of the page are commands, and runs are what the command line writes."""

import json
import shlex

import pytest
from PIL import Image

from mmtune.cli.train import train
from mmtune.data.read import read
from mmtune.demos.training import Plan, Trainer, final_metrics, suggested
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
            trainer.address(name)
        with pytest.raises(UsageError, match="unknown run"):
            trainer.status(name)
        with pytest.raises(UsageError):
            trainer.stop(name)
        with pytest.raises(UsageError):
            trainer.resume(name)


def test_a_data_set_is_looked_over(tmp_path):
    trainer = Trainer(tmp_path, {"scenes": "shapes:val?n=3"})
    report = trainer.check("scenes", "detection", tmp_path / "shown")
    assert (report.records, report.usable, len(report.overlays)) == (3, 3, 3)
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}]}\n')
    name = trainer.upload([tmp_path / "a.jsonl"])
    with pytest.raises(DataError):
        trainer.check(name, "instruct", tmp_path / "none")


def test_an_uploaded_data_set_is_confined_to_its_folder(tmp_path):
    """In the check, in the command that is shown, and by that in the run's recipe, from which it is resumed."""
    for name in ("secret.jpg", "b.jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    rows = [{"image": str(tmp_path / "secret.jpg"), "suffix": "a"}, {"image": "b.jpg", "suffix": "b"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trainer = Trainer(tmp_path / "runs", {})
    name = trainer.upload([tmp_path / "a.jsonl", tmp_path / "b.jpg"])
    report = trainer.check(name, "ocr", tmp_path / "shown")
    assert report.records == 1
    assert any("missing picture" in line for line in report.lines)
    command = trainer.command(suggested("ocr", trainer.address(name), "tiny", 1))
    words = shlex.split(command)
    assert len(read(words[words.index("--data") + 1], task="ocr")) == 1


def test_scores_are_those_of_the_run(tmp_path):
    (tmp_path / "metrics.json").write_text('{"task": "ocr", "metrics": {"CER": 0.5, "per_class": {"a": 1}}, "step": 3}')
    assert final_metrics(tmp_path) == {"CER": 0.5}
    assert final_metrics(tmp_path / "none") == {}
