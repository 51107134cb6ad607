"""Sums of a checkpoint's files: Orbax finds one that ends too early, but not one in which a byte has changed."""

import json
import zlib
from pathlib import Path

from mmtune.files import sync_all, write_json

SUMS = "sums.json"
_PIECE = 2**24


def write_sums(folder: Path) -> None:
    """Writes the size and the CRC-32 of every file of a finished checkpoint beside them, which are then on the disk."""
    sync_all(folder)
    write_json(folder / SUMS, {name: [size, _sum(folder / name)] for name, size in _files(folder).items()})


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint's files; None: nothing, or no sums were written (a kill came first)."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        sizes = _files(folder)
        for name, (size, digest) in sums.items():
            if name not in sizes:
                return f"{name} is missing"
            if sizes[name] != size:
                return f"{name} has {sizes[name]:,} bytes in place of {size:,}"
            if _sum(folder / name) != digest:
                return f"{name} has changed"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        return f"{SUMS}: {error}"
    return None


def _files(folder: Path) -> dict[str, int]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != SUMS)
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def _sum(file: Path) -> int:
    digest = 0
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest = zlib.crc32(piece, digest)
    return digest
