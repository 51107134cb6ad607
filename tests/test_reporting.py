"""Reports and comparisons of run folders, and what `train` and `eval` leave behind."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from commands import run
from PIL import Image
from report_cases import TASKS, answered, run_folder

import mmtune
from mmtune.errors import DataError, UsageError
from mmtune.files import write_json
from mmtune.metrics.resampling import flat
from mmtune.prediction_files import read_predictions, write_predictions
from mmtune.recipe import read_recipe, write_recipe
from mmtune.records import Prediction, Record
from mmtune.registry import task_class
from mmtune.reporting import read_run, write_report

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.mark.parametrize("name", TASKS)
def test_predictions_are_read_as_they_were_written(tmp_path, name):
    task, pairs = answered(name)
    write_predictions(task, pairs, tmp_path / "predictions.jsonl")
    read = read_predictions(tmp_path / "predictions.jsonl")
    assert [found for _, found in pairs] == read


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", '{"record": 3}', '{"record": "a", "boxes": [{"label": "x", "box": [1, 2]}]}',
     '{"record": "a", "masks": [{"label": "x", "rle": {"size": [4, 4], "counts": "zz"}}]}',
     '{"record": "a", "tokens": [{"text": "x"}]}', '{"record": "a", "boxes": 5}'],
)  # fmt: skip
def test_a_line_that_is_no_prediction_is_named(tmp_path, line):
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"record": "first"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"predictions\.jsonl, line 2: expected a prediction"):
        read_predictions(file)


def test_texts_with_other_ends_of_lines_stay_whole(tmp_path):
    task, pairs = answered("ocr", 1)
    odd = replace(pairs[0][1], text="a\u2028b\x85c\x0bd")
    write_predictions(task, [(pairs[0][0], odd)], tmp_path / "p.jsonl")
    assert read_predictions(tmp_path / "p.jsonl")[0].text == "a\u2028b\x85c\x0bd"


@pytest.mark.parametrize("name", TASKS)
def test_report_rebuilds_the_page_of_a_run(tmp_path, capsys, name):
    _, pairs = run_folder(tmp_path / "run", name)
    code, out, err = run(capsys, "report", tmp_path / "run")
    assert (code, out.strip(), err) == (0, str(tmp_path / "run" / "report.html"), "")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == len(pairs)
    assert "<figcaption>learning rate</figcaption>" in page
    assert "steps = 2" in page
    assert 'id="notes"' not in page
    once = page
    run(capsys, "report", tmp_path / "run")
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == once


def test_without_the_data_there_is_a_sentence_and_no_browser(tmp_path, capsys):
    run_folder(tmp_path / "run", "instruct")
    (tmp_path / "chat.jsonl").unlink()
    code, _, err = run(capsys, "report", tmp_path / "run")
    assert code == 0, err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The validation data cannot be read again, so that examples and intervals are left out" in page
    assert "<article" not in page
    assert "perplexity" in page


def test_records_that_are_gone_are_counted(tmp_path, capsys):
    run_folder(tmp_path / "run", "ocr", 5)
    recipe = read_recipe(tmp_path / "run" / "recipe.toml", {"val": "shapes:val?n=3&size=96"}, [])
    write_recipe(recipe, tmp_path / "run" / "recipe.toml")
    code, _, _ = run(capsys, "report", tmp_path / "run")
    assert code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "2 of 5 predictions are of records that the validation data no longer has" in page
    assert page.count("<article") == 3


def test_changed_truth_is_said(tmp_path, capsys):
    run_folder(tmp_path / "run", "ocr", 4)
    file = tmp_path / "run" / "metrics.json"
    file.write_text(json.dumps({"metrics": {"CER": 0.123456}}))
    run(capsys, "report", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "It is not what the run was evaluated on" in page
    assert "CER is 0.1235" in page


def test_a_fraction_is_split_off_again(tmp_path):
    """The validation records of a run with val = 0.5 are the same half, read again."""
    from mmtune.data.read import read, split_off

    run_folder(tmp_path / "run", "detection", 8)
    whole = "shapes:val?n=8&size=96"
    recipe = read_recipe(tmp_path / "run" / "recipe.toml", {"val": "0.5", "data": whole}, [])
    write_recipe(recipe, tmp_path / "run" / "recipe.toml")
    half = {record.id for record in split_off(read(whole, task="detection"), 0.5, recipe.seed)[1]}
    assert {record.id for record, _ in read_run(tmp_path / "run").pairs} == half
    assert len(half) == 4


@pytest.mark.parametrize("name", TASKS)
def test_a_run_compared_with_a_better_one(tmp_path, capsys, name):
    task, pairs = run_folder(tmp_path / "a", name, 8)
    run_folder(tmp_path / "b", name, 8, seed=1)
    better = tmp_path / "b" / "predictions.jsonl"
    if name in ("detection", "segmentation"):
        right = [(r, replace(p, boxes=r.boxes, masks=r.masks)) for r, p in pairs]
    else:
        right = [(r, replace(p, text=task.right_texts(r)[0])) for r, p in pairs]
    write_predictions(task, right, better)
    code, out, err = run(
        capsys, "compare", tmp_path / "a", tmp_path / "b", "--json", "-", "--html", tmp_path / "c.html", "--examples", 2
    )
    assert code == 0, err
    found = json.loads(out)
    assert (found["task"], found["n"], found["runs"]) == (name, 8, [str(tmp_path / "a"), str(tmp_path / "b")])
    one = found["metrics"]["exact_match" if "exact_match" in found["metrics"] else "AP50"]
    assert one["b"] == pytest.approx(1.0)
    assert one["difference"] == pytest.approx(one["b"] - one["a"])
    assert 0 <= one["low"] <= one["difference"] <= one["high"] or name == "detection"
    changes = [e["b"]["quality"] - e["a"]["quality"] for e in found["examples"]]
    assert changes == sorted(changes, reverse=True)
    assert all(example["b"] == {"quality": 1.0, "faults": {}} for example in found["examples"])
    assert "examples that changed most" in err
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == 2 * len(found["examples"])


def test_differences_are_those_of_the_metrics(tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    scores = []
    for seed, folder in enumerate(runs):
        task, pairs = run_folder(folder, "detection", 6, seed)
        metric = task.metric()
        for pair in pairs:
            metric.update(*pair)
        scores.append(flat(metric.compute()))
    found = mmtune.compare(*runs)
    assert {key: (one.before, one.after) for key, one in found.metrics.items()} == {
        key: (value, scores[1][key]) for key, value in scores[0].items()
    }
    again = mmtune.compare(runs[0], runs[0])
    assert all(one.change == 0 and not one.sure for one in again.metrics.values())
    assert again.examples == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nowhere"], "nowhere: expected the folder of a run, as `mmtune train --out` makes it, but"),
        (["report", "empty"], "makes it, but it holds no recipe.toml"),
        (["compare", "detection", "ocr"], "only runs of one task can be compared"),
        (["compare", "detection", "elsewhere"], "were evaluated on different data (shapes:val?n=6&size=96 and"),
        (["compare", "detection", "relabelled"], "the truth of val-0-000000 is not the same"),
        (["compare", "detection", "unfinished"], "unfinished: nothing to compare: The run has no predictions yet"),
        (["compare", "detection"], "Missing argument 'run_b'"),
        (["report"], "Missing argument 'run'"),
        (["report", "broken"], "metrics.json: expected the metrics of a run as JSON"),
        (["report", "odd"], "predictions.jsonl, line 1: expected a prediction"),
        (["report", "misspelt"], "unknown task 'detektion': did you mean 'detection'?"),
        (["compare", "detection", "detection", "--html", "empty"], "empty: expected the name of a file"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_message(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("detection", "ocr"):
        run_folder(tmp_path / name, name)
    for name in ("unfinished", "broken", "odd", "misspelt"):
        run_folder(tmp_path / name, "detection", 2)
    (tmp_path / "unfinished" / "predictions.jsonl").unlink()
    (tmp_path / "broken" / "metrics.json").write_text("{")
    (tmp_path / "odd" / "predictions.jsonl").write_text("?\n")
    recipe = tmp_path / "misspelt" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('task = "detection"', 'task = "detektion"'))
    run_folder(tmp_path / "elsewhere", "detection", address="shapes:test")
    run_folder(tmp_path / "relabelled", "detection")
    recipe = tmp_path / "relabelled" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("size=96", "size=96&labels=colour"))
    code, _, err = run(capsys, *words)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_report_and_compare_need_no_jax(tmp_path):
    for name in ("a", "b"):
        run_folder(tmp_path / name, "segmentation", 3, seed=ord(name))
    code = (
        "import sys, mmtune.cli as c\n"
        "for words in (['report', 'a'], ['compare', 'a', 'b', '--html', 'c.html']):\n"
        "    try: c.main(words)\n"
        "    except SystemExit as left: assert not left.code, left.code\n"
        "assert not {'jax', 'keras', 'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_the_python_interface_says_the_same(tmp_path):
    run_folder(tmp_path / "run", "vqa")
    assert mmtune.report(tmp_path / "run") == tmp_path / "run" / "report.html"
    with pytest.raises(UsageError, match="expected the folder of a run"):
        mmtune.compare(tmp_path / "run", tmp_path)


@pytest.mark.parametrize("name", ["detection", "ocr"])
def test_train_and_eval_write_a_page(tmp_path, monkeypatch, capsys, name):
    """A training of two steps, and an evaluation of its run; the page is that which `report` makes."""
    monkeypatch.chdir(tmp_path)
    words = ["--task", name, "--data", "shapes:train?n=8&max_objects=2", "--val", "shapes:val?n=3&max_objects=2"]
    code, _, err = run(capsys, "train", *words, "--steps", 2, "--batch-size", 2, "--out", "run")
    assert code == 0, err
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<article") == 3
    assert "<figcaption>loss</figcaption>" in page
    run(capsys, "report", "run")
    assert (tmp_path / "run" / "report.html").read_text() == page
    asked = ["--task", name, "--data", "shapes:val?n=2&max_objects=2"]
    code, _, err = run(capsys, "eval", "run", *asked, "--predictions", "answers.jsonl")
    assert code == 0, err
    assert "report: answers.html" in err
    assert (tmp_path / "answers.html").read_text().count("<article") == 2
    code, _, err = run(capsys, "eval", "run", *asked, "--report", "deep/page.html")
    assert code == 0, err
    assert (tmp_path / "deep" / "page.html").read_text().count("<article") == 2
    code, _, err = run(capsys, "eval", "run", *asked, "--report", tmp_path)
    assert code == 2
    assert "expected the name of a file, found a folder" in err


def test_without_a_true_object_score_and_page_say_a_dash(tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 20}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    write_json(tmp_path / "truth.json", truth)
    write_json(tmp_path / "found.json", [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}])
    files = ("--truth", tmp_path / "truth.json", "--predictions", tmp_path / "found.json", "--json", "-")
    code, out, said = run(capsys, "score", "--task", "detection", *files)
    assert code == 0
    metrics = json.loads(out)["metrics"]
    assert {metrics[name] for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")} == {-1}
    assert re.search(r"AP +│ +- │", said), said
    assert "-1" not in said
    for name in ("detection", "segmentation"):
        task = task_class(name)(("cat",))
        record = Record("a", boxes=(), image_id=1)
        pairs = [(record, Prediction("a", "detect cat", ""))]
        metric = task.metric()
        metric.update(*pairs[0])
        write_report(tmp_path / "page.html", task, pairs, metric.compute())
        page = (tmp_path / "page.html").read_text()
        assert "-1.0" not in page
        assert "<strong>-</strong>AP<" in page
        values = re.findall(r"<bdi>(?:AP\w*|AR\w*|mIoU|boxacc\d+)</bdi></th><td>(.*?)</td>", page)
        assert values == ["-"] * sum(isinstance(value, float) for value in metric.compute().values())
