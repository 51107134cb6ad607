"""Frozen dataclasses from tables of plain values (TOML, `--set key=value`), with all faults reported together."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mmtune.errors import MmtuneError, RecipeError, unknown_name

T = TypeVar("T")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}


def build(cls: type[T], table: Mapping[str, Any], prefix: str = "") -> T:
    """Returns an instance of a dataclass from a table.

    Args:
        cls: A dataclass of bool, int, float, str, tuples of these, dictionaries, dataclasses, any of them optional.
        table: Values by field name; missing ones keep their defaults.
        prefix: What stands before the keys in messages, such as "optimizer.".

    Raises:
        RecipeError: With every unknown key and every wrong value.
    """
    made = _build(cls, table, prefix)
    if problems := number_problems(made, prefix):
        raise RecipeError(problems)
    return made


def _build(cls: type[T], table: Mapping[str, Any], prefix: str) -> T:
    kinds = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            problems.append(unknown_name("key", f"{prefix}{key}", [f"{prefix}{name}" for name in names]))
            continue
        try:
            values[key] = _convert(value, kinds[key], f"{prefix}{key}")
        except RecipeError as error:
            problems += error.problems
    required = [
        field.name
        for field in dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    problems += [f"{prefix}{name}: is required" for name in required if name not in table]
    if problems:
        raise RecipeError(problems)
    try:
        return cls(**values)
    except RecipeError:
        raise
    except MmtuneError as error:
        raise RecipeError(
            [f"{prefix}{error}" if prefix and not str(error).startswith(prefix) else str(error)]
        ) from error


def number_problems(value: Any, key: str = "") -> list[str]:
    """Returns a sentence for each number that is NaN or infinite: comparisons with limits let them pass.

    Args:
        value: A dataclass, a table, a list, a number, or anything else, which has no numbers.
        key: Of the value; of a dataclass or a table what stands before its keys, such as "optimizer.".

    >>> number_problems({"alpha": float("nan"), "targets": [1.0]}, "lora.")
    ['lora.alpha: expected a finite number, got nan']
    """
    if isinstance(value, float):
        return [] if math.isfinite(value) else [f"{key.rstrip('.')}: expected a finite number, got {value}"]
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return [problem for name, part in value.items() for problem in number_problems(part, f"{key}{name}.")]
    if isinstance(value, list | tuple):
        parts = enumerate(value)
        return [problem for place, part in parts for problem in number_problems(part, f"{key.rstrip('.')}[{place}].")]
    return []


def choice_problems(options: Any, choices: Mapping[str, Sequence[Any]]) -> list[str]:
    """Returns a sentence for each of a task's options whose value is none that it may have.

    Args:
        options: A dataclass.
        choices: The allowed values by field name.
    """
    return [
        f"options.{name}: expected one of {', '.join(map(str, allowed))}, got {getattr(options, name)!r}"
        for name, allowed in choices.items()
        if getattr(options, name) not in allowed
    ]


def plain(settings: Any) -> dict[str, Any]:
    """Returns a dataclass as a table that `build` reads back; values of None are left out."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = plain(value)
        elif isinstance(value, tuple):
            table[field.name] = list(value)
        elif value is not None:
            table[field.name] = value
    return table


def flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Returns the values of a table and of those in it, by keys with dots.

    >>> flat({"seed": 1, "optimizer": {"clip": 0.5}})
    [('seed', 1), ('optimizer.clip', 0.5)]
    """
    pairs = []
    for key, value in table.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def assign(table: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Returns the table with `key=value` assignments made; dots lead into nested tables, values are read as TOML.

    >>> assign({"optimizer": {"clip": 1.0}}, ["optimizer.clip=0.5", "task=detection"])
    {'optimizer': {'clip': 0.5}, 'task': 'detection'}

    Raises:
        RecipeError: For an assignment without "=".
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            problems.append(f"--set {assignment}: expected key=value, such as optimizer.learning_rate=1e-4")
            continue
        *parents, last = path.strip().split(".")
        at: Any = result
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                problems.append(f"--set {assignment}: '{parent}' is a value, not a table")
                break
        else:
            at[last] = _value(text.strip())
    if problems:
        raise RecipeError(problems)
    return result


def _value(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(value: Any, kind: Any, key: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        if value is None:
            return None
        for option in options[:-1]:
            try:
                return _convert(value, option, key)
            except RecipeError:
                continue
        return _convert(value, options[-1], key)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise RecipeError([f"{key}: expected one of {', '.join(map(str, choices))}, got {value!r}"])
        return value
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise RecipeError([f"{key}: expected a table, got {value!r}"])
        return _build(kind, value, f"{key}.")  # pyright: ignore[reportArgumentType]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(key, tuple, value)
        arguments = typing.get_args(kind)
        kinds = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise RecipeError([f"{key}: expected {len(kinds)} values, got {value!r}"])
        return tuple(_convert(v, k, f"{key}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            raise RecipeError([f"{key}: expected a table, got {value!r}"])
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _wrong(key, kind, value) from error
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise _wrong(key, kind, value)
    return value


def _wrong(key: str, kind: type, value: Any) -> RecipeError:
    return RecipeError([f"{key}: expected {_WORDS.get(kind, kind.__name__)}, got {repr(value)[:200]}"])
