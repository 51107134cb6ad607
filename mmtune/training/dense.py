"""Dense supervision: a temporary head that reads objects straight off the image tokens.

A small vision tower that learns only through the answer's tokens takes very long to begin to see. Here every image
token says what lies under it and where that object's edges are: offsets from the patch's centre, and the four absolute
edges through the table of location tokens, which is the form in which the decoder will copy them. The head is thrown
away after training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.data.dense import DenseTargets
from mmtune.models.linear import Array
from mmtune.training.loss import neighbours

# Weight of patches without an object, of which there are many.
_GROUND_WEIGHT = 0.2
_OFFSET_WEIGHT = 2.0
# Locations near the right one are nearly right: normal distribution over bins.
_DEVIATION, _STEP, _REACH = 4.0, 3, 3


@dataclass(frozen=True)
class DenseHead:
    """The temporary head: an array a member, all trained.

    Attributes:
        kernel, bias: (width, labels of all maps + 4) and (labels of all maps + 4,).
        edges: (4, width, width): maps an image token to what is looked up in the location table.
    """

    kernel: Array
    bias: Array
    edges: Array


jax.tree_util.register_dataclass(DenseHead, ("kernel", "bias", "edges"), ())


def make_head(width: int, counts: Sequence[int], rng: np.random.Generator) -> DenseHead:
    """Returns a fresh head.

    Args:
        width: Width of an image token.
        counts: Number of labels of each map, the ground included.
        rng: Source of the first values.
    """
    columns = sum(counts) + 4
    edges = 0.5 * np.eye(width) + rng.normal(0, 0.03, (4, width, width))
    return DenseHead(
        jnp.asarray(rng.normal(0, 0.05, (width, columns)), jnp.float32),
        jnp.zeros(columns, jnp.float32),
        jnp.asarray(edges, jnp.float32),
    )


def dense_loss(
    head: DenseHead, features: Array, locations: Array, targets: DenseTargets, counts: Sequence[int]
) -> tuple[Array, Array]:
    """Returns the head's loss and how often the labels of the maps are right where there is an object.

    Args:
        head: From `make_head`.
        features: (batch, patches, width) image tokens.
        locations: (1024, width) embeddings of the location tokens.
        targets: With a leading batch axis.
        counts: As given to `make_head`.

    Returns:
        () float32, and (maps,) float32 shares of patches.
    """
    sums, right = dense_sums(head, features, locations, targets, counts)
    return divided(sums, dense_amounts(targets)), right


def divided(sums: Array, amounts: Array | np.ndarray) -> Array:
    """Returns the loss () of `dense_sums`, divided by the `dense_amounts` of a batch or of all in its update."""
    total = jnp.sum(jnp.asarray(amounts), axis=0)
    return jnp.sum(sums[:-2] / total[:-2]) + sums[-2] / (total[-2] + 1) + sums[-1] / jnp.maximum(total[-1], 1)


def dense_amounts(targets: DenseTargets) -> Any:
    """Returns what each term of the loss is divided by.

    Args:
        targets: With a leading batch axis, numpy's or JAX' arrays.

    Returns:
        (batch, maps + 2) float32, numpy's or JAX': weights of the patches of each map, patches with an object, weights
        of the edges. Their sum over all rows counts.
    """
    xp: Any = np if isinstance(targets.labels, np.ndarray) else jnp
    shown = targets.labels > 0
    patches = xp.where(shown, 1.0, _GROUND_WEIGHT).sum(axis=-1)
    edges = targets.weight * np.prod(targets.bins.shape[1:])
    return xp.concatenate([patches, shown[:, :1].sum(axis=-1), edges[:, None]], axis=1).astype(np.float32)


def dense_sums(
    head: DenseHead, features: Array, locations: Array, targets: DenseTargets, counts: Sequence[int]
) -> tuple[Array, Array]:
    """Returns the terms of the loss before they are divided, (maps + 2,), and the shares as of `dense_loss`."""
    out = features @ head.kernel + head.bias
    borders = np.cumsum(counts)
    sums, right = [], []
    for number, logits in enumerate(jnp.split(out, borders, axis=-1)[:-1]):
        labels = targets.labels[:, number]
        shown = labels > 0
        weights = jnp.where(shown, 1.0, _GROUND_WEIGHT)
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
        sums.append(-jnp.sum(likelihood * weights))
        right.append(jnp.sum((logits.argmax(-1) == labels) * shown) / jnp.maximum(jnp.sum(shown), 1))
    shown = targets.labels[:, 0] > 0
    misses = jnp.abs(out[..., borders[-1] :] - targets.offsets).sum(-1)
    sums += [_OFFSET_WEIGHT * jnp.sum(misses * shown), _edge_sum(head, features, locations, targets)]
    return jnp.stack(sums), jnp.stack(right)


def _edge_sum(head: DenseHead, features: Array, locations: Array, targets: DenseTargets) -> Array:
    """Returns the sum of the losses of the absolute edges, read through the location table."""
    chosen = jnp.take_along_axis(features, targets.patches[..., None], axis=1)
    scores = jnp.einsum("bkd,edf->bkef", chosen, head.edges) @ locations.T
    steps = np.arange(-_REACH, _REACH + 1) * _STEP
    near, shares = neighbours(targets.bins, steps, _DEVIATION)
    picked = jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(scores), near, axis=-1) * shares, axis=-1)
    return -jnp.sum(picked * targets.weight[:, None, None])
