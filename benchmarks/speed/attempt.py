"""A process that may fail or hang without ending the run."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt)\b.*", re.MULTILINE)
_TAIL = 2000


@dataclass(frozen=True)
class Attempt:
    """What came of a process.

    Attributes:
        line: The last line that it printed.
        failure: Why it gave none; "" where it did.
        errors: The end of what it wrote to standard error, where it failed.
    """

    line: str = ""
    failure: str = ""
    errors: str = ""


def attempt(words: Sequence[str], limit: float | None = None, more: Mapping[str, str] | None = None) -> Attempt:
    """Runs a process to its end.

    Args:
        words: Its command line.
        limit: Seconds after which it is killed with all that it started; None: it is waited for.
        more: Variables beyond the environment at hand.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        words, cwd=ROOT, env=os.environ | (more or {}), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    late = ""
    try:
        out, errors = process.communicate(timeout=limit)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as end:
        os.killpg(process.pid, signal.SIGKILL)
        out, errors = process.communicate()
        if isinstance(end, KeyboardInterrupt):
            raise
        late = f"not done within {limit:g} seconds"
    if process.returncode:
        return Attempt(failure=late or _reason(errors) or f"ended with {process.returncode}", errors=errors[-_TAIL:])
    return Attempt(out.strip().rpartition("\n")[2])


def _reason(errors: str) -> str:
    """Returns the last line that names an error: JAX writes more behind it. Without one the last line."""
    named = _ERROR.findall(errors)
    return named[-1] if named else errors.strip().rpartition("\n")[2]
