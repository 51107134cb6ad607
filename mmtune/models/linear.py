"""One linear projection, with or without a low-rank adapter on it: the only place where the two meet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mmtune.models.quantized import Quantized, dequantize, product

Array = jax.Array


@partial(jax.tree_util.register_dataclass, data_fields=("weights", "scale", "key", "scales"), meta_fields=("dropout",))
@dataclass(frozen=True)
class Adapter:
    """The adapter's weights during one pass; a tree of arrays, so that compiled functions take it as it is.

    Attributes:
        weights: Module path -> {"a": (inputs, rank), "b": (rank, outputs), and for DoRA "magnitude": (outputs,)}.
        scale: What the product `a @ b` is multiplied by (alpha / rank, or alpha / sqrt(rank) for rsLoRA).
        dropout: Rate on the adapter's input, applied only when `key` is given.
        key: Source of the dropout's randomness; None outside training.
        scales: What it is multiplied by in modules where that is another number.
    """

    weights: Mapping[str, Mapping[str, Array]]
    scale: float
    dropout: float = 0.0
    key: Array | None = None
    scales: Mapping[str, float] = field(default_factory=dict)


NO_ADAPTER = Adapter({}, 1.0)


def linear(x: Array, kernel: Array | Quantized, path: str, adapter: Adapter, bias: Array | None = None) -> Array:
    """Returns `x @ kernel + bias`, plus the adapter's share where it has one for this module.

    Args:
        x: (..., inputs).
        kernel: (inputs, outputs), quantised or not; or (heads, inputs, head_dim), which counts as (inputs, heads *
            head_dim).
        path: The module's path, as in PEFT's names without their "base_model.model." prefix.
        adapter: Adapter weights by path.
        bias: (outputs,) or None. DoRA's magnitude does not scale it, as in PEFT.

    Returns:
        (..., outputs) in x's dtype; the adapter is computed in its own (float32) and rounded once.
    """
    # Rows are one axis in the products: over two, XLA's CPU backend makes the kernel's gradient at half the speed.
    rows = x.reshape(-1, x.shape[-1])
    y = _product(rows, kernel)
    low_rank = adapter.weights.get(path)
    if low_rank is not None:
        y = _adapted(rows, y, kernel, path, low_rank, adapter)
    y = y if bias is None else y + bias.astype(x.dtype)
    return y.reshape(*x.shape[:-1], -1)


def _product(x: Array, kernel: Array | Quantized) -> Array:
    if isinstance(kernel, Quantized):
        return product(x, kernel)
    kernel = kernel.astype(x.dtype)
    if kernel.ndim == 2:
        return x @ kernel
    heads, _, width = kernel.shape
    return jnp.einsum("rd,ndh->rnh", x, kernel).reshape(-1, heads * width)


def _adapted(
    x: Array, y: Array, kernel: Array | Quantized, path: str, low_rank: Mapping[str, Array], adapter: Adapter
) -> Array:
    a, b, scale = low_rank["a"], low_rank["b"], adapter.scales.get(path, adapter.scale)
    inputs = x.astype(a.dtype)
    base = y
    if adapter.key is not None and adapter.dropout > 0:
        key = jax.random.fold_in(adapter.key, sorted(adapter.weights).index(path))
        keep = jax.random.bernoulli(key, 1 - adapter.dropout, inputs.shape)
        inputs = jnp.where(keep, inputs / (1 - adapter.dropout), 0)
        if "magnitude" in low_rank:
            base = _product(inputs.astype(x.dtype), kernel)
    delta = (inputs @ a) @ b * scale
    if "magnitude" in low_rank:
        # DoRA (arXiv 2402.09353): every output column of W + scale * A B is rescaled to a learned length; the length
        # itself takes no gradient (section 4.3 there).
        matrix = dequantize(kernel) if isinstance(kernel, Quantized) else as_matrix(kernel)
        full = matrix.astype(a.dtype) + a @ b * scale
        ratio = low_rank["magnitude"] / jax.lax.stop_gradient(jnp.linalg.norm(full, axis=0))
        return (y + (ratio - 1) * base.astype(a.dtype) + ratio * delta).astype(y.dtype)
    return (y + delta).astype(y.dtype)


def as_matrix(kernel: Any) -> Any:
    """Returns a kernel as (inputs, outputs): (heads, inputs, head_dim) becomes (inputs, heads * head_dim)."""
    if kernel.ndim == 2:
        return kernel
    heads, inputs, width = kernel.shape
    return kernel.transpose(1, 0, 2).reshape(inputs, heads * width)
