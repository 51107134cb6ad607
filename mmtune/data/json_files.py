"""Reading JSON files with messages that name the file and the line."""

import json
from pathlib import Path
from typing import Any

from mmtune.errors import DataError


def load_json(file: Path) -> Any:
    """Returns the content of a JSON file (UTF-8, with or without a byte order mark).

    Raises:
        DataError: When it cannot be read or is no JSON; the message has the line.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}:{error.lineno}: expected JSON, but at column {error.colno}: {error.msg}; "
            "repair the file or export it again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected JSON in UTF-8, but byte {error.start} is none; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
