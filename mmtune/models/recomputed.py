"""What the backward pass computes once more instead of keeping it: activations and softmax always, layers on request.

Traced step by step, activations and attention alone would keep more for the backward pass than everything else.
"""

from collections.abc import Callable
from typing import Any

import jax

from mmtune.models.linear import Array


def from_inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that keeps its inputs alone, and is computed once more when its gradient comes.

    As `jax.checkpoint` does it, on a CPU too: XLA's backend for CPUs, by which plans are compiled as well, ignores the
    barriers that `jax.checkpoint` sets, computes everything once more at once, and keeps it after all.

    Args:
        function: Of positional trees of arrays, the first of which is an array, to a tree of arrays.
    """

    def run(*inputs: Any) -> Any:
        return function(*inputs)

    def forward(*inputs: Any) -> tuple[Any, tuple[Any, ...]]:
        return function(*inputs), inputs

    def backward(inputs: tuple[Any, ...], gradient: Any) -> tuple[Any, ...]:
        first, *others = inputs
        come = jax.tree.leaves(gradient)[0]
        if come.shape == first.shape:
            first = first + 0 * come  # hence not before the gradient is there
        _, pull = jax.vjp(function, first, *others)
        return pull(gradient)

    kept = jax.custom_vjp(run)
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
