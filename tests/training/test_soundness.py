"""Which losses end a run, and what is said then."""

import math
import subprocess
import sys

import pytest

from mmtune.training.soundness import Soundness

pytestmark = pytest.mark.usefixtures("quick_compiles")

VOCABULARY = 2176
GUESS = math.log(VOCABULARY)


def first(losses, norm=1.0):
    """Returns the place of the first loss with a problem and the problem."""
    soundness = Soundness(VOCABULARY)
    told = [soundness.problem(loss, norm) for loss in losses]
    return next(((place, said) for place, said in enumerate(told) if said), None)


@pytest.mark.parametrize(
    ("losses", "place", "said"),
    [
        ([3.0, math.nan], 1, "the loss became nan"),
        ([-math.inf], 0, "the loss became -inf"),
        ([2.0] * 9 + [100.0], 9, "the loss exploded from 2 to 100"),
        ([0.01] * 9 + [24.0], 9, "the loss exploded from 0.01 to 24"),
    ],
)
def test_lost(losses, place, said):
    assert first(losses) == (place, said)


@pytest.mark.parametrize(
    "losses",
    [
        [2 * GUESS, GUESS, 3.0, 1.0],
        [0.001] * 9 + [2.9 * GUESS],  # a batch of nothing but wrong answers
        [40.0, 60.0, 90.0, 50.0, 30.0],  # a model that was never sound gets its time
        [5.0, 5.0, 90.0],  # two steps say nothing yet
    ],
)
def test_sound(losses):
    assert first(losses) is None


def test_a_gradient():
    assert first([2.0], math.inf) == (0, "the gradient became inf")


@pytest.mark.parametrize(("more", "said"), [([], "the loss became nan at step 2"), (["--debug-nans"], "(nan)")])
def test_the_command(tmp_path, more, said):
    words = ["--task", "detection", "--data", "shapes:train?n=4&max_objects=1", "--batch-size", "2", "--steps", "6"]
    words += ["--full", "--set", "optimizer.learning_rate=1e30", "optimizer.clip=0", "optimizer.warmup=0", "buckets=1"]
    words = [sys.executable, "-m", "mmtune", "train", *words, "--out", str(tmp_path / "run"), *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert said in last
    assert "at step 2 on the records train-0-0000" in last
    assert "lower optimizer.learning_rate" in last
    assert "Traceback" not in done.stderr
    assert (" in mmtune/" in last) == bool(more)
