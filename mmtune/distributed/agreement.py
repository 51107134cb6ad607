"""What the processes of a run must have in common, compared before the first step."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import python_version_tuple
from typing import Any

from mmtune.distributed.processes import exchange, named
from mmtune.errors import UsageError
from mmtune.settings import flat

_PACKAGES = ("mmtune", "jax", "jaxlib", "keras", "keras-hub", "orbax-checkpoint", "numpy")
_LONGEST = 80
_MOST_LINES = 12

Statement = Mapping[str, str]
"""What a process says of itself: a key of the recipe, a version, a fingerprint, and its value."""


def versions() -> dict[str, str]:
    """Returns the versions of what computes, by "version of PACKAGE"."""
    found = {"version of python": ".".join(python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[f"version of {package}"] = version(package)
        except PackageNotFoundError:
            found[f"version of {package}"] = "none"
    return found


def stated(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns settings, which may be nested, as a statement."""
    return {key: repr(value) for key, value in flat(settings)}


def differences(statements: Sequence[Statement]) -> list[str]:
    """Returns where processes differ, a line each: the key, and the processes of each value.

    >>> differences([{"seed": "0"}, {"seed": "0"}, {"seed": "7"}])
    ['seed: 0 in processes 0, 1; 7 in process 2']
    """
    lines = []
    for key in dict.fromkeys(key for statement in statements for key in statement):
        holders: dict[str, list[int]] = defaultdict(list)
        for index, statement in enumerate(statements):
            holders[statement.get(key, "not given")].append(index)
        if len(holders) > 1:
            parts = [f"{_short(value)} in {_processes(indices)}" for value, indices in holders.items()]
            lines.append(f"{key}: {'; '.join(parts)}")
    return lines


def disagreement(lines: Sequence[str]) -> UsageError:
    """Returns the error of processes that differ."""
    shown = list(lines[:_MOST_LINES])
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    advice = "start all of them with the same command, files and versions"
    if len(shown) == 1:
        return UsageError(f"the processes differ in {shown[0]}: {advice}")
    return UsageError("\n".join([f"the processes differ: {advice}", *shown]))


def agree(what: str, statement: Statement) -> None:
    """Compares what all processes state; all must call this. Does nothing where there is one.

    Args:
        what: What they have done, such as "read the data": for the line that says who is waited for.
        statement: Of this process.

    Raises:
        UsageError: Where they differ, in all of them the same.
    """
    if lines := differences(exchange(what, dict(statement))):
        raise disagreement(lines)


def _processes(indices: Iterable[int]) -> str:
    return named(list(indices), 0).rpartition(" of ")[0]


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."
