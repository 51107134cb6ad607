"""The models of a server: each is loaded when it is first asked for, and adapters of one base share its weights."""

import threading
from collections.abc import Iterable
from pathlib import Path

from mmtune.errors import UsageError, unknown_name
from mmtune.model import Model
from mmtune.models.load import adapted, load, takes_base
from mmtune.recipe import Recipe, read_recipe
from mmtune.registry import task_class
from mmtune.run_files import RECIPE


def taught_task(names: Iterable[str]) -> tuple[str, list[str] | None] | None:
    """Returns the task of the first run among models, and the classes that it was taught; None without a run.

    The classes are None for a task without any. Nothing is loaded: the run's recipe says it.
    """
    for name in names:
        if (Path(name) / RECIPE).is_file():
            recipe = read_recipe(Path(name) / RECIPE, {}, [])
            return recipe.task, list(recipe.classes) if task_class(recipe.task).needs_classes else None
    return None


class Shelf:
    """Models by name. Only names that the operator gave, or that were trained here, can be had.

    Args:
        names: As `mmtune.load` takes them, the first is the default.
        base: The model that runs and adapters among them are put on; None: those that they name.
        force_base: As for `mmtune.load`.
    """

    def __init__(self, names: Iterable[str], base: str | None = None, force_base: bool = False):
        self._names = list(dict.fromkeys(names))
        self._given = {name: base for name in self._names if base is not None and takes_base(name)}
        self._force_base = force_base
        self._loaded: dict[str, Model] = {}
        self._bases: dict[tuple[str, str], Model] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they were added."""
        return tuple(self._names)

    def add(self, name: str) -> None:
        """Adds a model; it is loaded anew if it was there before."""
        with self._lock:
            self._loaded.pop(name, None)
            if name not in self._names:
                self._names.append(name)

    def checked(self, name: object) -> str:
        """Returns a name that is one of ours.

        Raises:
            UsageError: For any other.
        """
        if not isinstance(name, str) or name not in self._names:
            raise UsageError(unknown_name("model", str(name)[:100], self._names))
        return name

    def loaded(self, name: str) -> Model | None:
        """Returns a model that is in memory, None for any other."""
        return self._loaded.get(name)

    def get(self, name: str) -> Model:
        """Returns a model.

        Raises:
            UsageError: When it is none of ours.
            ModelError: When it cannot be loaded.
        """
        with self._lock:
            return self._get(self.checked(name))

    def _get(self, name: str) -> Model:
        if name not in self._loaded:
            given = self._given.get(name)
            recipe = adapted(name, given)
            bases = {}
            if recipe is not None and recipe.model != name:
                bases = {recipe.model: self._base(recipe)}
            self._loaded[name] = load(name, bases=bases, base=given, force_base=self._force_base)
        return self._loaded[name]

    def _base(self, recipe: Recipe) -> Model:
        """Returns the base of an adapter, with its weights as the adapter was trained on them."""
        if recipe.weights in (None, "float32"):
            return self._get(recipe.model)
        key = recipe.model, recipe.weights
        if key not in self._bases:
            self._bases[key] = load(recipe.model, precision=recipe.precision, weights=recipe.weights)
        return self._bases[key]
