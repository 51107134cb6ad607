"""A lock on a run's folder: one process trains in it at a time.

The operating system holds the lock, so that it ends with its process however that ends; the file says whose it is.
"""

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmtune.errors import UsageError

LOCK = "train.lock"
"""The file's name in the run's folder; there while a process trains in it."""

_PATIENCE = 0.5
"""Seconds for which a lock is tried: `holder` takes it for a moment when it looks."""

_MISSES = 1000
"""How often a folder that is gone again is made anew."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def run_lock(folder: Path) -> Iterator[str | None]:
    """Holds the lock of a run's folder in this block.

    Args:
        folder: The run's folder. It is made; it is removed again where it stays empty.

    Yields:
        A sentence where the lock of a process that has died is taken over, else None.

    Raises:
        UsageError: When another process trains in the folder.
        OSError: When the folder cannot be written.
    """
    file = folder / LOCK
    descriptor, taken_over = _taken(file)
    try:
        yield taken_over
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # it is not empty, or a link
            folder.rmdir()


def holder(folder: Path) -> dict[str, Any] | None:
    """Returns {"pid", "host", "since"} of the process that trains in a folder, None where none does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        found = _read(descriptor)
        return found if error.errno not in _UNSUPPORTED or _is_alive(found) else None
    finally:
        os.close(descriptor)


def _taken(file: Path) -> tuple[int, str | None]:
    """Returns the locked file's descriptor, and a sentence where another process left the lock behind."""
    missed = 0
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            missed += 1
            if _is_no_folder(file.parent) or missed > _MISSES:
                raise
            continue  # a run that ended at once has just removed the folder
        try:
            before = _locked(descriptor, file)
            # Whoever held it may have removed the file between its opening and its lock.
            if _is_same(descriptor, file):
                mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(mine).encode(), 0)
                word = f"took over the run from {_named(before)}, which has ended" if before else None
                return descriptor, word
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_no_folder(path: Path) -> bool:
    """Whether something is there that is neither a folder nor a link to one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(mode) and not (stat.S_ISLNK(mode) and path.is_dir())


def _locked(descriptor: int, file: Path) -> dict[str, Any]:
    """Locks a file and returns what the one before wrote into it, if anything."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            supported = error.errno not in _UNSUPPORTED
            if supported and time.monotonic() < until:
                time.sleep(_PATIENCE / 10)
                continue
            if supported or _is_alive(_read(descriptor)):  # without locks, what is written must do
                raise _busy(file, _read(descriptor)) from error
        return _read(descriptor)


def _busy(file: Path, found: dict[str, Any]) -> UsageError:
    return UsageError(
        f"{file.parent}: {_named(found)} trains in this folder: wait until it ends, stop it, or choose another --out"
    )


def _named(found: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"])) if "since" in found else "?"
    return f"process {found.get('pid', '?')} on {found.get('host', '?')} (since {since})"


def _read(descriptor: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _is_alive(found: dict[str, Any]) -> bool:
    """Whether the process lives, as far as can be told: on another host it is taken to."""
    if not found or found.get("host") != socket.gethostname():
        return bool(found)
    try:
        os.kill(int(found["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except PermissionError:
        return True
    return int(found["pid"]) != os.getpid()
