"""Whether a run's folder is one that all processes see and can write to."""

import os
import secrets
import socket
import time
from pathlib import Path

from mmtune.distributed.processes import exchange, is_distributed, is_main_process
from mmtune.errors import UsageError

_SECONDS = 40.0  # NFS may show a list of a folder that is 30 seconds old
_PREFIX = ".seen-by-all-"


def check_shared_folder(folder: Path, seconds: float = _SECONDS) -> None:
    """Lets process 0 write a token into the run's folder, which the others look for; all must call this.

    Args:
        folder: The run's folder; at process 0 it exists.
        seconds: How long the token is looked for.

    Raises:
        UsageError: Where a process does not see the token, or cannot write beside it; in all processes the same.
    """
    if not is_distributed():
        return
    token = _PREFIX + secrets.token_hex(8)
    if is_main_process():
        (folder / token).touch()
    try:
        token = exchange("opened the run's folder", token)[0]
        problem = "" if is_main_process() else _problem(folder, token, seconds)
        report = {"problem": problem, "host": socket.gethostname(), "path": str(folder.absolute())}
        reports = exchange("looked at the run's folder", report)
    finally:
        if is_main_process():
            for file in folder.glob(f"{_PREFIX}*"):
                file.unlink(missing_ok=True)
    first = reports[0]
    for index, found in enumerate(reports):
        if found["problem"]:
            raise UsageError(
                f"{folder}: the run's folder must be one that all processes see and write to: process {index} on "
                f"{found['host']} {found['problem']} in {found['path']}, process 0 on {first['host']} writes to "
                f"{first['path']}: choose an --out on a file system that they share"
            )


def _problem(folder: Path, token: str, seconds: float) -> str:
    until = time.monotonic() + seconds
    while not _is_listed(folder, token):
        if time.monotonic() > until:
            return "does not find what process 0 wrote"
        time.sleep(0.2)
    own = folder / f"{token}-{os.getpid()}-{socket.gethostname()}"
    try:
        own.touch()
        own.unlink(missing_ok=True)
    except OSError as error:
        return f"cannot write ({error.strerror})"
    return ""


def _is_listed(folder: Path, token: str) -> bool:
    """Whether a file is in a folder, by the folder's list: a lookup that failed is remembered by some file systems."""
    try:
        return token in os.listdir(folder)
    except OSError:
        return False
