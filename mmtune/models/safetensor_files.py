"""Tensors of a checkpoint by name: one safetensors file, or shards with their index, read one tensor at a time.

Read with plain file reads rather than mapped: pages of a mapped file count as this process's memory until the system
wants them back, and a checkpoint of many gigabytes would look as if it were held twice.
"""

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from mmtune.errors import ModelError
from mmtune.models.folder_files import INDEX, SINGLE
from mmtune.models.pickles import pickle_sentence

# The limit of the format's own reader; a larger number is a broken file, not a header.
_LONGEST_HEADER = 100_000_000
_LONGEST_INDEX = 100_000_000
# Name in the format -> numpy's (ml_dtypes' for those that numpy lacks).
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4,
    "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
# Bits of the exponent, all of which are set in infinities and NaN.
_EXPONENTS = {"F64": (np.uint64, 0x7FF0000000000000), "F32": (np.uint32, 0x7F800000)}
_EXPONENTS |= {"F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies.

    Attributes:
        file: The safetensors file.
        dtype: The format's name, such as "BF16".
        shape: Its shape.
        start: Its first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


class TensorFiles(Mapping[str, Place]):
    """The tensors of a folder or file by name.

    Args:
        path: A safetensors file; or a folder with `model.safetensors`, or shards and `model.safetensors.index.json`.

    Raises:
        ModelError: When a file is missing, cut, or no safetensors file; the message names it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._places = _places(path)

    def __getitem__(self, name: str) -> Place:
        return self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Returns a tensor of floating point numbers in the dtype that it has on disk.

        Args:
            name: The tensor's.
            rows: Which rows (of the first axis, one after the other) to read of a tensor with axes; all.

        Raises:
            ModelError: For other dtypes, and for tensors with infinite numbers or NaN.
        """
        place = self._places[name]
        if place.dtype not in _DTYPES:
            raise ModelError(
                f"{place.file}: the tensor {name} has dtype {place.dtype}, expected {', '.join(_DTYPES)}: a checkpoint "
                "that another library quantised cannot be read"
            )
        shape, start, size = place.shape, place.start, place.size
        if shape and rows != slice(None):
            first, last, _ = rows.indices(shape[0])
            a_row = size // max(1, shape[0])
            shape, start, size = (last - first, *shape[1:]), start + first * a_row, (last - first) * a_row
        raw = fresh((size,), np.uint8)
        with place.file.open("rb") as file:
            file.seek(start)
            if file.readinto(raw.data) != size:
                raise ModelError(f"{place.file}: the file ends within the tensor {name}: it was cut off")
        if _has_no_number(raw, place.dtype):
            raise ModelError(f"{place.file}: the tensor {name} holds NaN or infinite numbers")
        return raw.view(numpy_dtype(_DTYPES[place.dtype])).reshape(shape)

    @property
    def dtypes(self) -> set[str]:
        """The numpy names of the dtypes of all tensors of floating point numbers."""
        return {_DTYPES[place.dtype] for place in self._places.values() if place.dtype in _DTYPES}


def fresh(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an array in memory of its own, which goes back to the system with it.

    From the heap, what is large and short-lived would leave gaps between what stays, as large as half a model.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype, math.prod(shape)).reshape(shape)


def contiguous(array: np.ndarray) -> np.ndarray:
    """Returns an array that lies in memory in the order of its axes: itself, or a copy in memory of its own."""
    if array.flags.c_contiguous:
        return array
    copy = fresh(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


def numpy_dtype(name: str) -> np.dtype:
    """Returns numpy's dtype of a name, bfloat16 among them."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _has_no_number(raw: np.ndarray, dtype: str) -> bool:
    word, exponent = _EXPONENTS[dtype]
    words = raw.view(word)
    mask = word(exponent)
    return any(bool(((words[at : at + _CHUNK] & mask) == mask).any()) for at in range(0, len(words), _CHUNK))


def _places(path: Path) -> dict[str, Place]:
    if path.is_file():
        return read_header(path)
    if (path / INDEX).is_file():
        return _sharded(path)
    if (path / SINGLE).is_file():
        return read_header(path / SINGLE)
    for name in (INDEX, SINGLE):
        if (path / name).exists():
            raise ModelError(f"{path / name}: expected a file, found none that can be read")
    if (sentence := pickle_sentence(path, SINGLE)) is not None:
        raise ModelError(sentence)
    raise ModelError(
        f"{path}: expected {SINGLE}, or shards with {INDEX}, found neither; weights in pickles (pytorch_model.bin) "
        "must be converted to it"
    )


def _sharded(folder: Path) -> dict[str, Place]:
    index = folder / INDEX
    if index.stat().st_size > _LONGEST_INDEX:
        raise ModelError(f"{index}: {index.stat().st_size} bytes are no index of a checkpoint")
    content = _json(index.read_bytes(), index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise ModelError(f"{index}: expected weight_map, an object of file names by tensor")
    headers: dict[str, dict[str, Place]] = {}
    places: dict[str, Place] = {}
    for name in dict.fromkeys(names.values()):
        if name in ("", ".", "..") or len(name) > 200 or set(name) & set("/\\\0"):
            raise ModelError(f"{index}: expected names of files in the same folder, found {name[:200]!r}")
        if not (folder / name).is_file():
            raise ModelError(f"{index}: names the shard {name}, which is not there: download it again")
        headers[name] = read_header(folder / name)
        for tensor, place in headers[name].items():
            if tensor in places:
                raise ModelError(f"{folder / name}: holds the tensor {tensor}, and so does {places[tensor].file.name}")
            places[tensor] = place
    for tensor, name in names.items():
        if tensor not in headers[name]:
            raise ModelError(f"{folder / name}: expected the tensor {tensor}, which {INDEX} says it holds, found none")
    return places


def read_header(file: Path) -> dict[str, Place]:
    """Returns where each tensor of a safetensors file lies.

    Raises:
        ModelError: When the file is cut, or its header is none; no number in it is trusted before it is checked.
    """
    total = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            raise ModelError(f"{file}: no safetensors file: it has {total} bytes")
        (length,) = struct.unpack("<Q", start)
        if length > min(_LONGEST_HEADER, total - 8):
            raise ModelError(f"{file}: no safetensors file, or cut off: its header should have {length} bytes")
        content = _json(opened.read(length), file)
    if not isinstance(content, dict):
        raise ModelError(f"{file}: no safetensors file: its header is no object")
    entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
    places = {name: _place(name, entry, file, 8 + length, total - 8 - length) for name, entry in entries.items()}
    _check_order(places, file, 8 + length, total)
    return places


def _check_order(places: Mapping[str, Place], file: Path, begin: int, total: int) -> None:
    """Raises an error unless the tensors' bytes lie end to end from the header to the end, as the format has it."""
    end = begin
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].size)):
        if place.start != end:
            gap = place.start - end
            where = "over those of another" if gap < 0 else f"with a gap of {gap} bytes in front"
            raise ModelError(f"{file}: the bytes of the tensor {name} lie {where}: the file was altered")
        end += place.size
    if end != total:
        raise ModelError(f"{file}: {total - end} bytes behind the last tensor belong to none: the file was altered")


def _place(name: str, entry: Any, file: Path, begin: int, room: int) -> Place:
    known = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = known.get("dtype"), known.get("shape"), known.get("data_offsets")
    if isinstance(dtype, str) and dtype not in _ITEM_BYTES:
        raise ModelError(f"{file}: the tensor {name} has dtype {dtype[:20]}, expected {', '.join(_DTYPES)}")
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ModelError(f"{file}: the tensor {name} has no readable entry in the header: {str(entry)[:80]}")
    place = Place(file, dtype, tuple(shape), begin + offsets[0])
    if offsets[1] - offsets[0] != place.size:
        raise ModelError(
            f"{file}: the tensor {name} of shape {list(shape)} and dtype {dtype} needs {place.size} bytes, its entry "
            f"in the header says {offsets[1] - offsets[0]}"
        )
    if offsets[1] > room:
        raise ModelError(f"{file}: the file ends before the tensor {name}: it was cut off; download it again")
    return place


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _json(raw: bytes, file: Path) -> Any:
    try:
        return json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON: {str(error)[:120]}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object whose keys stand once each: of two entries of a tensor either could be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice[:80]!r} stands twice in it")
    return found
