"""What commands write besides messages: JSON to a file or to standard output."""

import os
import sys
from pathlib import Path
from typing import Any

from mmtune import files
from mmtune.errors import UsageError
from mmtune.files import json_text


def check_outputs(*paths: str | Path | None) -> None:
    """Refuses files that cannot be written, before the work whose result they shall take.

    Raises:
        UsageError: When a file is a folder, or the nearest folder there is does not let us write.
    """
    for file in paths:
        if file is None or str(file) == "-":
            continue
        path = Path(file)
        if path.is_dir():
            raise UsageError(f"{file}: expected the name of a file, found a folder")
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"{file}: cannot be written: {nearest} is no folder that lets us write")


def printable(text: str) -> str:
    """Returns a text that any terminal takes: bytes of a file name that are no UTF-8 are escaped."""
    return text.encode(errors="backslashreplace").decode()


def write_json(value: Any, file: str | None) -> None:
    """Writes a value as JSON; "-" is standard output, None nowhere."""
    if file is None:
        return
    if file == "-":
        sys.stdout.write(json_text(value, indent=2) + "\n")
    else:
        files.write_json(Path(file), value)
