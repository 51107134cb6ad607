"""A run's name at Weights & Biases: each folder has its own, and keeps it."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from mmtune.training.log import Logs


@pytest.fixture
def begun(monkeypatch):
    """The arguments of each run that a stand-in for `wandb` was told to begin."""
    calls = []

    def init(**given):
        calls.append(given)
        return SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)

    found = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: name == "wandb" or found(name, *more))
    monkeypatch.setenv("WANDB_PROJECT", "tests")
    return calls


def test_folders_of_one_name_are_runs_of_their_own(tmp_path, begun):
    for parent in ("one", "two"):
        (tmp_path / parent / "run").mkdir(parents=True)
        Logs(tmp_path / parent / "run", ()).close()
    assert begun[0]["id"] != begun[1]["id"]
    assert [given["name"] for given in begun] == ["run", "run"]


def test_a_resumed_run_keeps_its_id_where_it_was_moved_too(tmp_path, begun):
    (tmp_path / "run").mkdir()
    Logs(tmp_path / "run", ()).close()
    Logs(tmp_path / "run", (), step=3).close()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    Logs(tmp_path / "elsewhere", (), step=6).close()
    assert len({given["id"] for given in begun}) == 1
    assert all(given["resume"] == "allow" for given in begun)
