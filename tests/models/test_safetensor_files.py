"""Safetensors files and shards: read equal to the format's own library, and each kind of damage told apart."""

import json
import random
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmtune.errors import ModelError
from mmtune.models.folder_files import INDEX, SINGLE
from mmtune.models.safetensor_files import TensorFiles, read_header


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(6, 4)).astype(np.float32),
        "b": rng.normal(size=(3,)).astype(np.float16),
        "c": rng.normal(size=(2, 2, 2)).astype(ml_dtypes.bfloat16),
        "d": np.array(1.5),
        "empty": np.zeros((0, 4), np.float32),
    }


@pytest.fixture
def folder(tmp_path):
    save_file(tensors(), tmp_path / SINGLE, metadata={"format": "np"})
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    whole = tensors()
    shards = {"one.safetensors": ["a", "b"], "two.safetensors": ["c", "d", "empty"]}
    for name, keys in shards.items():
        save_file({key: whole[key] for key in keys}, tmp_path / name)
    write_index(tmp_path, {key: name for name, keys in shards.items() for key in keys})
    return tmp_path


def write_index(folder, weight_map) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def with_header(file, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    file.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


@pytest.mark.parametrize("kind", ["folder", "sharded"])
def test_all_dtypes_and_shapes(kind, request):
    files = TensorFiles(request.getfixturevalue(kind))
    whole = tensors()
    assert set(files) == set(whole)
    for name, wanted in whole.items():
        found = files.read(name)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found, wanted)
    assert files.dtypes == {"float16", "float32", "float64", "bfloat16"}


@pytest.mark.parametrize("rows", [slice(0, 2), slice(4, 9), slice(5, 6), slice(3, 3)], ids=str)
def test_some_rows(folder, rows):
    np.testing.assert_array_equal(TensorFiles(folder).read("a", rows), tensors()["a"][rows])


def test_a_file_by_itself(folder):
    assert set(TensorFiles(folder / SINGLE)) == set(tensors())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16], ids=lambda d: d.__name__)
def test_numbers_that_are_none(tmp_path, dtype, bad):
    values = np.ones(100, dtype)
    save_file({"w": values}, tmp_path / SINGLE)
    assert TensorFiles(tmp_path).read("w").shape == (100,)
    values[63] = bad
    save_file({"w": values}, tmp_path / SINGLE)
    with pytest.raises(ModelError, match=rf"{SINGLE}: the tensor w holds NaN or infinite numbers"):
        TensorFiles(tmp_path).read("w")


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        pytest.param(b"", b"", "no safetensors file: it has|expected JSON", id="empty"),
        pytest.param(b"{", b"", "expected JSON", id="no json"),
        pytest.param(b"[]", b"", "its header is no object", id="list"),
        pytest.param(b"[" * 50_000, b"", "expected JSON", id="deep"),
        pytest.param(b"\xff\xfe", b"", "expected JSON", id="no utf-8"),
        pytest.param({"w": ENTRY}, b"1234", "the file ends before the tensor w: it was cut off", id="cut"),
        pytest.param({"w": ENTRY | {"dtype": "F31"}}, b"12345678", "tensor w has dtype F31, expected F64", id="dtype"),
        pytest.param({"w": ENTRY | {"shape": [-2]}}, b"12345678", "tensor w has no readable entry", id="negative"),
        pytest.param({"w": ENTRY | {"shape": [2.0]}}, b"12345678", "tensor w has no readable entry", id="fraction"),
        pytest.param({"w": ENTRY | {"shape": [3]}}, b"12345678", r"shape \[3\] .*needs 12 bytes", id="shape"),
        pytest.param({"w": ENTRY | {"shape": [2**62, 2**62]}}, b"12345678", "needs", id="overflow"),
        pytest.param({"w": ENTRY | {"data_offsets": [8, 0]}}, b"12345678", "needs 8 bytes", id="backwards"),
        pytest.param({"w": ENTRY | {"data_offsets": [0]}}, b"12345678", "no readable entry", id="one offset"),
        pytest.param({"w": 3}, b"12345678", "tensor w has no readable entry", id="number"),
    ],
)
def test_broken_files(tmp_path, header, data, words):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    with_header(tmp_path / SINGLE, raw, data)
    with pytest.raises(ModelError, match=words) as error:
        TensorFiles(tmp_path)
    assert str(tmp_path / SINGLE) in str(error.value)


@pytest.mark.parametrize("length", [10**6, 2**63, 2**64 - 1], ids=str)
def test_a_header_longer_than_the_file(tmp_path, length):
    with_header(tmp_path / SINGLE, b"{}", length=length)
    with pytest.raises(ModelError, match=f"its header should have {length} bytes"):
        TensorFiles(tmp_path)


def test_integers_are_no_weights(tmp_path):
    save_file({"w": np.arange(3)}, tmp_path / SINGLE)
    with pytest.raises(ModelError, match="tensor w has dtype I64, expected F64, F32, F16, BF16"):
        TensorFiles(tmp_path).read("w")


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        pytest.param({"a": "three.safetensors"}, "names the shard three.safetensors, which is not there", id="missing"),
        pytest.param({"c": "one.safetensors"}, "expected the tensor c, which .* says it holds", id="elsewhere"),
        pytest.param({"a": "../one.safetensors"}, "expected names of files in the same folder", id="parent"),
        pytest.param({"a": "/etc/passwd"}, "expected names of files in the same folder", id="absolute"),
        pytest.param({"a": "..\\one"}, "expected names of files in the same folder", id="backslash"),
        pytest.param({"a": ".."}, "expected names of files in the same folder", id="dots"),
        pytest.param({"a": 1}, "expected weight_map, an object of file names", id="number"),
        pytest.param(None, "expected weight_map, an object of file names", id="none"),
    ],
)
def test_broken_indexes(sharded, weight_map, words):
    write_index(sharded, weight_map)
    with pytest.raises(ModelError, match=words):
        TensorFiles(sharded)


def test_neither_file_nor_index(tmp_path):
    with pytest.raises(ModelError, match=f"expected {SINGLE}, or shards with {INDEX}, found neither"):
        TensorFiles(tmp_path)


def shapes_of_the_library(file):
    try:
        with safe_open(file, "numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError):  # the latter for names that are no text
        return None


def test_what_is_read_is_what_the_library_reads(folder):
    """A thousand headers with some bytes changed: both refuse a file, or both find the same tensors in it."""
    whole = (folder / SINGLE).read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    rng = random.Random(0)
    accepted, disagreed = 0, []
    for _ in range(1000):
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2))):
            changed[rng.randrange(8, 8 + length)] = rng.choice(b'0123456789 ,"abcdeF[]{}')
        (folder / SINGLE).write_bytes(bytes(changed))
        theirs, header = shapes_of_the_library(folder / SINGLE), bytes(changed[8 : 8 + length])
        try:
            ours = {name: place.shape for name, place in read_header(folder / SINGLE).items()}
        except ModelError as error:
            # Of two entries of one name the library takes the last.
            ours = theirs if "stands twice" in str(error) else None
        accepted += ours is not None
        if ours != theirs:
            disagreed.append(header)
    assert not disagreed
    assert 20 < accepted < 980
