"""Decoding: the prefix is computed once, then one compiled loop writes token after token.

Prompts are padded on the right to a bucket and the new tokens of all rows share cache slots behind it; what a row may
see and at which position it stands are explicit, so a row's output does not depend on the batch it is in. The loop can
be left after any token and entered again (`begin`, `go_on`), which is how answers are shown while they are written.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmtune.decoding.constraint import Constraint, advance, allowed, likeliest_kind, likeliest_stretch
from mmtune.decoding.sampling import FORBIDDEN, Sampler, choose
from mmtune.models.forward import Cache, decode_layers, embed, empty_cache, logits
from mmtune.models.linear import Adapter, Array
from mmtune.models.modules import text_path
from mmtune.models.scorer import image_features, segment_mask
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree


class Prefix(NamedTuple):
    """What the loop starts from.

    Attributes:
        cache: Keys and values of image and prompt, with free slots for the new tokens.
        seen: (batch, slots) bool, which slots hold a token of the row.
        lengths: (batch,) int32, number of image and prompt tokens: the position of the first new one.
        first: (batch, vocabulary) float32 logits of the first new token.
    """

    cache: Cache
    seen: Array
    lengths: Array
    first: Array


class Written(NamedTuple):
    """What the loop wrote.

    Attributes:
        tokens: (batch, n) int32, pad after the end.
        logprobs: (batch, n) float32, under the unmasked distribution; 0 after the end.
        lengths: (batch,) int32, tokens written, the one that ended it included.
    """

    tokens: Array
    logprobs: Array
    lengths: Array


class Writing(NamedTuple):
    """Where the loop stands.

    Attributes:
        turn: () int32, steps of the loop so far. Each writes one slot of the cache, the same in all rows; behind the
            last slot comes the first one of the new tokens again, so that a row may begin at any turn.
        predicted: (batch, vocabulary) float32 logits of the next token.
        cache, seen: As in `Prefix`.
        state: (batch,) int32, where each row stands in its grammar.
        done: (batch,) bool, which rows have ended.
        written: What there is so far.
    """

    turn: Array
    predicted: Array
    cache: Cache
    seen: Array
    state: Array
    done: Array
    written: Written


@partial(jax.jit, static_argnames=("spec", "dtype"))
def encode(weights: Tree, spec: ModelSpec, images: Array, adapter: Adapter, dtype: Any) -> Array:
    """Returns the image features (batch, tokens, hidden)."""
    return image_features(weights, spec, images, adapter, dtype)


@partial(jax.jit, static_argnames=("spec", "new", "dtype"))
def prefill(
    weights: Tree,
    spec: ModelSpec,
    features: Array | None,
    token_ids: Array,
    lengths: Array,
    adapter: Adapter,
    new: int,
    dtype: Any,
) -> Prefix:
    """Runs image and prompt through the model.

    Args:
        weights: `model_variables` as arrays.
        spec: The model's description.
        features: (batch, image tokens, hidden), or None for text models.
        token_ids: (batch, text) int32, padded on the right.
        lengths: (batch,) int32, number of prompt tokens of each row.
        adapter: Low-rank weights.
        new: How many tokens may follow.
        dtype: Dtype of the computation.
    """
    batch, width = token_ids.shape
    x = embed(weights["text"], spec.text, token_ids, dtype)
    if features is not None:
        x = jnp.concatenate([features, x], axis=1)
    image_tokens = 0 if features is None else features.shape[1]
    total = image_tokens + width
    segments = jnp.where(jnp.arange(width)[None] < lengths[:, None], 0, -1)
    mask = segment_mask(segments, image_tokens, spec.text.bidirectional_prefix)
    positions = jnp.broadcast_to(jnp.arange(total, dtype=jnp.int32), (batch, total))
    lengths = image_tokens + lengths
    hidden, cache = decode_layers(
        weights["text"],
        spec.text,
        x,
        positions=positions,
        mask=jnp.pad(mask, ((0, 0), (0, 0), (0, new))),
        path=text_path(spec),
        adapter=adapter,
        targets=(lengths - 1)[:, None],
        cache=empty_cache(spec.text, batch, total + new, dtype),
    )
    assert cache is not None
    seen = jnp.arange(total + new)[None] < lengths[:, None]
    return Prefix(cache, seen, lengths, logits(weights["text"], spec.text, hidden)[:, 0])


def step(
    weights: Tree,
    spec: ModelSpec,
    adapter: Adapter,
    cache: Cache,
    seen: Array,
    tokens: Array,
    position: Array,
    slot: Any,
) -> tuple[Array, Cache, Array]:
    """Runs one new token of each row.

    Args:
        weights, spec, adapter: The model.
        cache, seen: As in `Prefix`.
        tokens: (batch,) int32.
        position: (batch,) int32.
        slot: The cache slot that takes it.

    Returns:
        Logits (batch, vocabulary) of the token after it, the new cache and the new `seen`.
    """
    seen = seen.at[:, slot].set(True)
    x = embed(weights["text"], spec.text, tokens[:, None], cache.keys[0].dtype)
    hidden, cache_ = decode_layers(
        weights["text"],
        spec.text,
        x,
        positions=position[:, None],
        mask=seen[:, None, :],
        path=text_path(spec),
        adapter=adapter,
        cache=cache,
        slot=slot,
    )
    assert cache_ is not None
    return logits(weights["text"], spec.text, hidden)[:, 0], cache_, seen


def begin(prefix: Prefix, constraint: Constraint | None, *, new: int, pad: int) -> Writing:
    """Returns the state of the loop before its first token.

    Args:
        prefix: From `prefill` with the same `new`.
        constraint: What may be written, or None.
        new: Size of the output.
        pad: Id of the token that fills rows.
    """
    batch = prefix.lengths.shape[0]
    return Writing(
        jnp.int32(0),
        prefix.first,
        prefix.cache,
        prefix.seen,
        jnp.zeros(batch, jnp.int32) if constraint is None else jnp.array(constraint.start, copy=True),
        jnp.zeros(batch, bool),
        Written(
            jnp.full((batch, new), pad, jnp.int32),
            jnp.zeros((batch, new), jnp.float32),
            jnp.zeros(batch, jnp.int32),
        ),
    )


@partial(jax.jit, static_argnames=("spec", "sampler", "ends", "pad"), donate_argnames=("writing",))
def go_on(
    weights: Tree,
    spec: ModelSpec,
    writing: Writing,
    lengths: Array,
    adapter: Adapter,
    keys: Array,
    limit: Array,
    until: Array,
    enough: Array,
    constraint: Constraint | None,
    *,
    sampler: Sampler,
    ends: tuple[int, ...],
    pad: int,
) -> Writing:
    """Writes tokens up to turn `until`, or until `enough` rows have ended.

    Args:
        weights, spec: The model.
        writing: From `begin`, or from this function; it is used up.
        lengths: (batch,) int32 of the prefix.
        adapter: Low-rank weights.
        keys: (batch,) random keys.
        limit: () or (batch,) int32, most tokens of a row, at most the size of the output.
        until: () int32.
        enough: () int32.
        constraint: What may be written, or None.
        sampler: How tokens are chosen.
        ends: Ids of the tokens that end an answer.
        pad: Id of the token that fills rows.
    """
    rows, new = writing.written.tokens.shape
    first_slot = writing.seen.shape[1] - new

    def pick(now: Writing) -> tuple[Array, Array, Array]:
        state, count = now.state, now.written.lengths
        open_logits = now.predicted
        if constraint is not None:
            open_logits = jnp.where(allowed(constraint, state, limit - count), now.predicted, FORBIDDEN)
            if sampler.temperature == 0:
                open_logits = likeliest_stretch(constraint, likeliest_kind(constraint, open_logits))
        token = choose(open_logits, sampler, keys, count)
        logprob = jnp.take_along_axis(jax.nn.log_softmax(now.predicted), token[:, None], axis=1)[:, 0]
        if constraint is not None:
            state = jnp.where(now.done, state, advance(constraint, state, token))
        return jnp.where(now.done, pad, token), jnp.where(now.done, 0.0, logprob), state

    def body(now: Writing) -> Writing:
        token, logprob, state = pick(now)
        count, done = now.written.lengths, now.done
        place = (jnp.arange(rows), jnp.where(done, new, count))  # `new` is beyond the output: nothing is written
        tokens = now.written.tokens.at[place].set(token, mode="drop")
        logprobs = now.written.logprobs.at[place].set(logprob, mode="drop")
        written = Written(tokens, logprobs, count + ~done)
        done = done | jnp.isin(token, jnp.array(ends)) | (written.lengths >= limit)
        slot = first_slot + now.turn % new
        predicted, cache, seen = step(weights, spec, adapter, now.cache, now.seen, token, lengths + count, slot)
        return Writing(now.turn + 1, predicted, cache, seen, state, done, written)

    return jax.lax.while_loop(lambda now: (now.turn < until) & (jnp.sum(now.done) < enough), body, writing)


@partial(jax.jit, donate_argnames=("writing",))
def seat(writing: Writing, prefix: Prefix, rows: Array, start: Array, pad: Array) -> Writing:
    """Gives rows of a loop that goes on to new requests.

    Args:
        writing: Where the loop stands; it is used up.
        prefix: From `prefill` with the same size of the output and of the prompts: a row a request.
        rows: (n,) int32, the row that each takes; one that stands twice takes the same request twice.
        start: (n,) int32, the state in which its grammar begins.
        pad: () int32, the token that fills rows.
    """

    def put(old: Array, new: Array) -> Array:
        return old.at[rows].set(new)

    blank = Written(pad, jnp.float32(0), jnp.int32(0))
    return Writing(
        writing.turn,
        put(writing.predicted, prefix.first),
        jax.tree.map(put, writing.cache, prefix.cache),
        put(writing.seen, prefix.seen),
        put(writing.state, start),
        writing.done.at[rows].set(False),
        jax.tree.map(put, writing.written, blank),
    )


@partial(jax.jit, static_argnames=("spec", "sampler", "new", "ends", "pad"))
def write(
    weights: Tree,
    spec: ModelSpec,
    prefix: Prefix,
    adapter: Adapter,
    keys: Array,
    limit: Array,
    constraint: Constraint | None,
    *,
    sampler: Sampler,
    new: int,
    ends: tuple[int, ...],
    pad: int,
) -> Written:
    """Writes tokens until every row has ended or `limit` is reached.

    Args:
        weights, spec: The model.
        prefix: From `prefill` with the same `new`.
        adapter: Low-rank weights.
        keys: (batch,) random keys.
        limit: () or (batch,) int32, at most `new`.
        constraint: What may be written, or None.
        sampler: How tokens are chosen.
        new: Size of the output.
        ends: Ids of the tokens that end an answer.
        pad: Id of the token that fills rows.
    """
    return go_on(
        weights,
        spec,
        begin(prefix, constraint, new=new, pad=pad),
        prefix.lengths,
        adapter,
        keys,
        limit,
        jnp.max(limit),
        jnp.int32(len(prefix.lengths)),
        constraint,
        sampler=sampler,
        ends=ends,
        pad=pad,
    ).written
