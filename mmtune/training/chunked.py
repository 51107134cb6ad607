"""The loss from hidden states, with logits of a few target positions at a time.

Of a vocabulary of 257,152 the logits of a batch are larger than all else that a step holds. Here each part's gradient
is computed together with its loss, so that no logits wait for the backward pass and none are computed twice.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmtune.models.forward import logits
from mmtune.models.linear import Array
from mmtune.models.spec import TextSpec
from mmtune.recipe import Optimizer
from mmtune.training.loss import divisor, loss_sum

MOST_LOGITS = 1 << 25
"""Numbers in the logits of one part, 128 MiB."""


class Head(NamedTuple):
    """What makes the loss of hidden states, but for arrays.

    Attributes:
        spec: The decoder's description.
        options: Label and location smoothing.
        loc: Id of the first location token; None for vocabularies without.
        trains: Whether its weights need a gradient.
    """

    spec: TextSpec
    options: Optimizer
    loc: int | None
    trains: bool


def hidden_loss(
    head: Head, weights: Any, hidden: Array, labels: dict[str, Array], most_logits: int = MOST_LOGITS
) -> Array:
    """Returns `weighted_loss` of the logits of hidden states; divided by "update_weights" where the labels have it.

    Args:
        head: How.
        weights: "embedding" or "head" of the decoder's weights.
        hidden: (batch, n, hidden) after the final norm.
        labels: As for `weighted_loss`.
        most_logits: Numbers in the logits that are computed at once, as far as one target position a row allows.
    """
    batch, count = hidden.shape[:2]
    length = positions_at_once(batch, head.spec.vocabulary_size, most_logits)
    targets = labels["labels"], labels["weights"]
    whole = divisor(labels.get("update_weights", targets[1]))
    if length >= count:
        return _sum(head, hidden, weights, *targets) / whole
    parts = -(-count // length)
    padded = (_parted(array, parts, length) for array in (hidden, *targets))
    return jnp.divide(_sum_of_parts(head, weights, *padded), whole)


def positions_at_once(batch: int, vocabulary_size: int, most_logits: int = MOST_LOGITS) -> int:
    """Returns how many target positions of each row are in one part of the loss."""
    return max(1, most_logits // (batch * vocabulary_size))


def _parted(array: Array, parts: int, length: int) -> Array:
    """Returns (parts, batch, length, ...) of an array (batch, n, ...), filled up with zeros."""
    missing = parts * length - array.shape[1]
    array = jnp.pad(array, ((0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)))
    return jnp.moveaxis(array.reshape(array.shape[0], parts, length, *array.shape[2:]), 1, 0)


def _sum(head: Head, hidden: Array, weights: Any, target: Array, share: Array) -> Array:
    return loss_sum(logits(weights, head.spec, hidden), target, share, head.options, head.loc)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_of_parts(head: Head, weights: Any, hidden: Array, target: Array, share: Array) -> Array:
    """Returns the sum over parts, the first axis of hidden, target and share."""

    def add(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + _sum(head, part[0], weights, *part[1:]), None

    return jax.lax.scan(add, jnp.float32(0), (hidden, target, share))[0]


def _forward(head: Head, weights: Any, hidden: Array, target: Array, share: Array) -> tuple[Array, Any]:
    """Returns the sum and its gradients by weights (None where they do not train) and hidden states."""

    def add(so_far: tuple[Array, Any], part: tuple[Array, Array, Array]) -> tuple[tuple[Array, Any], Array]:
        total, gathered = so_far
        of = partial(_sum, head, target=part[1], share=part[2])
        if not head.trains:
            loss, gradient = jax.value_and_grad(lambda x: of(x, weights))(part[0])
            return (total + loss, None), gradient
        loss, (gradient, more) = jax.value_and_grad(of, argnums=(0, 1))(part[0], weights)
        return (total + loss, jax.tree.map(jnp.add, gathered, more)), gradient

    nothing = jax.tree.map(jnp.zeros_like, weights) if head.trains else None
    (total, gathered), gradients = jax.lax.scan(add, (jnp.float32(0), nothing), (hidden, target, share))
    return total, (gathered, gradients)


def _backward(head: Head, gradients: Any, factor: Array) -> tuple[Any, Array | None, None, None]:
    del head
    by_weights, by_hidden = jax.tree.map(lambda gradient: (factor * gradient).astype(gradient.dtype), gradients)
    return by_weights, by_hidden, None, None


_sum_of_parts.defvjp(_forward, _backward)
