"""Beam search, over the same prefix and step as plain decoding."""

from functools import partial

import jax
import jax.numpy as jnp

from mmtune.decoding.constraint import Constraint, advance, allowed
from mmtune.decoding.engine import Prefix, Written, step
from mmtune.decoding.sampling import FORBIDDEN
from mmtune.models.forward import Cache
from mmtune.models.linear import Adapter, Array
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree


@partial(jax.jit, static_argnames=("spec", "beams", "new", "ends", "pad"))
def search(
    weights: Tree,
    spec: ModelSpec,
    prefix: Prefix,
    adapter: Adapter,
    limit: Array,
    constraint: Constraint | None,
    *,
    beams: int,
    new: int,
    ends: tuple[int, ...],
    pad: int,
) -> Written:
    """Returns the most likely of the sequences that a beam of the given width keeps, by total log-probability.

    A beam may drop the greedy sequence on its way and end with a worse one; the caller compares with greedy decoding.

    Args:
        weights, spec: The model.
        prefix: From `prefill` with the same `new`; shared by all beams of a row.
        adapter: Low-rank weights.
        limit: () int32, at most `new`.
        constraint: What may be written, or None.
        beams: Width.
        new: Size of the output.
        ends: Ids of the tokens that end an answer.
        pad: Id of the token that fills rows.
    """
    rows = prefix.lengths.shape[0]
    first_slot = prefix.seen.shape[1] - new

    def spread(x: Array) -> Array:
        return jnp.repeat(x, beams, axis=0)

    def reorder(x: Array, parent: Array) -> Array:
        return x[parent]

    def body(carry: tuple) -> tuple:
        i, predicted, cache, seen, state, done, score, tokens, logprobs, lengths = carry
        raw = jax.nn.log_softmax(predicted)
        open_logprobs = raw
        if constraint is not None:
            open_logprobs = jnp.where(allowed(constraint, state, limit - i), raw, FORBIDDEN)
        vocabulary = raw.shape[-1]
        # A finished beam goes on in one way only, at no cost.
        resting = jnp.where(jnp.arange(vocabulary) == pad, 0.0, FORBIDDEN)
        total = score[:, None] + jnp.where(done[:, None], resting, open_logprobs)
        score, flat = jax.lax.top_k(total.reshape(rows, beams * vocabulary), beams)
        parent = (jnp.arange(rows)[:, None] * beams + flat // vocabulary).reshape(-1)
        token = (flat % vocabulary).reshape(-1).astype(jnp.int32)
        score = score.reshape(-1)
        done, lengths, state, tokens, logprobs = (reorder(x, parent) for x in (done, lengths, state, tokens, logprobs))
        gained = jnp.where(done, 0.0, raw[parent, token])
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, i))
        logprobs = jax.lax.dynamic_update_slice(logprobs, gained[:, None], (0, i))
        if constraint is not None:
            state = jnp.where(done, state, advance(constraint, state, token))
        lengths = lengths + ~done
        done = done | jnp.isin(token, jnp.array(ends))
        cache, seen = jax.tree.map(lambda x: reorder(x, parent), (cache, seen))
        positions = spread(prefix.lengths) + i
        predicted, cache, seen = step(weights, spec, adapter, cache, seen, token, positions, first_slot + i)
        return i + 1, predicted, cache, seen, state, done, score, tokens, logprobs, lengths

    def undecided(carry: tuple) -> Array:
        # Scores only fall: a beam that goes on below the best finished one of its row never gets above it.
        done, score = (x.reshape(rows, beams) for x in (carry[5], carry[6]))
        finished = jnp.max(jnp.where(done, score, -jnp.inf), axis=1)
        going_on = jnp.max(jnp.where(done, -jnp.inf, score), axis=1)
        return (carry[0] < limit) & jnp.any(going_on > finished)

    count = rows * beams
    start = jnp.zeros(rows, jnp.int32) if constraint is None else constraint.start
    # All beams start equal: only the first of each row may lead, or the beam would hold copies.
    score = jnp.where(jnp.arange(count) % beams == 0, 0.0, FORBIDDEN)
    cache: Cache = jax.tree.map(spread, prefix.cache)
    carry = (
        jnp.int32(0),
        spread(prefix.first),
        cache,
        spread(prefix.seen),
        spread(start),
        jnp.zeros(count, bool),
        score,
        jnp.full((count, new), pad, jnp.int32),
        jnp.zeros((count, new), jnp.float32),
        jnp.zeros(count, jnp.int32),
    )
    carry = jax.lax.while_loop(undecided, body, carry)
    best = jnp.arange(rows) * beams + jnp.argmax(carry[6].reshape(rows, beams), axis=1)
    return Written(carry[7][best], carry[8][best], carry[9][best])
