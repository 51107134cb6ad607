"""Which JSON files at a path are COCO annotations, and which splits they are."""

import re
from pathlib import Path

from mmtune.data.json_files import json_ends
from mmtune.errors import DataError, unknown_name


def chosen_file(files: dict[str, Path], split: str, path: Path) -> Path:
    """Returns the file of a split: by its name, its stem, or its name without the year (`val` for `val2017`).

    Args:
        files: As `coco_files` gives them.
        split: What the user asked for.
        path: What the user pointed at, for the message.

    Raises:
        DataError: When no file, or more than one, goes by that name.
    """
    if split in files:
        return files[split]
    alike = [file for name, file in files.items() if split in (file.stem, re.sub(r"[ _-]?\d+$", "", name))]
    if len(alike) != 1:
        raise DataError(f"{path}: {unknown_name('split', split, files)}")
    return alike[0]


def coco_files(path: Path) -> dict[str, Path]:
    """Returns the annotation files at a path by the name of their split, in alphabetical order."""
    if path.is_file():
        return {"": path} if _looks_like(path) else {}
    found = [file for place in (path, path / "annotations", path / "Annotations") for file in place.glob("*.json")]
    found += path.glob("*/_annotations.coco.json")
    files = sorted({file.resolve(): file for file in found}.values())
    # The official archive keeps captions, key points and instances of the same pictures side by side.
    instances = [file for file in files if file.name.startswith("instances_")]
    named = {}
    for file in instances or files:
        if _looks_like(file):
            named[split_name(file)] = file
    return named


def split_name(file: Path) -> str:
    """Returns the split that an annotation file is: `val2017` for `instances_val2017.json`."""
    stem = file.stem.removeprefix("instances_")
    return file.parent.name if stem == "_annotations.coco" else stem


def _looks_like(file: Path) -> bool:
    """Whether a file has COCO's keys, judged by its beginning and end, as such files are large."""
    text = json_ends(file)
    return (
        text.startswith(b"{")
        and re.search(rb'"(images|annotations)"\s*:\s*\[', text) is not None
        and re.search(rb'"bbox"|"categories"\s*:\s*\[', text) is not None
    )
