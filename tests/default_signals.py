"""Processes that take signals whatever the process that runs the tests ignores: it may be in the background."""

import subprocess
import sys
from typing import Any

_PROGRAM = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def start(words: list[str], **settings: Any) -> subprocess.Popen[str]:
    """Starts a process in which SIGINT and SIGHUP do what they do in a terminal, its output read as text.

    Args:
        words: The path of a program and its arguments.
        settings: Further arguments of `subprocess.Popen`.
    """
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, *words], text=True, **settings)
