"""Muon for every matrix of a transformer."""

from typing import Any

import keras


class Muon(keras.optimizers.Muon):
    """Keras' Muon (arXiv 2502.16982), for the kernels of attention too.

    Those have an axis for the heads beside the model's width, and Keras leaves whatever is no matrix to Adam. Here they
    are read as matrices from the width, their longest axis, to all heads together. Embeddings, norms, biases, the
    kernel that reads the picture's patches and the temporary head of dense supervision remain Adam's.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        if "dense_head" in variable.path:
            return True
        if len(variable.shape) == 3:
            return "attention" not in variable.path
        return super()._should_use_adamw(variable)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        if len(variable.shape) == 2:
            super()._muon_update_step(gradient, variable, lr, m)
            return
        ops = keras.ops
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        seen = ops.add(gradient, self.momentum * m) if self.nesterov else m
        width = max(range(3), key=lambda axis: variable.shape[axis])
        apart = ops.moveaxis(seen, width, 0)
        flat = self.zeropower_via_newtonschulz5(ops.reshape(apart, (variable.shape[width], -1)), self.ns_steps)
        update = ops.moveaxis(ops.reshape(self.lr_adjust(lr * flat), ops.shape(apart)), 0, width)
        self.assign_sub(variable, update)
