"""Sixteen real photographs are learned by heart: minutes, so run by hand with `-m soak`."""

import pytest

from benchmarks.memorise import memorise


@pytest.mark.soak
@pytest.mark.parametrize("folder", ["nuts", "bccd"])
def test_sixteen_photographs_are_learned_by_heart(shared_data, tmp_path, folder):
    assert memorise(shared_data / folder, tmp_path / "run", verbose=False).metrics["AP50"] >= 0.9
