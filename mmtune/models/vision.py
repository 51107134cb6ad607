"""PaliGemma's vision tower as a pass of its own, so that adapters reach it and image bytes are normalised on device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.models.forward import wide
from mmtune.models.fused import attend_all
from mmtune.models.linear import NO_ADAPTER, Adapter, Array, linear
from mmtune.models.placement import by_rows
from mmtune.models.recomputed import from_inputs, gelu
from mmtune.models.spec import VisionSpec
from mmtune.models.weights import Tree

PATH = "model.vision_tower.encoder"
PATCHES = "model.vision_tower.embeddings.patch_embedding"
PROJECTOR = "model.multi_modal_projector.linear"


def encode_images(
    weights: Tree,
    spec: VisionSpec,
    images: Array,
    adapter: Adapter = NO_ADAPTER,
    dtype: jnp.dtype = jnp.float32,
    rematerialise: bool = False,
) -> Array:
    """Returns image tokens in the decoder's width, as they stand before the text embeddings.

    Args:
        weights: `vision_variables` as arrays.
        spec: The tower's description.
        images: (batch, size, size, 3), float as the tower takes it (-1..1 by the usual mean and deviation), or uint8,
            which is mapped to that.
        adapter: Low-rank weights by module path.
        dtype: Dtype of the computation.
        rematerialise: Whether the backward pass recomputes each block.

    Returns:
        (batch, tokens, decoder width) in `dtype`.
    """
    if images.dtype == jnp.uint8:
        mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
        images = images.astype(jnp.float32) / (255 * std) - mean / std
    x = _patches(images.astype(dtype), weights["patch"], spec.patch_size)
    x = x + weights["positions"].astype(dtype)
    for index, layer in enumerate(weights["layers"]):
        block = partial(_block, spec=spec, path=f"{PATH}.layers.{index}")
        x = (from_inputs(block) if rematerialise else block)(by_rows(x), layer, adapter)
    x = layer_norm(x, weights["norm"], spec.norm_epsilon)
    return _dense(x, weights["projector"], PROJECTOR, adapter)


def layer_norm(x: Array, weights: Tree, epsilon: float) -> Array:
    """Layer normalisation in float32, returned in x's dtype."""
    y = x.astype(wide(x.dtype))
    centred = y - jnp.mean(y, axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (normal * weights["scale"].astype(y.dtype) + weights["bias"].astype(y.dtype)).astype(x.dtype)


def _patches(images: Array, weights: Tree, size: int) -> Array:
    """The patch convolution as one product: its stride is its kernel."""
    batch, height, width, channels = images.shape
    rows, columns = height // size, width // size
    x = images[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, size * size * channels)
    kernel = weights["kernel"].reshape(size * size * channels, -1)
    return linear(x, kernel, PATCHES, NO_ADAPTER, weights["bias"])


def _block(x: Array, weights: Tree, adapter: Adapter, *, spec: VisionSpec, path: str) -> Array:
    batch, length, _ = x.shape
    normal = layer_norm(x, weights["attention_norm"], spec.norm_epsilon)
    query, key, value = (
        _dense(normal, weights[name], f"{path}.self_attn.{name}", adapter).reshape(batch, length, spec.num_heads, -1)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    attended = attend_all(query, key, value).reshape(batch, length, -1)
    x = x + _dense(attended, weights["out_proj"], f"{path}.self_attn.out_proj", adapter)
    normal = layer_norm(x, weights["mlp_norm"], spec.norm_epsilon)
    hidden = gelu(_dense(normal, weights["fc1"], f"{path}.mlp.fc1", adapter))
    return x + _dense(hidden, weights["fc2"], f"{path}.mlp.fc2", adapter)


def _dense(x: Array, weights: Tree, path: str, adapter: Adapter) -> Array:
    return linear(x, weights["kernel"], path, adapter, weights["bias"])
