"""Attention of all tokens to all, where there is one in one kernel of cuDNN, which keeps no scores of all pairs."""

import os

import jax
import jax.numpy as jnp

from mmtune.models.forward import wide
from mmtune.models.linear import Array
from mmtune.models.recomputed import softmax

SWITCH = "MMTUNE_FUSED"

_OLDEST = 8.0  # Ampere
_WIDEST, _MULTIPLE = 128, 8


def attend_all(query: Array, key: Array, value: Array) -> Array:
    """Returns attention without a mask, with a float32 softmax, scaled by the root of the head's width.

    Args:
        query, key, value: (batch, length, heads, head_dim).

    Returns:
        (batch, length, heads, head_dim).
    """
    width = query.shape[-1]
    if has_kernel(nvidia_capability(), query.dtype, width):
        return jax.nn.dot_product_attention(query, key, value, scale=width**-0.5, implementation="cudnn")
    scores = jnp.einsum("bqnh,bknh->bnqk", query, key) * width**-0.5
    attention = softmax(scores.astype(wide(query.dtype))).astype(query.dtype)
    return jnp.einsum("bnqk,bknh->bqnh", attention, value)


def has_kernel(capability: str, dtype: jnp.dtype, width: int) -> bool:
    """Returns whether cuDNN has a kernel for such attention; MMTUNE_FUSED=0 says no.

    Args:
        capability: Of the device, such as "9.0"; "" where it is no GPU of Nvidia's.
        dtype: Of queries, keys and values.
        width: Of a head.
    """
    if not capability or os.environ.get(SWITCH) == "0":
        return False
    narrow = dtype in (jnp.bfloat16, jnp.float16)
    return narrow and float(capability) >= _OLDEST and width <= _WIDEST and width % _MULTIPLE == 0


def nvidia_capability() -> str:
    """Returns the compute capability of the default devices, "" where they are none of CUDA's."""
    if jax.default_backend() != "gpu":
        return ""
    capability = str(getattr(jax.local_devices()[0], "compute_capability", ""))
    return capability if capability.replace(".", "", 1).isdigit() else ""  # those of AMD are names
