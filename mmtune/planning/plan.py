"""What a training takes on a mesh of devices that are not there.

The step of the whole model is not compiled: that of a few layers is, at two depths, and the difference counted for all
others. Weights and optimizer variables are those of the whole model, laid out one by one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmtune.models.spec import ModelSpec
from mmtune.planning.collectives import Traffic
from mmtune.planning.compiled import Compiled, abstract_model, abstract_trainer, compile_step, with_layers
from mmtune.planning.parameters import Parameters, before_and_after
from mmtune.recipe import Recipe
from mmtune.sharding.table import Row, checked_rows

# Depths that are compiled: Gemma 2's layers come in pairs, and the first and last ones differ from the rest.
_TEXT, _VISION = (4, 6), (2, 3)


@dataclass(frozen=True)
class Plan:
    """What a training takes on each device.

    Attributes:
        step: What the compiler says of the whole model's step.
        rows: The layout of every variable.
        trained: Paths of the variables that train.
        before: The model's numbers as they are without an adapter, where all of them would train.
        after: Those of the run.
    """

    step: Compiled
    rows: tuple[Row, ...]
    trained: frozenset[str]
    before: Parameters
    after: Parameters

    @property
    def weights(self) -> int:
        """Bytes of the model, its adapter included."""
        return sum(row.bytes for row in self.rows if not row.of_optimizer)

    @property
    def optimizer(self) -> int:
        """Bytes of the optimizer's variables."""
        return sum(row.bytes for row in self.rows if row.of_optimizer)

    @property
    def gradients(self) -> int:
        """Bytes of the gradients; they are among the step's temporary buffers."""
        return sum(row.bytes for row in self.rows if row.path in self.trained)

    @property
    def trainable(self) -> int:
        """Numbers that train, on all devices together."""
        return sum(math.prod(row.shape) for row in self.rows if row.path in self.trained)


def plan_training(
    spec: ModelSpec, recipe: Recipe, length: int, targets: int, on_step: Callable[[str], None] = lambda _: None
) -> Plan:
    """Returns the plan of a run under the distribution that is set.

    Args:
        spec: The model.
        recipe: The run.
        length: Text tokens of a row; image tokens come on top.
        targets: Positions of a row that are predicted.
        on_step: Told what is being done.
    """
    on_step("laying out every variable")
    model = abstract_model(spec, recipe)
    trainer = abstract_trainer(model, recipe)
    before, after = before_and_after(model, trainer.trainable_variables)
    rows = checked_rows(trainer.variables, trainer.optimizer)
    trained = frozenset(variable.path for variable in trainer.trainable_variables)
    step = extended_step(spec, recipe, length, targets, on_step)
    return Plan(step, tuple(rows), trained, before, after)


def extended_step(
    spec: ModelSpec, recipe: Recipe, length: int, targets: int, on_step: Callable[[str], None] = lambda _: None
) -> Compiled:
    """Returns what the training step of a whole model costs; for the arguments see `plan_training`."""
    return extended(spec, lambda one: compile_step(one, recipe, length, targets), on_step)


def extended(
    spec: ModelSpec,
    measure: Callable[[ModelSpec], Compiled],
    on_step: Callable[[str], None] = lambda _: None,
    what: str = "the step",
    parts: Sequence[str] = ("text", "vision"),
) -> Compiled:
    """Returns what the step of a whole model costs, measured on models of few layers and extended in a line.

    Args:
        spec: The whole model.
        measure: Compiles the step of a model.
        on_step: Told what is being done.
        what: Is compiled.
        parts: Whose depth counts.
    """
    text, vision = spec.text.num_layers, spec.vision.num_layers if spec.vision is not None else 0
    few, more = (min(depth, text) for depth in _TEXT)
    low, high = (min(depth, vision) for depth in _VISION)

    def at(decoder: int, tower: int) -> Compiled:
        on_step(f"compiling {what} of {decoder} layers" + (f" and {tower} of the vision tower" if tower else ""))
        return measure(with_layers(spec, decoder, tower))

    base = at(few, low)
    terms = [(base, 1.0)]
    for part, there, here, depth, other in (
        ("text", few, more, text, lambda: at(more, low)),
        ("vision", low, high, vision, lambda: at(few, high)),
    ):
        if part in parts and here > there:
            share = (depth - there) / (here - there)
            terms += [(other(), share), (base, -share)]
    return _combined(terms)


def _combined(terms: list[tuple[Compiled, float]]) -> Compiled:
    def total(name: str) -> float:
        return sum(share * getattr(one, name) for one, share in terms)

    kinds = {kind for one, _ in terms for kind in one.traffic}
    none = Traffic(0, 0)
    exchanged = {
        kind: Traffic(
            sum(share * one.traffic.get(kind, none).count for one, share in terms),
            sum(share * one.traffic.get(kind, none).bytes for one, share in terms),
        )
        for kind in sorted(kinds)
    }
    names = ("arguments", "outputs", "aliased", "temporary", "flops", "moved")
    return Compiled(**{name: total(name) for name in names}, traffic=exchanged)
