"""AdamW or Muon with its schedule, from a recipe."""

from typing import Any

import jax
import keras

from mmtune.recipe import Recipe
from mmtune.training.muon import Muon
from mmtune.training.updates import updates_of

# PaliGemma's published transfers tune all weights at 1e-5 (arXiv 2407.07726, appendix J); adapters bear more.
_PRETRAINED = {True: 1e-5, False: 1e-4}
# Measured on the embedded model, which starts from little or nothing.
_SMALL = {True: 1.5e-3, False: 2e-3}
SMALL_MODEL = 50_000_000
_DENSE_WARMUP = 0.05


def default_learning_rate(full: bool, parameters: int) -> float:
    """Returns a peak learning rate for full tuning or an adapter on a model of this many parameters."""
    return (_SMALL if parameters < SMALL_MODEL else _PRETRAINED)[full]


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a run. Its schedule counts updates, as its moments do.

    Args:
        recipe: With its learning rate filled in.
        steps: Number of batches.
    """
    options, updates = recipe.optimizer, updates_of(recipe, steps)
    assert options.learning_rate is not None
    early = updates.dense_updates
    late = len(updates) - early
    schedule: Any = _schedule(options.learning_rate, options.schedule, round(options.warmup * late), late)
    if early:
        peak = recipe.dense.learning_rate or options.learning_rate
        first = _schedule(peak, "cosine", round(_DENSE_WARMUP * early), early)
        schedule = _Stages(first, schedule, early)
    if callable(schedule):
        schedule = _Compiled(schedule)
    shared: dict[str, Any] = {
        "learning_rate": schedule,
        "weight_decay": options.weight_decay,
        "global_clipnorm": options.clip or None,
    }
    if options.name == "muon":
        return Muon(adam_beta_1=options.beta_1, adam_beta_2=options.beta_2, adam_weight_decay=0.0, **shared)
    optimizer = keras.optimizers.AdamW(beta_1=options.beta_1, beta_2=options.beta_2, **shared)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale", "gamma", "beta", "embedding", "magnitude"])
    return optimizer


class _Compiled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule compiled once: Keras' own compile a branch anew whenever the rate is read outside of a step."""

    def __init__(self, schedule: Any):
        super().__init__()
        self._schedule = schedule
        self._compiled = jax.jit(schedule)

    def __call__(self, step: Any) -> Any:
        return self._compiled(keras.ops.convert_to_tensor(step))

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self._schedule}


class _Stages(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of dense supervision's own steps, then the run's."""

    def __init__(self, first: Any, second: Any, border: int):
        super().__init__()
        self._first, self._second, self._border = first, second, border

    def __call__(self, step: Any) -> Any:
        late = keras.ops.maximum(step - self._border, 0)
        second = self._second(late) if callable(self._second) else self._second
        return keras.ops.where(step < self._border, self._first(step), second)

    def get_config(self) -> dict[str, Any]:
        return {"first": self._first, "second": self._second, "border": self._border}


def _schedule(peak: float, kind: str, warmup: int, steps: int) -> Any:
    if kind == "constant" and warmup == 0:
        return peak
    # A rate of exactly zero would waste the first step.
    start = peak / max(1, warmup)
    if kind == "constant":
        return keras.optimizers.schedules.PolynomialDecay(start, warmup, end_learning_rate=peak, power=1.0)
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    return keras.optimizers.schedules.CosineDecay(
        start, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )
