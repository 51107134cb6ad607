"""Digests of the files that a model is loaded from, so that processes on several hosts can compare them."""

import zlib
from pathlib import Path

from mmtune.models.folder_files import ADAPTER_CONFIG, FETCHED
from mmtune.models.hub import SCHEME, fetch
from mmtune.models.peft_files import base_name
from mmtune.run_files import RECIPE

_WHOLE = 64 * 2**20  # bytes of which every one counts
_BLOCK, _BLOCKS = 2**16, 64


def file_digests(name: str, base: str | None = None) -> dict[str, str]:
    """Returns size and checksum of the files that `load` would read, those of a base model among them.

    Of a large file blocks of 64 KiB, spread evenly, are read. Presets that KerasHub downloads are not looked at: their
    addresses have a version.

    Args:
        name: As for `load`.
        base: As for `load`.
    """
    from mmtune.recipe import read_recipe

    found: dict[str, str] = {}
    folders: set[Path] = set()
    while name:
        folder = fetch(name) if name.startswith(SCHEME) else Path(name)
        if folder.resolve() in folders:
            break
        folders.add(folder.resolve())
        if folder.is_file():
            found[name] = _digest(folder)
        files = {file for pattern in FETCHED for file in folder.glob(pattern) if file.is_file()}
        found |= {f"{name}: {file.relative_to(folder)}": _digest(file) for file in sorted(files)}
        if (folder / RECIPE).is_file():
            run = read_recipe(folder / RECIPE, {}, [])
            name, base = (run.model, run.base) if base is None else (base, None)
        elif (folder / ADAPTER_CONFIG).is_file():
            name, base = base or base_name(folder) or "", None
        else:
            break
    return found


def _digest(file: Path) -> str:
    size = file.stat().st_size
    checksum = 0
    with file.open("rb") as content:
        if size <= _WHOLE:
            while block := content.read(2**20):
                checksum = zlib.crc32(block, checksum)
        else:
            for place in range(_BLOCKS):
                content.seek((size - _BLOCK) * place // (_BLOCKS - 1))
                checksum = zlib.crc32(content.read(_BLOCK), checksum)
    return f"{size:,} bytes, checksum {checksum:08x}"
