"""A device mesh from a line such as "data=2,model=4", and where each weight lies on it.

Keras distributes: this module only says which axis of which weight is divided.
"""

import math
from typing import Any

from mmtune.errors import UsageError, unknown_name

AXES = ("data", "model")

# Full paths (Keras matches whole paths): KerasHub's names of Gemma, PaliGemma and Llama. Key and value heads are few,
# often one, and stay whole; so does the vision tower.
RULES: dict[str, tuple[str | None, ...]] = {
    r"(.*/)?token_embedding/embeddings": ("model", None),
    r"(.*/)?decoder_block_\d+/attention/query/kernel": ("model", None, None),
    r"(.*/)?decoder_block_\d+/attention/attention_output/kernel": ("model", None, None),
    r"(.*/)?decoder_block_\d+/ffw_gating(_2)?/kernel": (None, "model"),
    r"(.*/)?decoder_block_\d+/ffw_linear/kernel": ("model", None),
    r"(.*/)?transformer_layer_\d+/self_attention/query/kernel": (None, "model", None),
    r"(.*/)?transformer_layer_\d+/self_attention/attention_output/kernel": ("model", None, None),
    r"(.*/)?transformer_layer_\d+/feedforward_(intermediate|gate)_dense/kernel": (None, "model"),
    r"(.*/)?transformer_layer_\d+/feedforward_output_dense/kernel": ("model", None),
}


def parse_mesh(text: str) -> dict[str, int]:
    """Returns the size of each axis.

    >>> parse_mesh("data=2,model=4")
    {'data': 2, 'model': 4}

    Raises:
        UsageError: For unknown axes or sizes that are no whole numbers from 1.
    """
    sizes: dict[str, int] = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if name not in AXES:
            raise UsageError(f"mesh: {unknown_name('axis', name, AXES)}")
        if not size.isdigit() or int(size) < 1:
            raise UsageError(f"mesh: expected {name}=N with N from 1, such as data=2,model=4, got '{part.strip()}'")
        sizes[name] = int(size)
    return sizes


def distribute(text: str, batch_size: int) -> Any:
    """Sets Keras' distribution for what is loaded from now on, and returns it.

    Args:
        text: The mesh.
        batch_size: Rows a batch, which the data axis divides.

    Raises:
        UsageError: When there are too few devices, or the batch cannot be divided.
    """
    import jax
    import keras

    sizes = parse_mesh(text)
    needed, devices = math.prod(sizes.values()), jax.devices()
    if len(devices) < needed:
        raise UsageError(
            f"mesh: {text} needs {needed} devices, there are {len(devices)}; on a machine without accelerators, "
            f"simulate them with XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        )
    if batch_size % sizes["data"]:
        raise UsageError(f"mesh: a batch of {batch_size} rows cannot be divided over data={sizes['data']}")
    mesh = keras.distribution.DeviceMesh(tuple(sizes.values()), list(sizes), devices[:needed])
    layout = keras.distribution.LayoutMap(mesh)
    for pattern, axes in RULES.items():
        layout[pattern] = axes
    distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="data", auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    return distribution
