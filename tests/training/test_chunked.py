"""The loss with logits of a few positions at a time, against the loss of whole logits."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.models.forward import logits
from mmtune.models.quantized import Quantized, quantize
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables, values
from mmtune.recipe import Optimizer
from mmtune.training.chunked import Head, hidden_loss
from mmtune.training.loss import weighted_loss

BATCH, COUNT = 3, 11
SMOOTH = Optimizer(label_smoothing=0.1, location_smoothing=1.5)


@functools.cache
def parts(family):
    """A decoder's description, what makes logits in it, hidden states and labels."""
    backbone = make(family)
    spec = read_spec(backbone).text
    text = values(model_variables(backbone))["text"]
    name = "embedding" if spec.tied else "head"
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(BATCH, COUNT, spec.hidden_dim)), jnp.float32)
    share = rng.random((BATCH, COUNT)) * (rng.random((BATCH, COUNT)) < 0.8)
    labels = {
        "labels": jnp.asarray(rng.integers(0, spec.vocabulary_size - 9, (BATCH, COUNT)), jnp.int32),
        "weights": jnp.asarray(share, jnp.float32),
    }
    return spec, {name: text[name]}, hidden, labels


def whole(spec, options, weights, hidden, labels):
    return weighted_loss(logits(weights, spec, hidden), labels, options, 8)


@pytest.mark.parametrize("length", [1, 2, 4, 10, 11])
@pytest.mark.parametrize(
    ("family", "options"),
    [("gemma2", Optimizer()), ("gemma2", SMOOTH), ("llama3", SMOOTH)],
    ids=["gemma2", "gemma2 smoothed", "llama3 smoothed"],
)
def test_loss_and_gradients_equal_whole_logits(family, options, length):
    """Gemma 2 has a tied vocabulary and caps its logits; Llama 3 has a head of its own."""
    spec, weights, hidden, labels = parts(family)
    head = Head(spec, options, 8, trains=True)
    most = length * BATCH * spec.vocabulary_size
    found = jax.jit(jax.value_and_grad(lambda w, x: 3 * hidden_loss(head, w, x, labels, most), (0, 1)))(weights, hidden)
    expected = jax.value_and_grad(lambda w, x: 3 * whole(spec, options, w, x, labels), (0, 1))(weights, hidden)
    assert float(expected[0]) > 1
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 * float(jnp.abs(other).max()))
    assert float(hidden_loss(head, weights, hidden, labels, most)) == pytest.approx(float(found[0]) / 3, rel=1e-6)


@pytest.mark.parametrize("scheme", [None, "int8"])
def test_weights_that_do_not_train_get_no_gradient(scheme):
    spec, weights, hidden, labels = parts("gemma2")
    if scheme:
        codes, scales = quantize(np.asarray(weights["embedding"]), scheme, table=True)
        weights = {"embedding": Quantized(jnp.asarray(codes), jnp.asarray(scales), weights["embedding"].shape)}
    head = Head(spec, Optimizer(), None, trains=False)
    found = jax.grad(lambda x: hidden_loss(head, weights, x, labels, 2 * BATCH * spec.vocabulary_size))(hidden)
    expected = jax.grad(lambda x: whole(spec, Optimizer(), weights, x, labels))(hidden)
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(jnp.abs(expected).max()))


def test_logits_of_all_positions_are_never_held():
    """By XLA's own account of the program's temporary memory."""
    spec, count = replace(parts("gemma2")[0], vocabulary_size=4096), 512
    weights = {"embedding": jnp.ones((spec.vocabulary_size, spec.hidden_dim))}
    hidden = jnp.ones((1, count, spec.hidden_dim))
    labels = {"labels": jnp.zeros((1, count), jnp.int32), "weights": jnp.ones((1, count))}
    head = Head(spec, Optimizer(), None, trains=False)

    def held(most):
        step = jax.jit(jax.value_and_grad(lambda x: hidden_loss(head, weights, x, labels, most)))
        return step.lower(hidden).compile().memory_analysis().temp_size_in_bytes

    every = 4 * count * spec.vocabulary_size
    assert held(count * spec.vocabulary_size) > every
    assert held(16 * spec.vocabulary_size) < every / 4
