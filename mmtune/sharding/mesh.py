"""A device mesh from a line such as "data=2,model=4", and where each weight lies on it.

Keras distributes: this module only says which axis of which weight is divided.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
    # Quantised weights are matrices under names of our own; scales of what is divided by rows stay whole.
    r"quantized/.*/embedding/(values|scale)": ("model", None),
    r"quantized/.*/(self_attn/q_proj|mlp/gate_proj|mlp/up_proj)/(values|scale)": (None, "model"),
    r"quantized/.*/(self_attn/o_proj|mlp/down_proj)/values": ("model", None),
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


def mesh_problems(text: str, batch_size: int) -> list[str]:
    """Returns what is wrong with a mesh, a sentence each."""
    try:
        sizes = parse_mesh(text)
    except UsageError as error:
        return [str(error)]
    if batch_size % sizes["data"]:
        return [f"mesh: a batch of {batch_size} rows cannot be divided over data={sizes['data']}"]
    return []


@contextmanager
def distributed(text: str | None) -> Iterator[None]:
    """Divides what is loaded and trained in this block over a mesh; None: leaves Keras' distribution as it is.

    Args:
        text: The mesh, or None.

    Raises:
        UsageError: When there are too few devices, or a weight cannot be divided.
    """
    if text is None:
        yield
        return
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(_model_parallel(text))
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "IndivisibleError":  # JAX's own, which has no public name
            raise
        raise UsageError(
            f"mesh: {text} cannot divide the weights of this model: {str(error).splitlines()[0]}"
        ) from error
    finally:
        keras.distribution.set_distribution(before)


def _model_parallel(text: str) -> Any:
    import jax
    import keras

    sizes = parse_mesh(text)
    needed, devices = math.prod(sizes.values()), jax.devices()
    if len(devices) < needed:
        raise UsageError(
            f"mesh: {text} needs {needed} devices, there are {len(devices)}; on a machine without accelerators, "
            f"simulate them with XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        )
    mesh = keras.distribution.DeviceMesh(tuple(sizes.values()), list(sizes), devices[:needed])
    layout = keras.distribution.LayoutMap(mesh)
    for pattern, axes in RULES.items():
        layout[pattern] = axes
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="data", auto_shard_dataset=False)
