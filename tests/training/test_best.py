"""Which evaluation is the best one, and when a run stops for want of a better one."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmtune.training.callbacks import Milestones
from mmtune.training.checkpoints import Progress
from mmtune.training.stopping import Stop

NAN = math.nan


def evaluated(values, falls=False, patience=0, progress=None):
    """Returns the progress after evaluations with these values of the metric, and the steps whose weights were kept."""
    progress, kept, left = progress or Progress(), [], iter(values)
    milestones = Milestones(
        watch=SimpleNamespace(flush=lambda: None, restart_clock=lambda: None),
        logs=SimpleNamespace(write=lambda _: None),
        checkpoints=SimpleNamespace(best=SimpleNamespace(take=lambda _, step: kept.append(step)), save=lambda *_: None),
        progress=progress,
        evaluate=lambda: {"AP": next(left)},
        better=(lambda a, b: a < b) if falls else (lambda a, b: a > b),
        metric="AP",
        eval_every=1,
        save_every=100,
        first_eval=1,
        patience=patience,
        steps=100,
        show=lambda _: None,
        stop=Stop(),
        folder=Path("run"),
    )
    trainer = SimpleNamespace(jax_state_sync=lambda: None, stop_training=False)
    milestones.set_model(trainer)
    for _ in values:
        progress.step += 1
        milestones.on_train_batch_end(0)
        if trainer.stop_training:
            break
    return progress, kept


@pytest.mark.parametrize(
    ("values", "falls", "best", "kept"),
    [
        ([0.1, 0.3, 0.2], False, (0.3, 2), [1, 2]),
        ([0.1, 0.3, 0.2], True, (0.1, 1), [1]),
        ([0.2, 0.2], False, (0.2, 2), [1, 2]),
        ([NAN, 0.1, 0.3, NAN, 0.2], False, (0.3, 3), [2, 3]),
        ([NAN, 0.3, 0.1, NAN, 0.2], True, (0.1, 3), [2, 3]),
        ([0.1, NAN], False, (0.1, 1), [1]),
        ([NAN, NAN], False, (None, 0), []),
        ([NAN, -math.inf, 0.0], False, (0.0, 3), [2, 3]),
    ],
    ids=str,
)
def test_a_nan_is_never_the_best(values, falls, best, kept):
    progress, taken = evaluated(values, falls)
    assert (progress.best, progress.best_step) == best
    assert taken == kept


@pytest.mark.parametrize(
    ("values", "last"), [([NAN, 0.1, NAN, 0.05, 0.2], 4), ([0.2, 0.1, 0.3, NAN, NAN, 0.4], 5), ([NAN] * 4, 2)], ids=str
)
def test_a_nan_is_an_evaluation_without_a_better_value(values, last):
    progress, _ = evaluated(values, patience=2)
    assert progress.stopped
    assert progress.step == last


def test_a_nan_of_an_older_checkpoint_is_not_the_best_for_ever():
    progress, kept = evaluated([0.1, 0.05], progress=Progress(step=4, best=NAN, best_step=4, evaluated=4))
    assert (progress.best, progress.best_step) == (0.1, 5)
    assert kept == [5]
