"""The real training step of a model without weights, compiled for a mesh of virtual devices."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import jax
import keras
import numpy as np

from mmtune.model import Model
from mmtune.models.build import build_backbone, without_values
from mmtune.models.quantized_tree import quantized_tree
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import model_variables
from mmtune.planning.collectives import Traffic, traffic
from mmtune.planning.hlo import parse
from mmtune.planning.loops import repeated
from mmtune.recipe import Recipe
from mmtune.sharding.table import sharding_of
from mmtune.training.model import Trainer
from mmtune.training.optimizer import make_optimizer
from mmtune.training.updates import CLOSES, UPDATE_WEIGHTS

Shapes = dict[str, tuple[tuple[int, ...], Any]]


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one step, for each device.

    Attributes:
        arguments, outputs, aliased, temporary: Bytes that go in, come out, of these written over what went in, and
            beside them.
        flops: Floating point operations.
        moved: Bytes that operations read and write.
        traffic: Collectives by kind.
    """

    arguments: float
    outputs: float
    aliased: float
    temporary: float
    flops: float
    moved: float
    traffic: dict[str, Traffic]

    @property
    def total(self) -> float:
        """Bytes in use at most: what went in, what is made, less what is written over."""
        return self.arguments + self.outputs - self.aliased + self.temporary

    @property
    def exchanged(self) -> float:
        """Bytes of the results of all collectives."""
        return sum(kind.bytes for kind in self.traffic.values())


def with_layers(spec: ModelSpec, text: int, vision: int) -> ModelSpec:
    """Returns a model with so many layers, the first ones of its decoder and its vision tower."""
    decoder = replace(spec.text, num_layers=text, windows=spec.text.windows[:text])
    tower = None if spec.vision is None else replace(spec.vision, num_layers=vision)
    return replace(spec, text=decoder, vision=tower)


def abstract_model(spec: ModelSpec, recipe: Recipe, dtype: str | None = None) -> Model:
    """Returns the model of a run, with its adapter, none of whose variables has a value.

    To be called under the distribution that lays them out.

    Args:
        spec: The model.
        recipe: The run.
        dtype: Of the weights; None: as the run keeps them.
    """
    backbone = build_backbone(spec, dtype or ("float32" if recipe.full else recipe.precision))
    variables = model_variables(backbone)
    if recipe.quantize is not None:
        variables = quantized_tree(spec, variables, recipe.quantize)
    nobody: Any = SimpleNamespace(loc=None)
    model = Model(backbone, nobody, name="planned", precision=recipe.precision, spec=spec, variables=variables)
    if not recipe.full:
        with without_values():
            model.add_lora(recipe.lora)
    return model


def abstract_trainer(model: Model, recipe: Recipe) -> Trainer:
    """Returns the trainer of a run with its optimizer, none of whose variables has a value.

    Args:
        model: From `abstract_model`, under the same distribution.
        recipe: The run; its steps and learning rate are of no account.
    """
    optimizer = make_optimizer(replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=1e-4)), steps=100)
    with without_values():
        trainer = Trainer(model, recipe)
    trainer.compile(optimizer=optimizer)
    with without_values():  # apart: a slot takes the layout of its weight, which is settled at the end of a block
        trainer.build_optimizer()
    return trainer


def compile_step(spec: ModelSpec, recipe: Recipe, length: int, targets: int) -> Compiled:
    """Returns what a step costs.

    Args:
        spec: The model.
        recipe: The run: batch size, adapter or full, precision, rematerialisation.
        length: Text tokens of a row; image tokens come on top.
        targets: Positions of a row that are predicted.
    """
    trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
    state = (
        [abstract(variable) for variable in trainer.trainable_variables],
        [abstract(variable) for variable in trainer.non_trainable_variables],
        [abstract(variable) for variable in trainer.optimizer.variables],
        [],
    )
    lowered = jax.jit(trainer.train_step, donate_argnums=0).lower(state, _batch(spec, recipe, length, targets))
    return costs_of(lowered.compile())


def costs_of(compiled: Any) -> Compiled:
    """Returns what a compiled program costs, all rounds of its loops counted.

    Of a loop whose trip count the compiler does not know, one round is counted.
    """
    memory, costs, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory is not None and costs is not None and text is not None  # noqa: PT018
    program = parse(text)
    loops = repeated(program)
    return Compiled(
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        costs.get("flops", 0.0) + loops.flops,
        costs.get("bytes accessed", 0.0) + loops.moved,
        traffic(program),
    )


def abstract(variable: Any) -> jax.ShapeDtypeStruct:
    """Returns a variable's shape, dtype and place without its value."""
    return jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype, sharding=sharding_of(variable))


def _batch(spec: ModelSpec, recipe: Recipe, length: int, targets: int) -> tuple[dict, dict]:
    rows = recipe.batch_size
    inputs: Shapes = dict.fromkeys(("token_ids", "positions", "segments"), ((rows, length), np.int32))
    inputs["targets"] = ((rows, targets), np.int32)
    if spec.vision is not None:
        inputs["images"] = ((rows, spec.vision.image_size, spec.vision.image_size, 3), np.uint8)
    labels: Shapes = {"labels": ((rows, targets), np.int32), "weights": ((rows, targets), np.float32)}
    if recipe.optimizer.accumulation > 1:
        labels |= {UPDATE_WEIGHTS: ((rows,), np.float32), CLOSES: ((rows,), np.bool_)}
    return _arrays(inputs), _arrays(labels)


def _arrays(shapes: Shapes) -> dict[str, jax.ShapeDtypeStruct]:
    layouts = keras.distribution.distribution()
    return {
        name: jax.ShapeDtypeStruct(
            shape, dtype, sharding=None if layouts is None else layouts.get_data_layout(shape).backend_layout
        )
        for name, (shape, dtype) in shapes.items()
    }
