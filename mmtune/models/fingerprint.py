"""Which model a run or an adapter was trained on: a few weights, the sizes and the vocabulary, told from any other's.

A hash would change with every rounding, so sampled weights are stored and compared within what storage can move them:
bfloat16 or float16 on either side, the steps of quantization, and the packing of a GGUF file.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmtune.codecs.boxes import LOCATION_TOKENS, SEGMENT_TOKENS
from mmtune.data.json_files import load_json
from mmtune.distributed.processes import fetch_global_array
from mmtune.errors import DataError, ModelError
from mmtune.files import write_json
from mmtune.models.modules import kernel_index, linear_kernels, matrix_shape
from mmtune.models.quantized import GROUP, Quantized
from mmtune.models.spec import ModelSpec
from mmtune.models.tokenizer import Tokenizer
from mmtune.models.weights import Tree

_log = logging.getLogger(__name__)

FILE = "base.json"
"""Beside an adapter's or a run's weights."""

_SAMPLES = 4  # of each matrix
# Checkpoints pad the table of embeddings to different lengths: samples are taken from rows that all of them have.
_ROWS = 1024
# Fractions of the R2 sequence, which spreads points evenly over a square: powers of 1 / 1.3247179572447460.
_SPREAD = (0.7548776662466927, 0.5698402909980532)
# Rounding to bfloat16 moves a number by at most 2^-9 of it, to float16 by at most 2^-11 or 3e-8.
_RELATIVE, _ABSOLUTE = 2.0**-8, 1e-7
# A base may be quantized, merged with an adapter, and quantized again.
_STEPS = 2
# Packing in GGUF moves a weight by less than this over 2^bits, as a share of the largest weight in its block.
_PACKED, _BLOCK = 4.0, 256
_SIZES = ("num_layers", "hidden_dim", "num_heads", "num_kv_heads", "head_dim", "mlp_dim")
_VISION_SIZES = ("image_size", "patch_size", "num_layers", "hidden_dim", "num_heads", "mlp_dim")
# Pieces that look like control tokens are left out: file forms differ in which ones they hold ("<image>"), and in how
# they spell the tab among Gemma's bytes.
_NO_TEXT = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\t")


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a base.

    Attributes:
        model: The name that it was loaded by, for messages only.
        sizes: Its family and its architecture's numbers.
        weights: For each sampled matrix the values, and by how much storage may have moved each.
        tokenizer: Digest and number of the pieces that stand for text, and the ids of special tokens.
    """

    model: str
    sizes: Mapping[str, Any]
    weights: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    tokenizer: Mapping[str, Any]


def fingerprint(
    name: str, spec: ModelSpec, variables: Tree, tokenizer: Tokenizer, bits: float | None = None
) -> Fingerprint:
    """Returns the fingerprint of a model's weights as they are now; reads a few numbers of each matrix.

    With several processes, all must ask.

    Args:
        name: What the model was loaded by.
        spec, variables, tokenizer: The model's; an adapter does not count.
        bits: Of a weight in the GGUF file that it came from; None: it came from none.
    """
    weights = {path: _sampled(matrix, bits) for path, matrix in _matrices(spec, variables)}
    return Fingerprint(name, _sizes(spec), weights, _vocabulary(tokenizer))


