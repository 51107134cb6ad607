"""The weights of a model quantised, leaf by leaf: as they are read from a file, or from a model that is loaded."""

import math
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from mmtune.errors import ModelError, unknown_name
from mmtune.models.build import without_values
from mmtune.models.hf_names import links
from mmtune.models.modules import head_units, linear_kernels, matrix_shape, text_path
from mmtune.models.quantized import SCHEMES, Quantized, quantize, quantized_shapes, wide_array
from mmtune.models.safetensor_files import numpy_dtype
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree
from mmtune.sharding.rules import in_units, units_of

SCOPE = "quantized"


def check_scheme(scheme: str) -> None:
    """Raises a ModelError unless there is such a scheme."""
    if scheme not in SCHEMES:
        raise ModelError(unknown_name("quantisation", scheme, SCHEMES))


def quantized_tree(spec: ModelSpec, variables: Tree, scheme: str) -> Tree:
    """Returns a tree in which linear modules, embeddings and head are quantised, in variables without values.

    Args:
        spec: The model's description.
        variables: `model_variables`; the other leaves are taken over.
        scheme: "int8" or "int4".
    """
    kernels = linear_kernels(spec, variables)
    paths = {id(kernel): path for path, kernel in kernels.items()}
    text = variables["text"]
    tables = {id(text["embedding"]): "embedding"} | ({} if text["head"] is None else {id(text["head"]): "head"})

    def leaf(variable: Any) -> Any:
        shape = tuple(variable.shape)
        if (path := paths.get(id(variable))) is not None:
            with in_units(head_units(spec, path)):
                return _empty(path.replace(".", "/"), matrix_shape(spec, path, shape), scheme)
        if (name := tables.get(id(variable))) is not None:
            return _empty(f"{text_path(spec).replace('.', '/')}/{name}", shape, "int8", table=name == "embedding")
        return variable

    with without_values():
        return jax.tree.map(leaf, variables)


def members(leaf: Any) -> tuple[Any, ...]:
    """Returns the variables of a leaf: values and scale of a quantised one, else the leaf itself."""
    return (leaf.values, leaf.scale) if isinstance(leaf, Quantized) else (leaf,)


def encoded(leaf: Any, array: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns what the leaf's variables hold for an array: for all of it, or for a part along an axis.

    The axis is that of `Link.rows`: rows of a table, columns of anything else.
    """
    if not isinstance(leaf, Quantized):
        return (array,)
    is_table = tuple(leaf.scale.shape) == (leaf.shape[0], 1)
    return quantize(array, "int4" if leaf.values.dtype == "uint8" else "int8", is_table)


def fill(leaf: Any, array: np.ndarray) -> None:
    """Gives a leaf's variables their values."""
    for variable, value in zip(members(leaf), encoded(leaf, array), strict=True):
        variable.assign(jnp.asarray(value, variable.dtype))


def move(spec: ModelSpec, old: Tree, new: Tree) -> None:
    """Gives the variables of one tree the values of another, whichever of the two are quantised."""
    for source, target in zip(links(spec, old), links(spec, new), strict=True):
        fill(target.leaf, target.read(source.write(wide_array(source.leaf))))


def scheme_of(variables: Tree) -> str | None:
    """Returns the scheme by which a tree is quantised, None where it is not."""
    kernel = variables["text"]["layers"][0]["q_proj"]
    if not isinstance(kernel, Quantized):
        return None
    return "int4" if kernel.values.dtype == "uint8" else "int8"


def nbytes(variables: Tree) -> int:
    """Returns how many bytes the weights take."""
    return sum(math.prod(v.shape) * numpy_dtype(str(v.dtype)).itemsize for v in jax.tree.leaves(variables))


def _empty(path: str, shape: tuple[int, int], scheme: str, table: bool = False) -> Quantized:
    values, scale = quantized_shapes(shape, scheme, table)
    return Quantized(_variable(f"{path}/values", *values), _variable(f"{path}/scale", *scale), shape)


def _variable(path: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
    *scopes, name = path.split("/")
    with ExitStack() as stack:
        for scope in (SCOPE, *scopes):
            stack.enter_context(keras.name_scope(scope))
        variable = keras.Variable("zeros", shape=shape, dtype=dtype, trainable=False, name=name)
    units_of(variable)
    return variable
