"""Writing files so that nothing half-written is ever seen under its real name."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(file: Path) -> Iterator[Path]:
    """Yields a temporary path beside `file`; when the block ends without an error, it takes the real name.

    Args:
        file: The final path. Its folder is made.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(tensors: Mapping[str, Any], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes numpy arrays by name as safetensors.

    Raises:
        OSError: When the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic(file) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error


def json_text(value: Any, indent: int | None = None) -> str:
    """Returns JSON with readable characters, escaped only where a file name holds bytes that are no UTF-8."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def write_text(file: Path, text: str) -> None:
    """Writes a text as UTF-8."""
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: Path, value: Any) -> None:
    """Writes a value as indented JSON, with a newline at the end."""
    write_text(file, json_text(value, indent=2) + "\n")


def cache_folder(name: str) -> Path:
    """Returns a folder in the user's cache directory, which may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mmtune" / name
