"""Reading a data set that a stranger sent: nothing outside its own folder is opened, listed or looked for.

Annotation files name other files: pictures, lists, class names. In a confined data set a name that leads out of the
root, by an absolute path, by `..` or by a link, is refused. Readers open files with `open_file` and `read_text`, and
ask `is_inside` before they look at a path that an annotation file named. Pictures carry their root with them, as they
are opened later and in other threads and processes.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

OPTION = "confined"
"""The option of an address by which its data set is read under its own folder: `DATA?confined=1`."""

_ROOT: ContextVar[Path | None] = ContextVar("root of the data set that is being read", default=None)


class OutsideError(PermissionError):
    """A file lies outside the root of a confined data set."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "it leads out of the data set's folder, which is not allowed here")


@contextlib.contextmanager
def confined(root: Path | None) -> Iterator[None]:
    """Confines what is read in this context to a folder; None leaves it as it is.

    Args:
        root: The folder; links in its own path are resolved first.
    """
    token = _ROOT.set(_ROOT.get() if root is None else root.resolve())
    try:
        yield
    finally:
        _ROOT.reset(token)


def current_root() -> Path | None:
    """Returns the folder that reading is confined to, None where it is not."""
    return _ROOT.get()


def is_inside(path: Path, root: Path | None = None) -> bool:
    """Whether a path may be looked at: it lies in the root once `..` and links are resolved, or there is no root.

    Args:
        path: A file or folder, there or not.
        root: The root; None: that of the context.
    """
    root = root or current_root()
    return root is None or Path(os.path.realpath(path)).is_relative_to(root)


def open_file(file: Path, root: Path | None = None) -> BinaryIO:
    """Returns a file opened for reading bytes.

    Args:
        file: The file.
        root: As in `is_inside`.

    Raises:
        OutsideError: When it lies outside the root.
        OSError: When it cannot be opened.
    """
    if not is_inside(file, root):
        raise OutsideError
    return file.open("rb")


def read_bytes(file: Path) -> bytes:
    """Returns the content of a file; raises as `open_file` does."""
    with open_file(file) as stream:
        return stream.read()


def read_text(file: Path, errors: str = "strict") -> str:
    """Returns the content of a UTF-8 file without its byte order mark, with newlines as `Path.read_text` gives them.

    Args:
        file: The file.
        errors: What becomes of bytes that are no UTF-8, as in `bytes.decode`.

    Raises:
        OutsideError: When it lies outside the root.
        OSError: When it cannot be opened.
        UnicodeDecodeError: When `errors` is strict and a byte is no UTF-8.
    """
    return read_bytes(file).decode("utf-8-sig", errors).replace("\r\n", "\n").replace("\r", "\n")
