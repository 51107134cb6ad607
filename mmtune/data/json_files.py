"""Reading JSON files with messages that name the file and the line."""

import json
from pathlib import Path
from typing import Any

from mmtune.data.confinement import open_file, read_text
from mmtune.errors import DataError


def load_json(file: Path) -> Any:
    """Returns the content of a JSON file (UTF-8, with or without a byte order mark).

    Raises:
        DataError: When it cannot be read or is no JSON; the message has the line.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}:{error.lineno}: expected JSON, but at column {error.colno}: {error.msg}; "
            "repair the file or export it again"
        ) from error
    except RecursionError as error:
        raise DataError(f"{file}: expected JSON, but its lists or objects lie too deep in each other") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected JSON in UTF-8, but byte {error.start} is none; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def json_ends(file: Path, head: int = 256 * 1024, tail: int = 64 * 1024) -> bytes:
    """Returns the beginning and the end of a file that may be very large, from which its form can be told.

    Args:
        file: The file; of one that cannot be read, nothing is returned.
        head, tail: Bytes of either; a byte order mark and white space before the content are left out.
    """
    try:
        with open_file(file) as stream:
            data = stream.read(head)
            if stream.seek(0, 2) > head:
                stream.seek(max(head, stream.tell() - tail))
                data += stream.read()
    except OSError:
        return b""
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()
