"""Sixteen real photographs are learned by heart: minutes, so run by hand with `-m soak`."""

import pytest

import mmtune
from benchmarks.memorise import PHOTOS, STEPS


@pytest.mark.soak
@pytest.mark.parametrize("folder", ["nuts", "bccd"])
def test_sixteen_photographs_are_learned_by_heart(shared_data, tmp_path, folder):
    photos = mmtune.read(shared_data / folder, task="detection")[:PHOTOS]
    run = mmtune.train(
        "tiny",
        task="detection",
        data=photos,
        val=photos,
        full=True,
        out=tmp_path / "run",
        steps=STEPS,
        optimizer={"learning_rate": 1.5e-3, "beta_2": 0.98},
        options={"order": "raster"},
        verbose=False,
    )
    assert run.metrics["AP50"] >= 0.9
