"""Functions that keep little for the backward pass, beside the same ones as JAX derives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmtune.models.recomputed import from_inputs, gelu, gelu_gated, silu_gated, softmax

PLAIN = {
    gelu: lambda x: jax.nn.gelu(x, approximate=True),
    gelu_gated: lambda gate, up: jax.nn.gelu(gate, approximate=True) * up,
    silu_gated: lambda gate, up: jax.nn.silu(gate) * up,
    softmax: lambda x: jax.nn.softmax(x, axis=-1),
}
INPUTS = {gelu: 1, gelu_gated: 2, silu_gated: 2, softmax: 1}
LAYERS, ROWS, WIDTH = 8, 256, 512


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


def layer(function):
    """Returns a layer of two products, a function of them, and a third."""
    return lambda x, first, second, last: x + function(x @ first, x @ second) @ last


def held(one_layer):
    """Returns the temporary buffers of a gradient through many layers in arrays as wide as MLPs."""
    rng = np.random.default_rng(0)
    sizes = ((WIDTH, 4 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
    products = [[jnp.asarray(rng.normal(0, 0.02, size), jnp.float32) for size in sizes] for _ in range(LAYERS)]

    def total(x):
        for weights in products:
            x = one_layer(x, *weights)
        return jnp.sum(x)

    step = jax.jit(jax.grad(total)).lower(jnp.ones((ROWS, WIDTH))).compile()
    return step.memory_analysis().temp_size_in_bytes / (4 * ROWS * 4 * WIDTH)


def test_gates_keep_two_arrays_a_layer():
    few, plain = held(layer(gelu_gated)), held(layer(PLAIN[gelu_gated]))
    assert few < 2 * LAYERS + 5
    assert plain > few + LAYERS


def test_whole_layers_keep_their_input_alone():
    """As narrow as it is, that is a quarter of an array; a working layer's own come to it."""
    assert held(from_inputs(layer(gelu_gated))) < 0.25 * LAYERS + 6
