"""Low-rank adapters: their weights, and merging them into a backbone and out of it again."""

from typing import Any

import jax
import keras
import numpy as np

from mmtune.distributed.processes import fetch_global_array
from mmtune.models.linear import Adapter
from mmtune.models.lora_config import LoRA
from mmtune.models.modules import head_units, linear_kernels, matrix_shape, select, to_kernel, to_matrix
from mmtune.models.quantized import wide_array
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree
from mmtune.sharding.rules import Units, in_units, units_of


class LoraWeights(keras.layers.Layer):
    """The trainable weights of an adapter, float32 whatever the base is kept in.

    For a module of (inputs, outputs) there are `a` (inputs, rank), shared by all heads, `b` (rank, outputs), and for
    DoRA `magnitude` (outputs,). `b` starts at zero and the magnitude at the base's column lengths, so a fresh adapter
    changes nothing.

    Args:
        config: The adapter's description.
        spec: The model's description.
        variables: The model's variables, `model_variables(backbone)`.
        seed: Seed of `a`, which is uniform within 1 / sqrt(inputs), as in PEFT.
    """

    def __init__(self, config: LoRA, spec: ModelSpec, variables: Tree, seed: int = 0):
        super().__init__(name="lora", dtype="float32")
        self.config = config
        self.spec = spec
        kernels = linear_kernels(spec, variables)
        self.table: dict[str, dict[str, Any]] = {}
        self.scales: dict[str, float] = {}
        for index, path in enumerate(select(list(kernels), config)):
            inputs, outputs = matrix_shape(spec, path, tuple(kernels[path].shape))
            limit, rank = inputs**-0.5, config.rank_of(path)
            uniform = keras.initializers.RandomUniform(-limit, limit, seed=seed + index)
            heads_in, heads_out = head_units(spec, path)
            weights = {
                "a": self._weight(path, "a", (inputs, rank), uniform, (heads_in, None)),
                "b": self._weight(path, "b", (rank, outputs), "zeros", (None, heads_out)),
            }
            if config.dora:
                matrix = to_matrix(spec, path, wide_array(kernels[path]))
                lengths = np.linalg.norm(np.asarray(fetch_global_array(matrix), "float32"), axis=0)
                weights["magnitude"] = self._weight(path, "magnitude", (outputs,), "ones", (heads_out,))
                weights["magnitude"].assign(lengths)
            self.table[path] = weights
            self.scales[path] = config.scale_of(path)
        self.built = True

    def _weight(self, path: str, name: str, shape: tuple[int, ...], initializer: Any, units: Units) -> Any:
        full_name = f"{path.replace('.', '_')}_{name}"
        with in_units(units):
            weight = self.add_weight(shape=shape, initializer=initializer, name=full_name, dtype="float32")
            units_of(weight)
            return weight

    @property
    def count(self) -> int:
        """Number of trainable parameters."""
        return sum(int(np.prod(v.shape)) for weights in self.table.values() for v in weights.values())

    @property
    def fresh(self) -> bool:
        """Whether it changes nothing, as when it was made."""
        return not any(np.any(fetch_global_array(weights["b"].value)) for weights in self.table.values())

    def adapter(self, key: jax.Array | None = None) -> Adapter:
        """Returns the current weights for a forward pass; with a key, dropout is on."""
        weights = {path: {name: v.value for name, v in named.items()} for path, named in self.table.items()}
        scales = {path: own for path, own in self.scales.items() if own != self.config.scale}
        return Adapter(weights, self.config.scale, self.config.dropout, key, scales)

    def merged(self, kernels: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns the adapted kernels, in the shapes and dtypes of the given ones, for the modules of this adapter."""
        out = {}
        for path, weights in self.table.items():
            kernel = np.asarray(kernels[path])
            full = np.asarray(to_matrix(self.spec, path, kernel), "float32")
            full = full + np.asarray(weights["a"]) @ np.asarray(weights["b"]) * np.float32(self.scales[path])
            if "magnitude" in weights:
                full = full * (np.asarray(weights["magnitude"]) / np.linalg.norm(full, axis=0))
            out[path] = to_kernel(self.spec, path, full, kernel.shape).astype(kernel.dtype)
        return out


class Merge:
    """An adapter merged into a backbone. `undo()` puts the very bytes of the base back.

    Args:
        lora: The adapter.
        variables: The model's variables, which are assigned.
    """

    def __init__(self, lora: LoraWeights, variables: Tree):
        kernels = linear_kernels(lora.spec, variables)
        self._before = {path: (kernels[path], np.asarray(kernels[path])) for path in lora.table}
        for path, kernel in lora.merged(kernels).items():
            kernels[path].assign(kernel)

    def undo(self) -> None:
        """Restores the base weights."""
        for variable, value in self._before.values():
            variable.assign(value)
