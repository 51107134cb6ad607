"""What commands write besides messages: JSON to a file or to standard output."""

import json
import sys
from pathlib import Path
from typing import Any

from mmtune.files import atomic


def write_json(value: Any, file: str | None) -> None:
    """Writes a value as JSON; "-" is standard output, None nowhere."""
    if file is None:
        return
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    with atomic(Path(file)) as temporary:
        temporary.write_text(text)
