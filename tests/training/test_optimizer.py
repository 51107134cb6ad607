"""The learning rate of a step, inside of the step and read outside of it."""

import jax
import keras
import numpy as np
import pytest

from mmtune.recipe import Dense, Optimizer, Recipe
from mmtune.training.optimizer import make_optimizer


def optimizer(**options):
    recipe = Recipe(task="detection", data="shapes", steps=40, dense=options.pop("dense", Dense()))
    return make_optimizer(Recipe(**(vars(recipe) | {"optimizer": Optimizer(learning_rate=0.1, **options)})), 40)


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_a_rate_read_in_every_step_is_compiled_once(kind):
    """Kept programs of a branch a step would fill the memory, and compiling them takes longer than a small step."""
    made = optimizer(schedule=kind, warmup=0.25)
    made.build([keras.Variable(np.ones(3))])
    compiled = []

    def listen(event, *_, **__):
        compiled.append(event)

    rates = [float(np.asarray(made.learning_rate))]
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for step in range(1, 40):
            made.iterations.assign(np.int32(step))
            rates.append(float(np.asarray(made.learning_rate)))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert [event for event in compiled if "compile" in event] == []
    if kind == "cosine":
        up = [0.01 + 0.09 * step / 10 for step in range(10)]
        down = [0.05 * (1 + np.cos(np.pi * step / 30)) for step in range(30)]
    else:
        up, down = [0.01 + 0.09 * step / 10 for step in range(10)], [0.1] * 30
    np.testing.assert_allclose(rates, [*up, *down], rtol=1e-5)
