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

from .path_names import PathNames, path_name

TINY = "tiny"
"""The embedded model, which no folder is called by."""


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
    """Models by name. Only models that the operator gave, or runs that the visitor opened, can be had.

    Args:
        places: As `mmtune.load` takes them, the first is the default.
        names: Is told what their folders are called.
        base: The model that runs and adapters among them are put on; None: those that they name.
        force_base: As for `mmtune.load`.
    """

    def __init__(
        self,
        places: Iterable[str],
        names: PathNames | None = None,
        base: str | None = None,
        force_base: bool = False,
    ):
        places = list(dict.fromkeys(places))
        self._given = {place: base for place in places if base is not None and takes_base(place)}
        self._force_base = force_base
        self._path_names = names or PathNames()
        self._places: dict[str, str] = {}
        self._openers: dict[str, set[str]] = {}
        self._loaded: dict[str, Model] = {}
        self._bases: dict[tuple[str, str], Model] = {}
        self._lock = threading.Lock()
        for place in places:
            self._named(place)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the operator's models, in their order."""
        return tuple(name for name in self._places if name not in self._openers)

    def seen(self, visitor: str) -> tuple[str, ...]:
        """Returns the names of the operator's models, then those of the runs that a visitor opened."""
        opened = [name for name, openers in self._openers.items() if visitor in openers]
        return (*self.names, *opened)

    def open(self, visitor: str, place: str) -> str:
        """Adds a run's model for a visitor and returns its name; it is loaded anew if it was there before."""
        with self._lock:
            self._loaded.pop(place, None)
            known = self.name_of(place)
            if known is not None and known not in self._openers:
                return known
            name = known or self._named(place)
            self._openers.setdefault(name, set()).add(visitor)
            return name

    def name_of(self, place: str | None) -> str | None:
        """Returns the name of what `mmtune.load` knows by another one, None where it is none of ours."""
        return next((name for name, other in self._places.items() if other == place), None)

    def checked(self, visitor: str, name: object) -> str:
        """Returns a name that is one of those that a visitor sees.

        Raises:
            UsageError: For any other.
        """
        seen = self.seen(visitor)
        if not isinstance(name, str) or name not in seen:
            raise UsageError(unknown_name("model", str(name)[:100], seen))
        return name

    def place(self, name: str) -> str:
        """Returns what `mmtune.load` calls the model of a name."""
        return self._places[name]

    def loaded(self, name: str) -> Model | None:
        """Returns a model that is in memory, None for any other."""
        return self._loaded.get(self._places.get(name, ""))

    def get(self, visitor: str, name: str) -> Model:
        """Returns a model.

        Raises:
            UsageError: When it is none that the visitor sees.
            ModelError: When it cannot be loaded.
        """
        with self._lock:
            return self._get(self.place(self.checked(visitor, name)))

    def _named(self, place: str) -> str:
        is_path = place != TINY and Path(place).exists()
        name = path_name(place, (TINY, *self._places)) if is_path else place
        self._places[name] = place
        if is_path:
            self._path_names.add(place, name)
        return name

    def _get(self, place: str) -> Model:
        if place not in self._loaded:
            given = self._given.get(place)
            recipe = adapted(place, given)
            bases = {}
            if recipe is not None and recipe.model != place:
                bases = {recipe.model: self._base(recipe)}
            self._loaded[place] = load(place, bases=bases, base=given, force_base=self._force_base)
        return self._loaded[place]

    def _base(self, recipe: Recipe) -> Model:
        """Returns the base of an adapter, with its weights as the adapter was trained on them."""
        if recipe.weights in (None, "float32"):
            return self._get(recipe.model)
        key = recipe.model, recipe.weights
        if key not in self._bases:
            self._bases[key] = load(recipe.model, precision=recipe.precision, weights=recipe.weights)
        return self._bases[key]
