"""Writing files so that nothing half-written is ever seen under its real name."""

import errno
import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(file: Path) -> Iterator[Path]:
    """Yields a temporary path beside `file`; when the block ends without an error, it takes the real name.

    The content is on the disk before the name is, and the name before this returns: a power cut leaves the old file or
    the new one. The file has the mode that the umask gives, whatever its writer does (safetensors makes it 0600).

    Args:
        file: The final path. Its folder is made.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # what a killed process of this number left
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:
            temporary.chmod(stat.S_IMODE(mode))
        _sync(temporary)
        os.replace(temporary, file)
        _sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish(work: Path, out: Path) -> None:
    """Gives a file or folder that is complete its real name; its content is on the disk before.

    Args:
        work: The temporary path.
        out: The final path, in the same file system; it does not exist.
    """
    sync_all(work)
    work.rename(out)
    _sync(out.parent)


def sync_all(path: Path) -> None:
    """Waits until a file, or a folder with all that lies in it, is on the disk. Links are not followed."""
    for folder, _, names in os.walk(path):
        for file in (Path(folder, name) for name in names):
            if not file.is_symlink():
                _sync(file)
        _sync(Path(folder))
    if path.is_file():
        _sync(path)


def _sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(opened)


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
