"""Task names, and tasks of other packages."""

import importlib
import sys

import pytest

from mmtune.errors import UsageError
from mmtune.registry import task_class, task_names
from mmtune.task import Task

PACKAGE = """
from dataclasses import dataclass

from mmtune.metrics.base import Metric
from mmtune.records import Prediction, Query, Span
from mmtune.task import Task


@dataclass(frozen=True)
class Options:
    loud: bool = False


class Right(Metric):
    def __init__(self):
        self.n = self.right = 0

    def update(self, record, prediction):
        self.n += 1
        self.right += prediction.text == record.texts[0]

    def merge(self, other):
        self.n += other.n
        self.right += other.right

    def compute(self):
        return {"accuracy": self.right / max(1, self.n)}


class Counting(Task):
    name = "counting"
    headline = "accuracy"
    Options = Options

    def queries(self, record):
        return (Query("count"),)

    def targets(self, record, query, rng=None):
        return ((Span(record.texts[0]),),)

    def parse(self, record, answers):
        return Prediction(record.id, "count", answers[0][1].text)

    def metric(self):
        return Right()

    def max_tokens(self, records, tokenizer):
        return 4


class NoTask:
    pass
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with entry points, as pip would lay it out."""
    (tmp_path / "other_tasks.py").write_text(PACKAGE)
    info = tmp_path / "other_tasks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-tasks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mmtune.tasks]\ncounting = other_tasks:Counting\nwrong = other_tasks:NoTask\ngone = other_tasks:Gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("other_tasks", None)


def test_built_in_tasks():
    assert "detection" in task_names()
    assert issubclass(task_class("detection"), Task)


@pytest.mark.usefixtures("installed")
def test_a_task_of_another_package_is_found_and_usable():
    from mmtune.recipe import Recipe
    from mmtune.records import Output, Record

    assert "counting" in task_names()
    task = task_class("counting")()
    record = Record("1", texts=("3",))
    (query,) = task.queries(record)
    metric = task.metric()
    metric.update(record, task.parse(record, [(query, Output("3"))]))
    assert metric.compute() == {"accuracy": 1.0}
    assert Recipe(task="counting", data="x", options={"loud": True}).task_options().loud


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "message"), [("wrong", "no subclass of"), ("gone", "cannot be imported")])
def test_a_broken_entry_point_is_said(name, message):
    with pytest.raises(UsageError, match=message):
        task_class(name)


def test_unknown_task_guesses():
    with pytest.raises(UsageError, match="did you mean 'detection'"):
        task_class("detecton")
