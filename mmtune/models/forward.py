"""The one forward pass over a backbone's weights: training, scoring and decoding all call it.

Masks and positions are arguments, never derived from token ids: mixed-length batches, several suffixes that share a
prefix and any attention scale are right by construction. KerasHub's own call is not used because it fixes the mask,
recomputes positions from array indices and scales Gemma 2 27B's queries by the wrong width.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmtune.errors import UsageError, unknown_name
from mmtune.models.linear import NO_ADAPTER, Adapter, Array, linear
from mmtune.models.placement import by_rows
from mmtune.models.quantized import Quantized, product, table_product, table_rows
from mmtune.models.recomputed import from_inputs, gelu_gated, silu_gated, softmax
from mmtune.models.spec import RopeSpec, TextSpec
from mmtune.models.weights import Tree

MASKED = -1e30

REMATERIALISE: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda layer: layer,
    "full": from_inputs,
    "dots": partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
}
"""What becomes of a layer, by the name of what its backward pass recomputes."""


class Cache(NamedTuple):
    """Keys and values of earlier tokens.

    Attributes:
        keys, values: For each layer (batch, slots, kv_heads, head_dim).
        positions: (batch, slots) int32, the position of the token in each slot.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    positions: Array


def empty_cache(spec: TextSpec, batch: int, slots: int, dtype: jnp.dtype) -> Cache:
    """Returns a cache of zeros with room for `slots` tokens."""
    shape = (batch, slots, spec.num_kv_heads, spec.head_dim)
    zeros = tuple(jnp.zeros(shape, dtype) for _ in range(spec.num_layers))
    return Cache(zeros, zeros, jnp.zeros((batch, slots), jnp.int32))


def embed(weights: Tree, spec: TextSpec, token_ids: Array, dtype: jnp.dtype) -> Array:
    """Returns scaled token embeddings, (..., hidden) for token ids (...)."""
    return table_rows(weights["embedding"], token_ids, dtype) * jnp.asarray(spec.embedding_scale, dtype)


def decode_layers(
    weights: Tree,
    spec: TextSpec,
    x: Array,
    *,
    positions: Array,
    mask: Array,
    path: str = "model",
    adapter: Adapter = NO_ADAPTER,
    targets: Array | None = None,
    cache: Cache | None = None,
    slot: Array | int = 0,
    rematerialise: str = "none",
) -> tuple[Array, Cache | None]:
    """Runs all decoder layers and the final norm.

    Args:
        weights: `text_variables` as arrays.
        spec: The decoder's description.
        x: (batch, length, hidden) embeddings, image features included.
        positions: (batch, length) int32, the position of each token.
        mask: (batch, length, keys) bool, what each query may see. Keys are the `length` tokens themselves, or with a
            cache all its slots.
        path: Module path of the decoder in the adapter's names ("model" or "model.language_model").
        adapter: Low-rank weights by module path.
        targets: (batch, n) int32 indices into `length`; only these positions are computed in the last layer and
            returned. None: all.
        cache: Keys and values so far; the new ones are written to the slots from `slot` on.
        slot: First slot to write, the same for all rows.
        rematerialise: "none", "dots" or "full": what the backward pass recomputes.

    Returns:
        Hidden states after the final norm (batch, n or length, hidden), and the new cache or None.
    """
    key_positions = positions
    if cache is not None:
        key_positions = jax.lax.dynamic_update_slice(cache.positions, positions, (0, slot))
    rotation = rotary(positions, spec)
    if rematerialise not in REMATERIALISE:
        raise UsageError(unknown_name("rematerialisation policy", rematerialise, REMATERIALISE))
    redone = REMATERIALISE[rematerialise]
    keys, values = [], []
    last = spec.num_layers - 1
    for index, layer in enumerate(weights["layers"]):
        window = spec.windows[index]
        seen = mask if window is None else mask & within(positions, key_positions, window)
        held = None if cache is None else (cache.keys[index], cache.values[index])
        step = redone(partial(_layer, spec=spec, path=f"{path}.layers.{index}"))
        x, held = step(by_rows(x), layer, adapter, rotation, seen, held, slot, targets if index == last else None)
        if held is not None:
            keys.append(held[0])
            values.append(held[1])
    hidden = rms_norm(x, weights["norm"], spec)
    return hidden, None if cache is None else Cache(tuple(keys), tuple(values), key_positions)


def logits(weights: Tree, spec: TextSpec, hidden: Array) -> Array:
    """Returns float32 vocabulary logits (..., vocabulary) of hidden states (..., hidden)."""
    head = weights["embedding"] if spec.tied else weights["head"]
    if isinstance(head, Quantized):
        out = (table_product if spec.tied else product)(hidden, head, wide(hidden.dtype))
    else:
        kernel = (head.T if spec.tied else head).astype(hidden.dtype)
        out = jnp.matmul(hidden, kernel, preferred_element_type=wide(hidden.dtype))
    return soft_cap(out, spec.final_softcap)


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the dtype of norms, softmax and logits: float32 for anything narrower."""
    return jnp.promote_types(dtype, jnp.float32)


def soft_cap(x: Array, cap: float | None) -> Array:
    """Returns `cap * tanh(x / cap)`, or x when there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def within(queries: Array, keys: Array, window: int) -> Array:
    """Returns (batch, queries, keys) bool: whether positions lie closer than `window`, in both directions."""
    return jnp.abs(queries[:, :, None] - keys[:, None, :]) < window


