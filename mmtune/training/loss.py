"""The loss: mean over a suffix's tokens, then mean over suffixes; or mean over all tokens."""

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.codecs.boxes import LOCATIONS
from mmtune.models.linear import Array
from mmtune.models.scorer import token_log_likelihood
from mmtune.recipe import Optimizer


def weighted_loss(predicted: Array, labels: dict[str, Array], options: Optimizer, loc: int | None = None) -> Array:
    """Returns the loss of a batch.

    Args:
        predicted: (batch, n, vocabulary) float32 logits.
        labels: "labels" (batch, n) int32; "weights" (batch, n), which sum to 1 over each suffix, or are each
            token's own.
        options: Label and location smoothing.
        loc: Id of the first location token; None for vocabularies without.

    Returns:
        () float32: sum of weights times losses over the sum of weights; 0 when there are none.
    """
    total = loss_sum(predicted, labels["labels"], labels["weights"], options, loc)
    return total / divisor(labels["weights"])


def divisor(weights: Array) -> Array:
    """Returns the sum of all weights, () float32, or next to nothing where there are none."""
    return jnp.maximum(jnp.sum(weights), 1e-9)


def loss_sum(predicted: Array, target: Array, weights: Array, options: Optimizer, loc: int | None) -> Array:
    """Returns the sum of weights (batch, n) times losses, () float32; other arguments are those of `weighted_loss`."""
    likelihood = token_log_likelihood(predicted, target)
    if options.location_smoothing > 0 and loc is not None:
        is_location = (target >= loc) & (target < loc + LOCATIONS)
        spread = _spread_likelihood(predicted, target, options.location_smoothing, loc)
        likelihood = jnp.where(is_location, spread, likelihood)
    loss = -likelihood
    if options.label_smoothing > 0:
        even = jax.nn.logsumexp(predicted, axis=-1) - jnp.mean(predicted, axis=-1)
        loss = (1 - options.label_smoothing) * loss + options.label_smoothing * even
    return jnp.sum(weights * loss)


def _spread_likelihood(predicted: Array, target: Array, deviation: float, loc: int) -> Array:
    """Returns the expected log-probability of locations around the target, normally distributed over bins."""
    reach = max(1, round(2.5 * deviation))
    bins, shares = neighbours(target - loc, np.arange(-reach, reach + 1), deviation)
    picked = jnp.take_along_axis(predicted, jnp.clip(loc + bins, 0, predicted.shape[-1] - 1), axis=-1)
    return jnp.sum(picked * shares, axis=-1) - jax.nn.logsumexp(predicted, axis=-1)


def neighbours(bins: Array | np.ndarray, offsets: np.ndarray, deviation: float) -> tuple[Array, Array]:
    """Returns the location bins around others, and the share of each, normally distributed.

    What would lie beyond the picture's border is left out, not piled up on it: the border would be far likelier than
    any other edge, and greedy decoding would come back to it again and again.

    Args:
        bins: (...) int32, 0..1023.
        offsets: (n,) distances in bins.
        deviation: Standard deviation in bins.

    Returns:
        (..., n) int32 bins in 0..1023, and (..., n) float32 shares, which sum to 1.
    """
    around = bins[..., None] + offsets
    inside = (around >= 0) & (around < LOCATIONS)
    shares = jnp.where(inside, np.exp(-0.5 * (offsets / deviation) ** 2), 0.0).astype(jnp.float32)
    total = jnp.maximum(jnp.sum(shares, axis=-1, keepdims=True), 1e-9)
    return jnp.clip(around, 0, LOCATIONS - 1), shares / total
