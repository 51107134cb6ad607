"""JSON lines: one JSON object a line, with a fault for each line that holds anything else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError

_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value", type(None): "null"}
"""What a line may hold instead of an object."""


@dataclass(frozen=True)
class Row:
    """One line of a file, parsed.

    Attributes:
        number: Counted from 1.
        place: "file:line".
        values: The JSON object.
    """

    number: int
    place: str
    values: Mapping[str, Any]


def json_rows(path: Path, log: FaultLog) -> Iterator[Row]:
    """Yields the JSON objects of a file; blank lines are passed over, lines that hold anything else are logged.

    Raises:
        DataError: When the file cannot be opened, or when no line of it is a JSON object (with the first one's fault).
    """
    first: str | None = None
    usable = False
    try:
        stream = open_file(path)
    except OSError as error:
        raise DataError(f"{path}: expected a file of JSON lines that can be read: {error.strerror}") from error
    with stream:
        for index, line in enumerate(stream, 1):
            line = (line.removeprefix(b"\xef\xbb\xbf") if index == 1 else line).strip()
            if not line:
                continue
            place = f"{path}:{index}"
            values = parsed_line(line)
            if isinstance(values, dict):
                usable = True
                yield Row(index, place, values)
            else:
                problem = f"expected one JSON object a line, received {values}; the line is left out"
                first = first or f"{place}: {problem}, as is every other line"
                log.add(place, None, "malformed line", problem)
    if not usable:
        raise DataError(first or f"{path}: expected one JSON object a line, but the file is empty")


def parsed_line(line: bytes) -> dict[str, Any] | str:
    """Returns the JSON object of a line, or a description of what is there instead."""
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"bytes that are not UTF-8 (column {error.start + 1})"
    except json.JSONDecodeError as error:
        return f"{short(line.decode('utf-8'))} ({error.msg} at column {error.colno})"
    except (RecursionError, ValueError) as error:
        return f"a line that cannot be parsed ({error})"
    return values if isinstance(values, dict) else f"{short(values)}, {_KINDS[type(values)]}"


def short(value: object) -> str:
    """Returns a value as a message shows it: quoted, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
