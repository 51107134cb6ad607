"""Paths of the server as visitors see them: a data set, run or model by its name, any other file by its own name."""

import re
import threading
from collections.abc import Iterable
from pathlib import Path

_FOLDERS = re.compile(r"(?<![\w./\\-])/(?:[^\s/:;,'\"<>|]+/)+(?=[^\s/]|$)")
"""The folders of an absolute path; the paths of web addresses are none."""


class PathNames:
    """Names of folders, and texts in which they stand for the folders."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, folder: str | Path, name: str) -> None:
        """Lets a folder be called by a name; by "", what is in it is called by its path below it."""
        with self._lock:
            for path in {str(folder), str(Path(folder).absolute()), str(Path(folder).resolve())} - {".", "/"}:
                self._names[path] = name

    def remove(self, folder: str | Path) -> None:
        """Forgets a folder."""
        with self._lock:
            for path in (str(folder), str(Path(folder).absolute()), str(Path(folder).resolve())):
                self._names.pop(path, None)

    def hide(self, text: object) -> str:
        """Returns a text without the server's paths."""
        shown = str(text)
        with self._lock:
            names = sorted(self._names.items(), key=lambda item: -len(item[0]))
        for path, name in names:
            if path in shown:
                rest = r"(?![\w.-])" if name else r"(?:/|(?![\w.-]))"
                shown = re.sub(rf"(?<![\w./-]){re.escape(path)}{rest}", lambda _, name=name: name, shown)
        return _FOLDERS.sub("", shown)


def path_name(address: str, taken: tuple[str, ...] = ()) -> str:
    """Returns what a data set or model that the operator named is called: the last part of a path, with its options.

    Args:
        address: As `mmtune.read` or `mmtune.load` takes it. Addresses with a scheme stay as they are.
        taken: Names that are taken.
    """
    path, mark, options = address.partition("?")
    name = (
        address
        if "://" in path
        else f"{path.rstrip('/').rpartition('/')[2] or 'root'}{mark}{_FOLDERS.sub('', options)}"
    )
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def offered(addresses: Iterable[str]) -> dict[str, str]:
    """Returns the addresses of data sets by what they are called."""
    named: dict[str, str] = {}
    for address in dict.fromkeys(addresses):
        named[path_name(address, tuple(named))] = address
    return named
