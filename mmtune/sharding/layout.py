"""Keras' distribution by the rules: the layout of each weight by its path and its shape."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from mmtune.errors import UsageError
from mmtune.sharding.rules import RULES, WHOLE, Axes, Fitted, Rule, find, fit, units_of

_log = logging.getLogger(__name__)


class Layouts(keras.distribution.ModelParallel):
    """`keras.distribution.ModelParallel` that asks rules in place of Keras' map.

    The map divides by the path alone and fails on what it cannot divide (one key and value head over two devices); here
    such an axis is left whole. What was decided is kept for the table and its checks.

    Args:
        mesh: The devices, with an axis named "data".
        rules: Of the user, before ours: pattern of the whole path -> a mesh axis or None for each axis of the weight,
            or () for a whole one.

    Attributes:
        sizes: Devices along each axis of the mesh.
        decided: Of each weight that was laid out, by path: what divides it, and along which of the mesh's axes it was
            left whole against its rule.
        unmatched: Paths that no rule matches; these weights are whole.
    """

    def __init__(self, mesh: keras.distribution.DeviceMesh, rules: Mapping[str, Axes] | None = None):
        super().__init__(layout_map=keras.distribution.LayoutMap(mesh), batch_dim_name="data", auto_shard_dataset=False)
        self.sizes: dict[str, int] = dict(zip(mesh.axis_names, mesh.shape, strict=True))
        self.decided: dict[str, Fitted] = {}
        self.unmatched: set[str] = set()
        self._own = tuple(Rule(pattern, tuple(axes)) for pattern, axes in (rules or {}).items())
        self._used: set[str] = set()
        for rule in self._own:
            if unknown := {axis for axis in rule.axes if axis} - set(self.sizes):
                raise UsageError(f"layout {rule.pattern!r}: the mesh has no axis {', '.join(sorted(unknown))!r}")

    def get_variable_layout(self, variable: Any) -> Any:
        """Returns where a variable lies: where Keras put it already (a slot of an optimizer), else by the rules."""
        if getattr(variable, "_layout", None) is not None:
            return variable._layout
        rule = find(variable.path, (*self._own, *RULES))
        if rule is None and variable.shape:
            self.unmatched.add(variable.path)
        try:
            fitted = fit(rule.axes if rule else WHOLE, tuple(variable.shape), self.sizes, units_of(variable))
        except ValueError as error:
            raise UsageError(f"layout {rule.pattern if rule else ''!r}, weight {variable.path}: {error}") from error
        if rule is not None:
            self._used.add(rule.pattern)
        self.decided[variable.path] = fitted
        return keras.distribution.TensorLayout(fitted.axes, self.device_mesh)

    @property
    def unused(self) -> list[str]:
        """The user's patterns that matched no weight."""
        return [rule.pattern for rule in self._own if rule.pattern not in self._used]


def make_layouts(sizes: Mapping[str, int], devices: Iterable[Any], rules: Mapping[str, Axes] | None = None) -> Layouts:
    """Returns layouts on a mesh of the given devices.

    Args:
        sizes: Devices along each axis, "data" among them.
        devices: JAX devices, as many as the product of the sizes.
        rules: As of `Layouts`.
    """
    return Layouts(keras.distribution.DeviceMesh(tuple(sizes.values()), list(sizes), list(devices)), rules)
