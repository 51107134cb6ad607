"""Which weights a run ends with: those of its best evaluation, of a metric that moves."""

import csv
import json

import numpy as np
import pytest
from backbones import make

import mmtune
import mmtune.training.fit as fitting
from mmtune.evaluation import Evaluation
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Record

pytestmark = pytest.mark.usefixtures("quick_compiles")


def small_model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=1), tiny_tokenizer(), name="small")


def adapter(model):
    return {f"{path}.{name}": np.asarray(v) for path, named in model.lora.table.items() for name, v in named.items()}


@pytest.mark.parametrize(
    ("task", "metric", "scores", "best"),
    [
        ("detection", None, (0.1, 0.5, 0.2, 0.3), 2),
        ("detection", None, (0.1, 0.5, 0.5, 0.2), 3),  # of equals the later ones have seen more
        ("ocr", None, (0.9, 0.2, 0.3, 0.8), 2),  # the headline is an error rate
        ("ocr", "exact_match", (0.1, 0.5, 0.2, 0.3), 2),
        ("ocr", "WER", (0.9, 0.2, 0.3, 0.8), 2),
    ],
)
def test_a_run_ends_with_the_weights_of_its_best_evaluation(tmp_path, monkeypatch, task, metric, scores, best):
    left, seen = list(scores), []

    def evaluate(model, task, *_):
        seen.append(adapter(model))
        name = metric or task.headline
        value = left.pop(0) if left else float(scores[best - 1])
        return Evaluation(task.name, task.metric().compute() | {name: value}, (), (), (), task)

    monkeypatch.setattr(fitting, "shared_evaluation", evaluate)
    data = mmtune.read("shapes:train?n=4&max_objects=1&seed=1", task=task)
    done = mmtune.train(
        small_model(),
        task=task,
        data=data,
        val=data[:1],
        out=tmp_path / "run",
        steps=4,
        batch_size=4,
        buckets=1,
        eval_every=1,
        metric=metric,
        verbose=False,
        lora=mmtune.LoRA(rank=2, targets=("q_proj",)),
        optimizer={"learning_rate": 0.01},
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["best_step"] == best
    final = adapter(done.model)
    apart = [any(not np.array_equal(final[name], one[name]) for name in final) for one in seen[:4]]
    assert apart == [step != best for step in (1, 2, 3, 4)]


def test_the_best_weights_are_kept(tmp_path):
    """Perplexity moves with every step; at this rate it soon gets worse."""
    records = [Record(str(n), prefix="say it", texts=("red " * (1 + n % 3),)) for n in range(4)]
    options = {"learning_rate": 0.3, "schedule": "constant", "warmup": 0.0}
    done = mmtune.train(
        small_model(),
        task="instruct",
        data=records,
        val=records[:2],
        out=tmp_path / "run",
        steps=4,
        eval_every=1,
        batch_size=4,
        buckets=1,
        log_every=1,
        full=True,
        verbose=False,
        optimizer=options,
    )
    with (tmp_path / "run" / "log.csv").open() as file:
        logged = [float(row["perplexity"]) for row in csv.DictReader(file) if row["perplexity"]]
    assert len(set(logged)) == 4
    assert min(logged) < logged[-1]
    result = json.loads((done.folder / "metrics.json").read_text())
    assert result["metrics"]["perplexity"] == pytest.approx(min(logged), rel=1e-4)
    assert result["best_step"] == logged.index(min(logged)) + 1


def test_evaluations_between_take_part_of_the_records(tmp_path, monkeypatch):
    sizes = []

    def evaluate(_, task, records, *__):
        sizes.append(len(records))
        return Evaluation(task.name, task.metric().compute(), (), (), (), task)

    monkeypatch.setattr(fitting, "shared_evaluation", evaluate)
    data = mmtune.read("shapes:train?n=4&max_objects=1&seed=1", task="detection")
    how = {"steps": 2, "batch_size": 4, "buckets": 1, "eval_every": 1, "eval_limit": 2, "verbose": False}
    lora = mmtune.LoRA(rank=2, targets=("q_proj",))
    mmtune.train(small_model(), task="detection", data=data, val=data[:3], out=tmp_path / "run", lora=lora, **how)
    assert sizes == [2, 2, 3]  # at the end all
