"""Muon on kernels of attention against Keras' own on the matrices that they are."""

import keras
import numpy as np
import pytest

from mmtune.training.muon import Muon

SETTINGS = {"learning_rate": 0.1, "weight_decay": 0.0, "adam_weight_decay": 0.0, "adam_beta_2": 0.98}
# Kernel's shape, its width's axis, and a name as KerasHub has it.
KERNELS = (
    ((4, 16, 6), 1, "query"),
    ((1, 16, 6), 1, "key"),
    ((4, 6, 32), 2, "attention_output"),
    ((16, 3, 5), 0, "value"),
)


def as_matrix(array, width):
    """Returns the kernel from the width to all heads."""
    return np.moveaxis(array, width, 0).reshape(array.shape[width], -1)


def stepped(optimizer, variable, gradients):
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable.value)


@pytest.mark.parametrize(("shape", "width", "name"), KERNELS, ids=[name for *_, name in KERNELS])
def test_a_kernel_with_heads_moves_as_its_matrix_does(shape, width, name):
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(4, *shape)).astype(np.float32)
    kernel = keras.Variable(start, name=f"attention_{name}_kernel")
    matrix = keras.Variable(as_matrix(start, width), name="kernel")
    ours = stepped(Muon(**SETTINGS), kernel, gradients)
    theirs = stepped(keras.optimizers.Muon(**SETTINGS), matrix, [as_matrix(gradient, width) for gradient in gradients])
    np.testing.assert_allclose(as_matrix(ours, width), theirs, atol=1e-6)
    assert np.abs(ours - start).max() > 0.01


def test_what_is_no_matrix_stays_with_adam():
    optimizer = Muon(**SETTINGS)
    variables = [
        keras.Variable(np.zeros(shape, np.float32), name=name)
        for name, shape in {
            "attention_kernel": (2, 8, 4),
            "mlp_kernel": (8, 12),
            "embeddings": (20, 8),
            "scale": (8,),
            "conv_kernel": (3, 3, 3, 8),
            "lookup": (3, 8, 4),
            "dense_head_kernel": (8, 12),
        }.items()
    ]
    optimizer.build(variables)
    with_adam = [v.name for v, slot in zip(variables, optimizer.adam_velocities, strict=True) if slot is not None]
    assert with_adam == ["embeddings", "scale", "conv_kernel", "lookup", "dense_head_kernel"]
