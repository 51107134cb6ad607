"""Of several processes, one that cannot write does not wait for the others, which wait for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from mmtune.recipe import Recipe
from mmtune.training import checkpoints, results
from mmtune.training.checkpoints import Checkpoints, Progress


@dataclass
class Kept:
    """Stands for checkpoints."""

    latest: int = 2

    def wait(self):
        raise AssertionError("the others take no part in this wait")


def test_the_folder_is_not_writable(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "is_distributed", lambda: True)
    monkeypatch.setattr(results, "save_weights", lambda *_: pytest.fail("parts of the weights lie with others"))
    recipe = Recipe(task="detection", data="shapes", out=str(tmp_path))
    unused = cast(Any, None)
    error = OSError(28, "No space left on device", "log.csv")
    said = str(results.rescued(error, unused, unused, recipe, cast(Any, Kept()), Progress(step=3)))
    assert said.startswith("log.csv: cannot be written: No space left on device: make room and go on from step 2 with")


@pytest.mark.parametrize("several", [True, False])
def test_a_checkpoint_cannot_be_written(monkeypatch, tmp_path, several):
    monkeypatch.setattr(checkpoints, "is_distributed", lambda: several)
    lines: list[str] = []
    keeps = Checkpoints(Path(tmp_path) / "checkpoints", say=lines.append)
    if several:
        with pytest.raises(OSError, match="No space left"), keeps._failures():
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        assert lines == []
    else:
        with keeps._failures():
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        assert "the training goes on" in lines[0]
    assert keeps.failed == "No space left on device"
