"""AdamW as a recipe describes it: against the published update written out, and what of a model decays."""

import jax
import keras
import numpy as np
import pytest
from backbones import make
from small_adapters import make_lora

from mmtune.models.lora_config import LoRA
from mmtune.recipe import Optimizer, Recipe
from mmtune.training.optimizer import default_learning_rate, make_optimizer

STEADY = {"learning_rate": 0.01, "schedule": "constant", "warmup": 0.0}


def optimizer(**options):
    return make_optimizer(Recipe(task="detection", data="x", optimizer=Optimizer(**(STEADY | options))), 10)


def adamw(start, gradients, *, rate, betas, clip, decay, epsilon=1e-7):
    """Loshchilov and Hutter's AdamW (arXiv 1711.05101, algorithm 2), gradients clipped by their norm first."""
    x, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step, gradient in enumerate(gradients, start=1):
        norm = np.sqrt(np.sum(gradient**2))
        gradient = gradient * min(1.0, clip / norm) if clip else gradient
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        corrected = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        x = x - rate * decay * x - rate * corrected[0] / (np.sqrt(corrected[1]) + epsilon)
    return x


@pytest.mark.parametrize(
    ("betas", "clip", "decay"), [((0.9, 0.999), 0.0, 0.0), ((0.7, 0.9), 0.0, 0.0), ((0.7, 0.9), 1.5, 0.3)]
)
def test_steps_are_those_of_the_paper(betas, clip, decay):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    # Of very different sizes: Adam's first step is the same for any, so only the later ones show the clipping.
    gradients = [size * rng.normal(size=(3, 4)).astype(np.float32) for size in (0.1, 30.0, 1.0, 0.01)]
    made = optimizer(beta_1=betas[0], beta_2=betas[1], clip=clip, weight_decay=decay)
    variable = keras.Variable(start, name="kernel")
    made.build([variable])
    for gradient in gradients:
        made.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    wanted = adamw(start.astype(np.float64), gradients, rate=0.01, betas=betas, clip=clip, decay=decay)
    np.testing.assert_allclose(np.asarray(variable.value), wanted, rtol=1e-4, atol=1e-6)


def test_muon_moves_the_rest_by_adam_with_the_recipes_betas():
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(4, 6)).astype(np.float32)
    made = optimizer(name="muon", beta_1=0.7, beta_2=0.9, clip=0.0)
    variable = keras.Variable(start, name="scale")
    made.build([variable])
    for gradient in gradients:
        made.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    wanted = adamw(start.astype(np.float64), gradients, rate=0.01, betas=(0.7, 0.9), clip=0.0, decay=0.0)
    np.testing.assert_allclose(np.asarray(variable.value), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_matrices_alone_decay(name):
    """Norms, biases, embeddings and DoRA's magnitudes keep their values where there is no gradient."""
    backbone = make("paligemma2", num_layers=1, vit_num_layers=1)
    lora = make_lora(backbone, LoRA(rank=2, targets=("q_proj",), dora=True))
    for weights in lora.table.values():
        weights["b"].assign(np.ones(weights["b"].shape))
    variables = [*backbone.trainable_variables, *lora.trainable_variables]
    before = [np.asarray(variable.value) for variable in variables]
    made = optimizer(name=name, weight_decay=0.1)
    made.build(variables)
    zeros = [np.zeros_like(value) for value in before]
    after, _ = jax.jit(made.stateless_apply)([v.value for v in made.variables], zeros, before)
    decayed, kept = set(), set()
    for variable, old, new in zip(variables, before, after, strict=True):
        if np.array_equal(new, old):
            kept.add(variable.path)
        else:
            np.testing.assert_allclose(new, old * (1 - 0.01 * 0.1), rtol=1e-5)
            decayed.add(variable.path)
    matrices = {v.path for v in variables if v.name == "kernel" or v.path.endswith(("_a", "_b"))}
    if name == "muon":  # the picture's patches are read by a kernel that stays with Adam, which decays nothing
        matrices -= {path for path in matrices if "embedding_conv" in path}
    assert decayed == matrices
    assert {path.rsplit("/", 1)[-1].rsplit("_", 1)[-1] for path in kept} >= {
        "scale",
        "gamma",
        "beta",
        "bias",
        "embeddings",
        "magnitude",
    }


@pytest.mark.parametrize(
    ("full", "parameters", "rate"),
    [
        # arXiv 2407.07726, appendix J, for all weights; ten times that for adapters
        (True, 2_900_000_000, 1e-5),
        (False, 2_900_000_000, 1e-4),
        # the embedded model, docs/training.md
        (True, 2_000_000, 1.5e-3),
        (False, 2_000_000, 2e-3),
    ],
)
def test_default_rates(full, parameters, rate):
    assert default_learning_rate(full, parameters) == rate
