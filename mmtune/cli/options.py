"""Options of a task on the command line: `--set options.NAME=VALUE`, for commands that set nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.settings import assign, build
from mmtune.task import Task

_TABLE = "options"


def option_changes(assignments: Sequence[str], flags: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the options that a command line sets, by name, not yet checked.

    Args:
        assignments: Texts such as "options.case_sensitive=false"; `options.` may be left out.
        flags: Options that have a flag of their own, by name; None where it was not given. Assignments go before them.

    Raises:
        RecipeError: For what is no assignment.
    """
    start = f"{_TABLE}."
    named = [text if text.startswith(start) else f"{start}{text}" for text in assignments]
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    return dict(assign({_TABLE: given}, named)[_TABLE])


def task_options(task: type[Task], assignments: Sequence[str], flags: Mapping[str, Any] | None = None) -> Any:
    """Returns a task's options, checked; for the arguments see `option_changes`.

    Raises:
        RecipeError: With every unknown key and every wrong value.
    """
    return build(task.Options, option_changes(assignments, flags), f"{_TABLE}.")
