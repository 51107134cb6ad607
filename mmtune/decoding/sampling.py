"""Choosing the next token from logits: greedy, temperature, top-k, top-p."""

import math
from dataclasses import dataclass
from numbers import Integral

import jax
import jax.numpy as jnp

from mmtune.errors import UsageError

Array = jax.Array

FORBIDDEN = -1e30


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How tokens are chosen.

    Attributes:
        temperature: 0 is greedy; logits are divided by it otherwise.
        top_k: Only the k most likely tokens; 0: all.
        top_p: Only the most likely tokens that together reach this probability (arXiv 1904.09751); 1: all.
        beams: Width of beam search; 1: none. Beam search takes no temperature.
        seed: Seed of sampling; row i of a data set draws the same whatever batch it is in.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top_k", "beams", "seed"):
            if not isinstance(value := getattr(self, name), Integral):
                raise UsageError(f"{name}: expected a whole number, got {value!r}")
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"temperature: expected 0 (greedy) or more, got {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top_k: expected 0 (off) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p: expected a probability above 0 and up to 1, got {self.top_p}")
        if self.beams < 1:
            raise UsageError(f"beams: expected 1 or more, got {self.beams}")
        if self.beams > 1 and self.temperature > 0:
            raise UsageError("beam search takes no temperature: set beams to 1 to sample")


GREEDY = Sampler()


def choose(logits: Array, sampler: Sampler, keys: Array, step: Array) -> Array:
    """Returns the next token of each row.

    Args:
        logits: (batch, vocabulary) float32; forbidden tokens at `FORBIDDEN`.
        sampler: The rule.
        keys: (batch,) random keys, one a row.
        step: () or (batch,) int32, number of the token, mixed into the keys.

    Returns:
        (batch,) int32.
    """
    if sampler.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / sampler.temperature
    if sampler.top_k:
        count = min(sampler.top_k, logits.shape[-1])
        smallest = jax.lax.top_k(logits, count)[0][:, -1:]
        logits = jnp.where(logits < smallest, FORBIDDEN, logits)
    if sampler.top_p < 1:
        logits = _nucleus(logits, sampler.top_p)
    folded = jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(step, logits.shape[:1]))
    return jax.vmap(jax.random.categorical)(folded, logits).astype(jnp.int32)


def _nucleus(logits: Array, top_p: float) -> Array:
    """Forbids every token that is not among the most likely ones which together reach `top_p`."""
    ordered = jnp.sort(logits, axis=-1)[:, ::-1]
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    smallest = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < smallest, FORBIDDEN, logits)
