"""Functions that keep little for the backward pass, beside the same ones as JAX derives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmtune.models.recomputed import gelu, gelu_gated, silu_gated, softmax

PLAIN = {
    gelu: lambda x: jax.nn.gelu(x, approximate=True),
    gelu_gated: lambda gate, up: jax.nn.gelu(gate, approximate=True) * up,
    silu_gated: lambda gate, up: jax.nn.silu(gate) * up,
    softmax: lambda x: jax.nn.softmax(x, axis=-1),
}
INPUTS = {gelu: 1, gelu_gated: 2, silu_gated: 2, softmax: 1}
LAYERS, ROWS, WIDTH = 4, 256, 512


def arrays(count, shape=(3, 5, 64), seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(0, 2, shape), jnp.float32) for _ in range(count)]


@pytest.mark.parametrize("function", PLAIN, ids=lambda function: function.__name__)
def test_values_and_gradients_are_those_of_the_plain_function(function):
    inputs, (weights,) = arrays(INPUTS[function]), arrays(1, seed=1)
    every = tuple(range(len(inputs)))

    def grads(of):
        return jax.jit(jax.value_and_grad(lambda *x: jnp.sum(weights * of(*x)), argnums=every))(*inputs)

    (value, found), (expected, plain) = grads(function), grads(PLAIN[function])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_softmax_of_masked_scores_has_no_nan():
    scores = jnp.array([[0.5, -1e30, 2.0], [-1e30, -1e30, -1e30]])
    gradient = jax.grad(lambda x: jnp.sum(softmax(x) ** 2))(scores)
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] == 0


def stacked(function, products, x):
    """Returns a scalar of so many layers of two products and a function between them."""
    for first, second, last in products:
        x = x + function(x @ first, x @ second) @ last
    return jnp.sum(x)


def test_gates_keep_two_arrays_a_layer():
    """Buffers as XLA assigns them: with the plain gate a layer keeps its activation and result as well."""
    rng = np.random.default_rng(0)
    sizes = ((WIDTH, 4 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
    products = [[jnp.asarray(rng.normal(0, 0.02, size), jnp.float32) for size in sizes] for _ in range(LAYERS)]
    x = jnp.ones((ROWS, WIDTH))

    def held(function):
        step = jax.jit(jax.grad(lambda x: stacked(function, products, x)))
        return step.lower(x).compile().memory_analysis().temp_size_in_bytes / (4 * ROWS * 4 * WIDTH)

    few, plain = held(gelu_gated), held(PLAIN[gelu_gated])
    assert few < 2 * LAYERS + 5
    assert plain > few + LAYERS
