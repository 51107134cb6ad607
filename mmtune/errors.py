"""The few errors that a user can meet. Each carries one sentence: what was expected, what arrived, what to do."""

import difflib
from collections.abc import Iterable


class MmtuneError(Exception):
    """Base of every error that is the input's fault, not ours: the command line prints its text and exits with 2."""


class UsageError(MmtuneError):
    """A name, an option or a combination of options that does not exist or makes no sense."""


class DataError(MmtuneError):
    """A data set, an annotation file or a picture that cannot be used."""


class RecipeError(MmtuneError):
    """One or more wrong keys or values in a training recipe, all reported together."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ModelError(MmtuneError):
    """A model, checkpoint or adapter that cannot be loaded, or that does not fit what is asked of it."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Returns a sentence for a name that is not among `known`, with a guess at what was meant.

    >>> unknown_name("task", "detecton", ["captioning", "detection"])
    "unknown task 'detecton': did you mean 'detection'? Known: captioning, detection"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f" did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{name}':{guess} Known: {', '.join(names) or 'none'}"
