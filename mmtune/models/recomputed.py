"""Functions between products, of which training keeps as little as their gradients can be computed from.

Traced step by step, each of them would keep several arrays as large as its result for the backward pass, in the MLPs and
in attention more than everything else together.
"""

from collections.abc import Callable

import jax

Array = jax.Array


def from_inputs(function: Callable[..., Array]) -> Callable[..., Array]:
    """Returns an elementwise function of arrays that keeps its inputs alone and is computed once more backwards."""
    kept = jax.custom_vjp(function)

    def forward(*inputs: Array) -> tuple[Array, tuple[Array, ...]]:
        return function(*inputs), inputs

    def backward(inputs: tuple[Array, ...], gradient: Array) -> tuple[Array, ...]:
        # The sum makes it wait for the gradient: XLA's CPU backend would compute it at once, and keep it after all.
        _, pull = jax.vjp(function, inputs[0] + 0 * gradient, *inputs[1:])
        return pull(gradient)

    kept.defvjp(forward, backward)
    return kept


@from_inputs
def gelu(x: Array) -> Array:
    """Returns the approximate GELU, by tanh."""
    return jax.nn.gelu(x, approximate=True)


@from_inputs
def gelu_gated(gate: Array, up: Array) -> Array:
    """Returns gelu(gate) * up."""
    return jax.nn.gelu(gate, approximate=True) * up


@from_inputs
def silu_gated(gate: Array, up: Array) -> Array:
    """Returns silu(gate) * up."""
    return jax.nn.silu(gate) * up


@jax.custom_vjp
def softmax(scores: Array) -> Array:
    """Returns the softmax along the last axis, which keeps its result alone."""
    return jax.nn.softmax(scores, axis=-1)


def _softmax_forward(scores: Array) -> tuple[Array, Array]:
    shares = jax.nn.softmax(scores, axis=-1)
    return shares, shares


def _softmax_backward(shares: Array, gradient: Array) -> tuple[Array]:
    weighted = shares * gradient
    return (weighted - shares * weighted.sum(-1, keepdims=True),)


softmax.defvjp(_softmax_forward, _softmax_backward)
