"""The JSON files that say what a model is; their numbers are checked by whoever reads them."""

import json
from pathlib import Path
from typing import Any

from mmtune.errors import ModelError

_LONGEST = 10_000_000  # bytes; real ones have a few thousand


def read_object(file: Path) -> dict[str, Any]:
    """Returns the object that a file holds.

    Raises:
        ModelError: When there is none, or the file is missing or far too long.
    """
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file: a Hugging Face checkpoint needs one")
    if file.stat().st_size > _LONGEST:
        raise ModelError(f"{file}: {file.stat().st_size} bytes are no {file.name}")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON: {str(error)[:120]}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: expected an object")
    return content
