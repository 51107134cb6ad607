"""Options of a task on the command line: `--set options.NAME=VALUE`, for commands that set nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.settings import assign, build
from mmtune.task import Task

_TABLE = "options"


def task_options(task: type[Task], assignments: Sequence[str], changes: Mapping[str, Any] | None = None) -> Any:
    """Returns a task's options, checked.

    Args:
        task: The adapter's class.
        assignments: Texts such as "options.case_sensitive=false"; `options.` may be left out.
        changes: Options that have a flag of their own; assignments go before them.

    Raises:
        RecipeError: With every unknown key and every wrong value.
    """
    start = f"{_TABLE}."
    named = [text if text.startswith(start) else f"{start}{text}" for text in assignments]
    return build(task.Options, assign({_TABLE: dict(changes or {})}, named)[_TABLE], start)
