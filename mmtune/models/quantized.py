"""Base weights in 8 or 4 bits, made wide where a product needs them: for adapters on models that else do not fit.

A matrix in 8 bits has one scale an output column; in 4 bits, two numbers a byte, one scale for 32 rows of a column. The
table of embeddings is in 8 bits either way, one scale a row. Quantised weights never train.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

SCHEMES = ("int8", "int4")
GROUP = 32


@partial(jax.tree_util.register_dataclass, data_fields=("values", "scale"), meta_fields=("shape",))
@dataclass(frozen=True)
class Quantized:
    """A matrix in few bits; its members are arrays, or the Keras variables that hold them.

    Attributes:
        values: (rows, columns) int8; in 4 bits (groups * GROUP / 2, columns) uint8, the lower half of a byte first.
        scale: In 8 bits float32, (1, columns), or (rows, 1) for a table; in 4 bits (groups, columns) bfloat16.
        shape: (rows, columns) of the matrix.
    """

    values: Any
    scale: Any
    shape: tuple[int, int]

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def dtype(self) -> Any:
        """That of the values."""
        return self.values.dtype


def quantized_shapes(shape: tuple[int, int], scheme: str, table: bool = False) -> tuple[Any, Any]:
    """Returns shape and dtype of the values and of the scale: ((shape, dtype), (shape, dtype)).

    Args:
        shape: (rows, columns) of the matrix.
        scheme: "int8" or "int4".
        table: Whether it is a table of rows, which takes 8 bits.
    """
    rows, columns = shape
    if table:
        return (shape, "int8"), ((rows, 1), "float32")
    if scheme == "int8":
        return (shape, "int8"), ((1, columns), "float32")
    groups = -(-rows // GROUP)
    return ((groups * GROUP // 2, columns), "uint8"), ((groups, columns), "bfloat16")


def quantize(matrix: np.ndarray, scheme: str, table: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns values and scale of a (rows, columns) matrix, see `Quantized`."""
    wide = np.asarray(matrix, np.float32)
    if table or scheme == "int8":
        scale = np.abs(wide).max(axis=1 if table else 0, keepdims=True) / 127
        return np.rint(wide / np.where(scale > 0, scale, 1)).astype(np.int8), scale
    rows, columns = wide.shape
    groups = -(-rows // GROUP)
    grouped = np.pad(wide, ((0, groups * GROUP - rows), (0, 0))).reshape(groups, GROUP, columns)
    # Of the numbers -8 to 7, the one without a partner stands for the largest weight, whatever its sign.
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    scale = (largest / -8).astype(ml_dtypes.bfloat16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    nibbles = (np.clip(np.rint(grouped / divisor[:, None]), -8, 7) + 8).astype(np.uint8).reshape(-1, 2, columns)
    return nibbles[:, 0] | nibbles[:, 1] << 4, scale


def dequantize(matrix: Quantized, dtype: Any = jnp.float32) -> jax.Array:
    """Returns the (rows, columns) matrix that is meant."""
    values, scale = matrix.values, matrix.scale
    if values.dtype == jnp.int8:
        return values.astype(dtype) * scale.astype(dtype)
    nibbles = jnp.stack([values & 15, values >> 4], axis=1).astype(dtype) - 8
    grouped = nibbles.reshape(scale.shape[0], GROUP, -1) * scale.astype(dtype)[:, None]
    return grouped.reshape(-1, values.shape[1])[: matrix.shape[0]]


def product(x: jax.Array, matrix: Quantized, dtype: Any = None) -> jax.Array:
    """Returns x @ matrix, (..., columns) for x (..., rows), in another dtype or x's.

    The wide matrix lives as long as the product: the backward pass makes it anew.
    """
    return _product(x, matrix, x.dtype if dtype is None else dtype)


@partial(jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable, static_argnums=2)
def _product(x: jax.Array, matrix: Quantized, dtype: Any) -> jax.Array:
    if matrix.values.dtype == jnp.int8 and matrix.scale.shape[0] == 1:
        out = jnp.matmul(x, matrix.values.astype(x.dtype), preferred_element_type=dtype)
        return out * matrix.scale.astype(dtype)
    return jnp.matmul(x, dequantize(matrix, x.dtype), preferred_element_type=dtype)


def table_rows(table: Any, ids: jax.Array, dtype: Any) -> jax.Array:
    """Returns rows of a table, quantised or not, (..., columns) for ids (...)."""
    if not isinstance(table, Quantized):
        return jnp.take(table, ids, axis=0).astype(dtype)
    rows = jnp.take(table.values, ids, axis=0).astype(dtype)
    return rows * jnp.take(table.scale, ids, axis=0).astype(dtype)


@partial(jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable, static_argnums=2)
def table_product(x: jax.Array, table: Quantized, dtype: Any) -> jax.Array:
    """Returns x @ table.T in another dtype, (..., rows) for x (..., columns)."""
    out = jnp.matmul(x, table.values.T.astype(x.dtype), preferred_element_type=dtype)
    return out * table.scale[:, 0].astype(dtype)


def wide_array(leaf: Any) -> np.ndarray:
    """Returns a leaf of a tree of weights as one array: a Keras variable or an array as it is, others made wide."""
    if not isinstance(leaf, Quantized):
        return np.asarray(leaf)
    return np.asarray(dequantize(Quantized(jnp.asarray(leaf.values), jnp.asarray(leaf.scale), leaf.shape)))
