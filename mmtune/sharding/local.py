"""A model that is spread over several hosts, whole on the devices of each: for what each host does by itself."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from mmtune.distributed.processes import fetch_global_array
from mmtune.model import Model
from mmtune.sharding.layout import make_layouts
from mmtune.sharding.rules import RULES, WHOLE, find, fit, units_of


@contextmanager
def local_model(model: Model) -> Iterator[Model]:
    """Gives a view of the model whose weights lie on this process' own devices, divided over them along "model".

    All processes must ask. A later step does not change the view; in this block Keras distributes over these devices.
    """
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    sizes = {"data": 1, "model": jax.local_device_count()}
    mesh = Mesh(np.array(jax.local_devices()).reshape(1, -1), ("data", "model"))

    def put(variable: Any) -> Any:
        rule = find(variable.path, RULES)
        axes = fit(rule.axes if rule else WHOLE, tuple(variable.shape), sizes, units_of(variable)).axes
        return jax.device_put(fetch_global_array(variable.value), NamedSharding(mesh, PartitionSpec(*axes)))

    everywhere = NamedSharding(mesh, PartitionSpec())
    weights = model.weights()
    adapter = jax.tree.map(
        lambda value: jax.device_put(fetch_global_array(value), everywhere) if isinstance(value, jax.Array) else value,
        weights.adapter,
    )
    held = replace(weights, tree=jax.tree.map(put, model.variables), adapter=adapter)
    view: Any = copy.copy(model)
    view.weights = lambda: held
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(make_layouts(sizes, jax.local_devices()))
    try:
        yield view
    finally:
        keras.distribution.set_distribution(before)