def rms_norm(x: Array, scale: Array, spec: TextSpec) -> Array:
    """Root-mean-square normalisation in float32, returned in x's dtype."""
    y = x.astype(wide(x.dtype))
    normal = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + spec.norm_epsilon)
    return (normal * (spec.norm_offset + scale.astype(y.dtype))).astype(x.dtype)


def rotary(positions: Array, spec: TextSpec) -> tuple[Array, Array]:
    """Returns cosine and sine tables (batch, length, head_dim / 2), float32, for split-halves rotation."""
    angles = (positions[..., None].astype(jnp.float32) / spec.rope.linear_factor) * _frequencies(
        spec.rope, spec.head_dim
    )
    return jnp.cos(angles), jnp.sin(angles)


def _frequencies(rope: RopeSpec, head_dim: int) -> Array:
    inverse = rope.theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    if rope.factor is None or rope.low_frequency is None or rope.high_frequency is None:
        return inverse
    # Llama 3.1: long wavelengths are stretched by the factor, short ones kept, those between interpolated.
    turns = (rope.pretraining_length or 8192) * inverse / (2 * jnp.pi)
    share = (turns - rope.low_frequency) / (rope.high_frequency - rope.low_frequency)
    share = jnp.clip(share, 0.0, 1.0)
    return inverse * (share + (1 - share) / rope.factor)


def _rotate(x: Array, rotation: tuple[Array, Array]) -> Array:
    cos, sin = (table[:, :, None, :].astype(x.dtype) for table in rotation)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _layer(
    x: Array,
    weights: Tree,
    adapter: Adapter,
    rotation: tuple[Array, Array],
    mask: Array,
    held: tuple[Array, Array] | None,
    slot: Array | int,
    targets: Array | None,
    *,
    spec: TextSpec,
    path: str,
) -> tuple[Array, tuple[Array, Array] | None]:
    """One decoder layer. With `targets`, queries, MLP and residual exist at those positions only."""

    def project(inputs: Array, name: str, module: str) -> Array:
        kernel = weights[name]
        if isinstance(kernel, Quantized):
            pass  # a matrix already
        elif name == "o_proj":
            kernel = kernel.reshape(-1, spec.hidden_dim)
        elif kernel.ndim == 3 and not spec.head_first:
            kernel = kernel.reshape(spec.hidden_dim, -1)
        return linear(inputs, kernel, f"{path}.{module}.{name}", adapter)

    normal = rms_norm(x, weights["attention_norm"], spec)
    key = _heads(project(normal, "k_proj", "self_attn"), spec.num_kv_heads)
    key = _rotate(key, rotation)
    value = _heads(project(normal, "v_proj", "self_attn"), spec.num_kv_heads)
    if held is not None:
        key, value = (
            jax.lax.dynamic_update_slice(old, new.astype(old.dtype), (0, slot, 0, 0))
            for old, new in zip(held, (key, value), strict=True)
        )
        held = (key, value)
    if targets is not None:
        x, normal, mask = _take(x, targets), _take(normal, targets), _take(mask, targets)
        rotation = (_take(rotation[0], targets), _take(rotation[1], targets))
    query = _rotate(_heads(project(normal, "q_proj", "self_attn"), spec.num_heads), rotation)
    attended = project(attend(query, key, value, mask, spec), "o_proj", "self_attn")
    if spec.post_norms:
        attended = rms_norm(attended, weights["post_attention_norm"], spec)
    x = x + attended
    normal = rms_norm(x, weights["mlp_norm"], spec)
    gate, up = project(normal, "gate_proj", "mlp"), project(normal, "up_proj", "mlp")
    gated = gelu_gated(gate, up) if spec.activation == "gelu" else silu_gated(gate, up)
    out = project(gated, "down_proj", "mlp")
    if spec.post_norms:
        out = rms_norm(out, weights["post_mlp_norm"], spec)
    return x + out, held


def attend(query: Array, key: Array, value: Array, mask: Array, spec: TextSpec) -> Array:
    """Grouped-query attention with a float32 softmax.

    Args:
        query: (batch, queries, heads, head_dim).
        key, value: (batch, keys, kv_heads, head_dim).
        mask: (batch, queries, keys) bool.
        spec: The decoder's description.

    Returns:
        (batch, queries, heads * head_dim).
    """
    batch, length, heads, width = query.shape
    groups = key.shape[2]
    query = query * jnp.asarray(spec.query_scale, query.dtype)
    if groups == 1:  # one KV head: two plain batched products without transposes
        scores = query.reshape(batch, length * heads, width) @ key[:, :, 0].swapaxes(1, 2)
    else:
        scores = jnp.einsum("bskgh,btkh->bskgt", query.reshape(batch, length, groups, -1, width), key)
    scores = soft_cap(scores.reshape(batch, length, heads, -1).astype(wide(scores.dtype)), spec.attention_softcap)
    weights = softmax(jnp.where(mask[:, :, None, :], scores, MASKED)).astype(value.dtype)
    if groups == 1:
        return (weights.reshape(batch, length * heads, -1) @ value[:, :, 0]).reshape(batch, length, heads * width)
    weights = weights.reshape(batch, length, groups, heads // groups, -1)
    return jnp.einsum("bskgt,btkh->bskgh", weights, value).reshape(batch, length, heads * width)


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:-1], heads, -1)


def _take(x: Array, indices: Array) -> Array:
    return jnp.take_along_axis(x, indices[..., None], axis=1)