def write_fingerprint(found: Fingerprint, folder: Path) -> None:
    """Writes `base.json` into a folder."""
    write_json(folder / FILE, asdict(found))


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """Returns the fingerprint of the base that a folder's adapter or weights belong to, None where there is none.

    Raises:
        ModelError: When its file is broken.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content: Any = load_json(file)
        weights = {
            str(path): (tuple(map(float, values)), tuple(map(float, errors)))
            for path, (values, errors) in content["weights"].items()
        }
        if any(len(values) != len(errors) for values, errors in weights.values()):
            raise ValueError("a matrix has not one error a value")
        return Fingerprint(str(content["model"]), dict(content["sizes"]), weights, dict(content["tokenizer"]))
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{file}: expected the fingerprint of a base model: {str(error)[:160]}") from error


def check_base(folder: Path, now: Fingerprint, force: bool = False) -> None:
    """Compares the model that an adapter or a run is to be put on with the one that it was trained on.

    A folder that does not tell its base is a notice in the log, no error.

    Args:
        folder: Of the adapter or the run.
        now: The fingerprint of the model that is to be its base.
        force: Whether another model is only a notice.

    Raises:
        ModelError: When it is another model; the message has both.
    """
    was = read_fingerprint(folder)
    if was is None:
        _log.warning(
            "%s does not record a fingerprint of its base, so whether it was trained on %s cannot be checked",
            folder,
            now.model,
        )
        return
    if not (apart := differences(was, now)):
        return
    said = f"{folder} was trained on {summary(was)}, and this is another model: {summary(now)}; {'; '.join(apart)}"
    if not force:
        raise ModelError(
            f"{said}: name the model that it was trained on by base= (--base MODEL), or use this one all the same by "
            "force_base=True (--force-base)"
        )
    _log.warning("%s; it is used all the same, as was asked", said)


def differences(was: Fingerprint, now: Fingerprint) -> list[str]:
    """Returns in what two models differ beyond what storing them can change, a phrase each; [] for the same model."""
    found = _changed(was.sizes, now.sizes)
    if not found:
        apart = [line for path, stored in was.weights.items() for line in _moved(path, stored, now.weights.get(path))]
        total = sum(len(values) for values, _ in was.weights.values())
        if apart:
            found.append(f"{len(apart)} of {total} sampled weights differ, the first is {apart[0]}")
    return found + [f"tokenizer {line}" for line in _changed(was.tokenizer, now.tokenizer)]


def summary(found: Fingerprint) -> str:
    """Returns a model in a few words."""
    sizes, tokenizer = found.sizes, found.tokenizer
    layers, width = sizes.get("text.num_layers"), sizes.get("text.hidden_dim")
    return f"{found.model} ({sizes.get('family')}, {layers} layers of width {width}, {tokenizer.get('pieces')} pieces)"


@dataclass(frozen=True)
class _Matrix:
    """A weight seen as (rows, columns), whatever the shape of the array that holds it.

    Attributes:
        leaf: A Keras variable, an array, or quantized.
        shape: (rows, columns) that samples are taken from.
        index: Where given rows and columns lie in the leaf.
        block: The axis along which a GGUF file packs it.
    """

    leaf: Any
    shape: tuple[int, int]
    index: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]
    block: int = 0

    def read(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the weights at some places, and the steps that they are quantized in (0: they are not)."""
        leaf = self.leaf
        if not isinstance(leaf, Quantized):
            values = _picked(leaf, self.index(rows, columns))
            return values, np.zeros_like(values)
        if leaf.values.dtype == "uint8":  # two rows a byte
            pair = _picked(leaf.values, (rows // 2, columns)).astype(np.uint8)
            scale = _picked(leaf.scale, (rows // GROUP, columns))
            return (np.where(rows % 2, pair >> 4, pair & 15).astype(np.float64) - 8) * scale, np.abs(scale)
        by_row = tuple(leaf.scale.shape) == (leaf.shape[0], 1)
        zeros = np.zeros_like(rows)
        scale = _picked(leaf.scale, (rows, zeros) if by_row else (zeros, columns))
        return _picked(leaf.values, (rows, columns)) * scale, scale


def _matrices(spec: ModelSpec, variables: Tree) -> Iterator[tuple[str, _Matrix]]:
    """Yields embeddings, head and linear modules by path."""
    text = variables["text"]
    rows, width = text["embedding"].shape
    yield "embed_tokens", _Matrix(text["embedding"], (min(rows, _ROWS), width), _plain, block=1)
    if text["head"] is not None:
        yield "lm_head", _Matrix(text["head"], (width, min(rows, _ROWS)), _plain)
    for path, kernel in linear_kernels(spec, variables).items():
        shape = tuple(kernel.shape)
        index = partial(kernel_index, spec, path, shape)
        yield path, _Matrix(kernel, matrix_shape(spec, path, shape), index)


def _plain(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
    return rows, columns


def _sampled(matrix: _Matrix, bits: float | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns a few weights of a matrix, and by how much each may have been moved on top of rounding."""
    count = np.arange(1, _SAMPLES + 1)
    place = [(count * share % 1 * size).astype(np.int64) for share, size in zip(_SPREAD, matrix.shape, strict=True)]
    values, steps = matrix.read(place[0], place[1])
    errors = _STEPS * steps
    if bits is not None:
        size = matrix.shape[matrix.block]
        starts = place[matrix.block] // _BLOCK * _BLOCK
        around = np.minimum(starts[:, None] + np.arange(_BLOCK), size - 1)
        places = [np.broadcast_to(axis[:, None], around.shape) for axis in place]
        places[matrix.block] = around
        errors = errors + _PACKED / 2 ** int(bits) * np.abs(matrix.read(places[0], places[1])[0]).max(axis=1)
    return _short(values), _short(errors)


def _short(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{number:.7g}") for number in numbers)


def _picked(variable: Any, index: tuple[np.ndarray, ...]) -> np.ndarray:
    """Returns numbers of an array, which may lie on many devices and hosts; only those are moved."""
    array = getattr(variable, "value", variable)
    on_cpu = isinstance(array, jax.Array) and [device.platform for device in array.devices()] == ["cpu"]
    if on_cpu or not isinstance(array, jax.Array):
        return np.asarray(array)[index].astype(np.float64)  # it is read where it lies
    return fetch_global_array(_take(array, index)).astype(np.float64)


@jax.jit
def _take(array: jax.Array, index: tuple[np.ndarray, ...]) -> jax.Array:
    return array[index]


def _sizes(spec: ModelSpec) -> dict[str, Any]:
    sizes: dict[str, Any] = {"family": spec.family}
    sizes |= {f"text.{name}": getattr(spec.text, name) for name in _SIZES}
    return sizes | ({f"vision.{name}": getattr(spec.vision, name) for name in _VISION_SIZES} if spec.vision else {})


def _vocabulary(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns what tells a vocabulary: padding tokens are left out, as files differ in them and no text has any."""
    spelled = ((token, piece) for token, piece in enumerate(tokenizer.pieces()) if not _NO_TEXT.fullmatch(piece))
    lines = [f"{token} {piece.replace('▁', ' ')}" for token, piece in spelled if piece]
    digest = hashlib.sha256("\0".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    special = {"bos": tokenizer.bos, "eos": tokenizer.eos}
    # Whether the others follow in a row is asked by the tasks that need them.
    special |= {"loc": tokenizer.find(LOCATION_TOKENS[0]), "seg": tokenizer.find(SEGMENT_TOKENS[0])}
    return {"pieces": len(lines), "sha256": digest, **special}


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*was, *now))
    return [f"{name}: {was.get(name)} then, {now.get(name)} now" for name in names if was.get(name) != now.get(name)]


def _moved(path: str, was: tuple[tuple[float, ...], ...], now: tuple[tuple[float, ...], ...] | None) -> list[str]:
    """Returns the samples of a matrix that no storage can have made of each other."""
    if now is None or len(was[0]) != len(now[0]):
        return [f"{path}: not there"]
    return [
        f"{path}: {a:.6g} then, {b:.6g} now"
        for a, b, one, other in zip(was[0], now[0], was[1], now[1], strict=True)
        if not abs(a - b) <= max(_RELATIVE * max(abs(a), abs(b)) + _ABSOLUTE, one, other)
    ]
