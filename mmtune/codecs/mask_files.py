"""Files of mask codecs: the small one that is shipped, the public one, and a user's own."""

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from mmtune.codecs import mask_network as network
from mmtune.codecs.masks import MaskCodec
from mmtune.errors import ModelError
from mmtune.files import atomic

SMALL, PUBLIC = "small", "public"

# Where the public weights lie: https://huggingface.co/spaces/google/paligemma-hf
_SPACE, _FILE = "google/paligemma-hf", "vae-oid.npz"


def load_codec(name: str | Path | None = None) -> MaskCodec:
    """Returns a mask codec; the same one is read once in a process.

    Args:
        name: "small" or None for the one that is shipped, "public" for PaliGemma's (fetched on first use, then kept
            in the cache of huggingface_hub), or the path of an .npz file.

    Raises:
        ModelError: When the file cannot be had, read, or holds something else than a codec.
    """
    return _load(str(name or SMALL))


def save_codec(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes the arrays of a codec in 16-bit floating point, the same bytes for the same arrays."""
    halves = {name: np.asarray(arrays[name], np.float16) for name in network.names()}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **halves)  # pyright: ignore[reportArgumentType]


@cache
def _load(name: str) -> MaskCodec:
    if name == SMALL:
        with as_file(files("mmtune") / "assets" / "mask_codec.npz") as path:
            return _read(path, name)
    return _read(_fetched() if name == PUBLIC else Path(name), name)


def _read(path: Path, name: str) -> MaskCodec:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the .npz file of a mask codec")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path}: expected the .npz file of a mask codec, found no .npz file at all")
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in network.names() if key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{path}: the .npz file of a mask codec cannot be read: {error}") from error
    _check(arrays, path)
    return MaskCodec(arrays, name, _fingerprint(arrays))


def _check(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises a `ModelError` that names every array that lacks or has another shape than its neighbours say."""
    lacking = [name for name in network.names() if name not in arrays]
    if lacking:
        raise ModelError(f"{path}: no mask codec: {len(lacking)} arrays are missing: {', '.join(lacking)}")
    flat = [name for name in network.names() if name.endswith(".bias") and arrays[name].ndim != 1]
    flat += [network.CODEBOOK] * (arrays[network.CODEBOOK].ndim != 2)
    if flat:
        raise ModelError(f"{path}: no mask codec: wrong number of axes: {', '.join(_shaped(arrays, flat))}")
    expected = network.shapes(network.read_widths(arrays))
    wrong = [name for name, shape in expected.items() if arrays[name].shape != shape]
    if wrong:
        found = ", ".join(
            f"{text} instead of {expected[name]}" for name, text in zip(wrong, _shaped(arrays, wrong), strict=True)
        )
        raise ModelError(f"{path}: no mask codec: wrong shapes: {found}")


def _shaped(arrays: Mapping[str, np.ndarray], names: list[str]) -> list[str]:
    return [f"{name} {arrays[name].shape}" for name in names]


def _fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns twelve characters that stand for the numbers, whatever file and precision they came in."""
    digest = hashlib.sha256()
    for name in network.names():
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()[:12]


def _fetched() -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(_SPACE, _FILE, repo_type="space")
    if isinstance(cached, str):
        return Path(cached)
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the sentence below says it all
    try:
        return Path(hf_hub_download(repo_id=_SPACE, filename=_FILE, repo_type="space"))
    except Exception as error:  # huggingface_hub raises errors of several libraries
        raise ModelError(
            f"the public mask codec {_FILE} is neither in the cache nor could it be fetched from the Hugging Face "
            f"space {_SPACE} ({type(error).__name__}): connect to the network once, or give a file by --codec FILE"
        ) from error
    finally:
        logger.setLevel(level)
