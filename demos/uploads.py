"""Data sets that visitors send: a zip file or loose files become a folder of the server's own."""

import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmtune.errors import DataError

from .limits import LIMITS, Limits

_BLOCK = 2**20


def unpacked(files: Sequence[str | Path], folder: Path, limits: Limits = LIMITS) -> Path:
    """Lays uploaded files out in a folder that is new, and returns where the data set begins.

    Args:
        files: One zip file, or files that lie side by side.
        folder: Made; what is in a zip goes below it, whatever paths it names.
        limits: Most files and bytes.

    Returns:
        The folder, or the single one in it.

    Raises:
        DataError: When there is nothing, too much, or no zip.
    """
    files = [Path(file) for file in files]
    if not files:
        raise DataError("no files were given: choose a zip of the folder, or its files")
    folder.mkdir(parents=True)
    try:
        if len(files) == 1 and files[0].suffix.lower() == ".zip":
            _unzip(files[0], folder, limits)
        else:
            _copy(files, folder, limits)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return data_root(folder)


def data_root(folder: Path) -> Path:
    """Returns where an unpacked data set begins: the folder, or the single one in it."""
    inside = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"] if folder.is_dir() else []
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def safe_name(name: str) -> str:
    """Returns a name of letters, digits, dots, dashes and underscores for a folder; "data" where nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "data"


def _copy(files: Sequence[Path], folder: Path, limits: Limits) -> None:
    if len(files) > limits.files:
        raise DataError(f"{len(files):,} files were given, at most {limits.files:,} are taken")
    if sum(file.stat().st_size for file in files) > limits.unpacked:
        raise DataError(_too_much(limits))
    for file in files:
        shutil.copyfile(file, folder / PurePosixPath(file.name.replace("\\", "/")).name)


def _unzip(file: Path, folder: Path, limits: Limits) -> None:
    """Writes a zip's files, counting the bytes that really come out of it: what it states may be a lie."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > limits.files:
                raise DataError(f"{file.name} holds {len(members):,} files, at most {limits.files:,} are taken")
            total = 0
            for member in members:
                place = folder / _inside(member, file.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, place.open("wb") as out:
                    while block := source.read(_BLOCK):
                        total += len(block)
                        if total > limits.unpacked:
                            raise DataError(_too_much(limits))
                        out.write(block)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{file.name}: expected a zip file without a password, found a broken or other one") from error


def _inside(member: zipfile.ZipInfo, archive: str) -> Path:
    """Returns the path of a zip's file below the folder it goes to.

    Raises:
        DataError: When it leads out of it, or is a link.
    """
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member.filename or stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(
            f"{archive}: its file {member.filename[:80]!r} would lie outside the data set: make the zip anew"
        )
    return Path(*path.parts)


def _too_much(limits: Limits) -> str:
    return f"the data set has more than {limits.unpacked // 2**20:,} MB unpacked: give a part of it"
