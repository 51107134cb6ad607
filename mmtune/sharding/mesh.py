"""A device mesh from a line such as "data=2,model=4"."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmtune.errors import UsageError, unknown_name
from mmtune.sharding.rules import Axes

if TYPE_CHECKING:
    from mmtune.sharding.layout import Layouts

AXES = ("data", "model")


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

    Raises:
        UsageError: When there are too few devices.
    """
    if text is None:
        yield
        return
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution(text))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def distribution(mesh: str, rules: Mapping[str, Axes] | None = None) -> "Layouts":
    """Returns a distribution for `keras.distribution.set_distribution`, to be set before a model is loaded.

    >>> layouts = distribution("data=2,model=4", {r".*attention/query/kernel": ("model", None, None)})  # doctest: +SKIP

    Args:
        mesh: Devices along each axis, such as "data=2,model=4"; an axis left out has one.
        rules: Layouts before ours: pattern of a weight's whole path -> a mesh axis or None for each axis of the weight,
            or () for a weight that lies whole on every device.

    Raises:
        UsageError: When there are too few devices, or a rule names an axis that the mesh does not have.
    """
    import jax

    from mmtune.sharding.layout import make_layouts

    sizes = parse_mesh(mesh)
    needed, devices = math.prod(sizes.values()), jax.devices()
    if len(devices) < needed:
        raise UsageError(
            f"mesh: {mesh} needs {needed} devices, there are {len(devices)}; on a machine without accelerators, "
            f"simulate them with XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        )
    if jax.process_count() > 1 and len(devices) > needed:
        raise UsageError(
            f"mesh: {mesh} has {needed} devices, the {jax.process_count()} processes have {len(devices)}: "
            "all of them have to be in it"
        )
    return make_layouts(sizes, devices[:needed], rules)
