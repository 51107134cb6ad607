"""From a batch of rows to logits at the target positions: what training and scoring share."""

import jax
import jax.numpy as jnp

from mmtune.models.forward import decode_layers, embed, logits
from mmtune.models.linear import NO_ADAPTER, Adapter, Array
from mmtune.models.modules import text_path
from mmtune.models.spec import ModelSpec
from mmtune.models.vision import encode_images
from mmtune.models.weights import Tree


def segment_mask(segments: Array, image_tokens: int, bidirectional_prefix: bool) -> Array:
    """Returns what each token may see.

    Args:
        segments: (batch, text) int32: 0 prefix, 1, 2, ... suffixes, -1 padding.
        image_tokens: Number of image tokens before the text; they belong to the prefix.
        bidirectional_prefix: Whether the prefix sees itself in full or causally.

    Returns:
        (batch, image + text, image + text) bool.
    """
    segments = jnp.pad(segments, ((0, 0), (image_tokens, 0)))
    query, key = segments[:, :, None], segments[:, None, :]
    order = jnp.arange(segments.shape[1])
    earlier = order[None, :] <= order[:, None]
    prefix = (key == 0) & ((query != 0) | bidirectional_prefix | earlier)
    own = (key > 0) & (key == query) & earlier
    return prefix | own


def image_features(
    weights: Tree, spec: ModelSpec, images: Array, adapter: Adapter, dtype: jnp.dtype, rematerialise: bool = False
) -> Array:
    """Returns (batch, tokens, hidden) image tokens of a model that has a vision tower, none for images of no pixels."""
    assert spec.vision is not None
    if images.size == 0:
        return jnp.zeros((images.shape[0], 0, spec.text.hidden_dim), dtype)
    return encode_images(weights["vision"], spec.vision, images, adapter, dtype, rematerialise)


def target_logits(
    weights: Tree,
    spec: ModelSpec,
    inputs: dict[str, Array],
    adapter: Adapter = NO_ADAPTER,
    *,
    dtype: jnp.dtype = jnp.float32,
    freeze_vision: bool = False,
    rematerialise: str = "none",
) -> Array:
    """Returns float32 logits (batch, n, vocabulary) at the target positions of a batch.

    Args:
        weights: `model_variables` as arrays.
        spec: The model's description.
        inputs: As `mmtune.data.batch.collate` returns them.
        adapter: Low-rank weights.
        dtype: Dtype of activations and products; norms, softmax and logits are float32.
        freeze_vision: Whether to cut the gradient before the vision tower.
        rematerialise: What the backward pass recomputes: "none", "dots", "full".
    """
    features = None
    if spec.vision is not None:
        features = image_features(weights, spec, inputs["images"], adapter, dtype, rematerialise == "full")
        if freeze_vision:
            features = jax.lax.stop_gradient(features)
    hidden = hidden_after(weights, spec, features, inputs, adapter, dtype=dtype, rematerialise=rematerialise)
    return logits(weights["text"], spec.text, hidden)


def hidden_after(
    weights: Tree,
    spec: ModelSpec,
    features: Array | None,
    inputs: dict[str, Array],
    adapter: Adapter = NO_ADAPTER,
    *,
    dtype: jnp.dtype = jnp.float32,
    rematerialise: str = "none",
) -> Array:
    """Returns (batch, n, hidden) after the final norm at the target positions, from image tokens that are known.

    Args:
        weights: `model_variables` as arrays.
        spec: The model's description.
        features: (batch, tokens, hidden) from `image_features`, or None for text models.
        inputs: As `mmtune.data.batch.collate` returns them; images are not looked at.
        adapter, dtype, rematerialise: As for `target_logits`.
    """
    x = embed(weights["text"], spec.text, inputs["token_ids"], dtype)
    positions = inputs["positions"]
    image_tokens = 0
    if features is not None:
        image_tokens = features.shape[1]
        x = jnp.concatenate([features, x], axis=1)
        image_positions = jnp.broadcast_to(jnp.arange(image_tokens), (x.shape[0], image_tokens))
        positions = jnp.concatenate([image_positions.astype(positions.dtype), positions], axis=1)
    mask = segment_mask(inputs["segments"], image_tokens, spec.text.bidirectional_prefix)
    hidden, _ = decode_layers(
        weights["text"],
        spec.text,
        x,
        positions=positions,
        mask=mask,
        path=text_path(spec),
        adapter=adapter,
        targets=inputs["targets"],
        rematerialise=rematerialise,
    )
    return hidden


def token_log_likelihood(predicted: Array, labels: Array) -> Array:
    """Returns the log-probability of each label, (batch, n), from logits (batch, n, vocabulary)."""
    picked = jnp.take_along_axis(predicted, labels[..., None], axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(predicted, axis=-1)
