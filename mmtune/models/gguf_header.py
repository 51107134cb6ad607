"""The header of a GGUF file: its fields and where its tensors lie, each number checked before it is trusted.

The package gguf has a reader of its own. It asks no number whether the file is long enough for it, so that a damaged
count makes it run for hours.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmtune.errors import ModelError

_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), "general.alignment"
# What a value is, by the number of its kind.
_NUMBERS: dict[int, str] = dict(zip((0, 1, 2, 3, 4, 5, 6, 10, 11, 12), "BbHhIifQqd", strict=True))
_BOOL, _TEXT, _ARRAY = 7, 8, 9
_DEEPEST, _MOST_AXES = 4, 4


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a tensor lies.

    Attributes:
        name: llama.cpp's.
        kind: The number of the way in which it is packed.
        shape: Rows first.
        rows: The shape of its bytes, rows first: (..., bytes of a row).
        start: Its first byte in the file.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class GgufHeader:
    """What a file says before its numbers begin."""

    fields: dict[str, Any]
    tensors: tuple[Packed, ...]


def read_header(file: Path, sizes: dict[int, tuple[int, int]]) -> GgufHeader:
    """Returns the fields of a GGUF file and the places of its tensors.

    Args:
        file: The file.
        sizes: For each kind of packing how many numbers make a block, and how many bytes it has.

    Raises:
        ModelError: When it is no GGUF file, or is cut, or a number in it cannot be; names the field or the tensor.
    """
    with file.open("rb") as opened:
        reader = _Reader(opened, file)
        if reader.take(4) != _MAGIC:
            raise reader.error("no GGUF file: it does not begin as one")
        if (version := reader.number("I")) not in _VERSIONS:
            raise reader.error(f"expected version {' or '.join(map(str, _VERSIONS))} of GGUF, found {version}")
        tensors, fields = reader.number("Q"), reader.number("Q")
        values: dict[str, Any] = {}
        for _ in range(fields):
            reader.at = "the name of a field"
            name = reader.text()
            if name in values:
                raise reader.error(f"the field {name} stands twice in it")
            reader.at = f"the field {name}"
            values[name] = reader.value(reader.number("I"))
        places = []
        for _ in range(tensors):
            reader.at = "the name of a tensor"
            name = reader.text()
            reader.at = f"the tensor {name}"
            places.append(reader.tensor(name, sizes))
        alignment = values.get(_ALIGNMENT, 32)
        if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
            raise reader.error(f"{_ALIGNMENT}: expected a power of two, found {str(alignment)[:80]}")
        begin = -(-opened.tell() // alignment) * alignment
        return GgufHeader(values, _placed(places, begin, reader))


def _placed(places: list[Packed], begin: int, reader: "_Reader") -> tuple[Packed, ...]:
    """Returns tensors with their first bytes counted from the beginning of the file instead of from `begin`."""
    names: set[str] = set()
    for place in places:
        if place.name in names:
            raise reader.error(f"the tensor {place.name} stands twice in it")
        names.add(place.name)
        if begin + place.start + math.prod(place.rows) > reader.size:
            raise reader.error(f"the file ends before the tensor {place.name}: it was cut off; download it again")
    return tuple(Packed(one.name, one.kind, one.shape, one.rows, begin + one.start) for one in places)


class _Reader:
    """Reads a header from its beginning; `at` is what it is about to read, for messages."""

    def __init__(self, opened: BinaryIO, file: Path):
        self.opened, self.file, self.size = opened, file, file.stat().st_size
        self.at = "its header"

    def error(self, problem: str) -> ModelError:
        return ModelError(f"{self.file}: {problem}")

    def take(self, count: int) -> bytes:
        found = self.opened.read(count) if count <= self.size else b""
        if len(found) < count:
            raise self.error(f"no GGUF file, or cut off: it ends within {self.at[:120]}")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        raw = self.take(self.number("Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{self.at[:120]} is no UTF-8") from error

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _BOOL:
            return self.number("?")
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY and depth < _DEEPEST:
            return self.array(self.number("I"), self.number("Q"), depth + 1)
        raise self.error(f"{self.at[:120]} is of an unknown kind, {kind}")

    def array(self, kind: int, count: int, depth: int) -> list[Any]:
        if kind in _NUMBERS or kind == _BOOL:
            form = np.dtype(f"<{_NUMBERS.get(kind, '?')}")
            return np.frombuffer(self.take(count * form.itemsize), form).tolist()
        if count > self.size:
            raise self.error(f"no GGUF file, or cut off: it ends within {self.at[:120]}")
        return [self.value(kind, depth) for _ in range(count)]

    def tensor(self, name: str, sizes: dict[int, tuple[int, int]]) -> Packed:
        axes = self.number("I")
        if not 0 < axes <= _MOST_AXES:
            raise self.error(f"the tensor {name[:120]} has {axes} axes, expected 1 to {_MOST_AXES}")
        shape = tuple(reversed([self.number("Q") for _ in range(axes)]))
        kind, start = self.number("I"), self.number("Q")
        if kind not in sizes:
            raise self.error(f"the tensor {name[:120]} is packed in a way that is not known here, {kind}")
        numbers, item = sizes[kind]
        if shape[-1] % numbers or 0 in shape:
            raise self.error(f"the tensor {name[:120]} has shape {list(shape)}, expected rows in blocks of {numbers}")
        return Packed(name, kind, shape, (*shape[:-1], shape[-1] // numbers * item), start)
