"""Text files of transcriptions: their content, and which picture they belong to."""

from pathlib import Path

from mmtune.codecs.plain_text import plain_text
from mmtune.data.confinement import read_bytes
from mmtune.errors import DataError

TRUTH = ".gt.txt"
"""How the names of files with the right text end."""

FOUND = (".ocr.txt", ".pred.txt")
"""How the names of files with a text that was read end."""

_TEXT = ".txt"


def read_text(file: Path) -> str:
    """Returns the content of a text file in the form of `plain_text`: NFC, without the newline at its end.

    Raises:
        DataError: When it cannot be read, or is no UTF-8 (with or without a byte order mark).
    """
    return plain_text(decoded_text(file))


def decoded_text(file: Path) -> str:
    """Returns the content of a text file as it stands there; raises as `read_text` does."""
    try:
        data = read_bytes(file)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}:{line}: expected text in UTF-8, found other bytes; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file}: expected a text file, but it cannot be read: {error.strerror}") from error


def text_stem(name: str) -> str:
    """Returns the name of the picture, without its suffix, to which a text file belongs.

    >>> [text_stem(name) for name in ("page.1.gt.txt", "page.1.ocr.txt", "page.1.txt")]
    ['page.1', 'page.1', 'page.1']
    """
    ends = (TRUTH, *FOUND, _TEXT)
    return next((name[: -len(end)] for end in ends if name.lower().endswith(end)), name)
