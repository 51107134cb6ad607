"""The network of the mask codec: 64 x 64 masks to 4 x 4 vectors and back, in numpy or JAX alike.

Architecture of the VQ-VAE of PaliGemma's segmentation tokens (arXiv 2301.02229), with widths read off the arrays. Every
function takes the array module to work with: plain numpy is quick enough for a data pipeline and needs no device; JAX
gives the gradients that train a codec.

Names and layouts are those of the public file, which PyTorch wrote: kernels of convolutions are (out, in, height,
width), of transposed convolutions (in, out, height, width).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtune.codecs.boxes import SEGMENT_CODES

SIDE = 64
"""Side of the masks that the codec takes and gives."""
GRID = 4
"""Side of the grid of codes."""
SEGMENTS = GRID * GRID
"""How many codes, and so how many tokens, a mask takes."""
CODES = SEGMENT_CODES
"""Entries of the codebook: one for each token `<seg000>`..`<seg127>`."""

CODEBOOK = "_vq_vae._embedding"
_DOWN = ("encoder.0", "encoder.2", "encoder.4", "encoder.6")
_UP = ("decoder.4", "decoder.6", "decoder.8", "decoder.10")
_ENCODER_BLOCKS = ("encoder.8", "encoder.9")
_DECODER_BLOCKS = ("decoder.2", "decoder.3")

Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """The channels of a codec.

    Attributes:
        embedding: Length of a code's vector.
        down: Channels after each of the four convolutions of the encoder; the last also in its residual blocks.
        inner: Hidden channels of the encoder's residual blocks.
        up: Channels before each of the four transposed convolutions and after the last; the first also in the
            residual blocks.
        outer: Hidden channels of the decoder's residual blocks.
    """

    embedding: int
    down: tuple[int, int, int, int]
    inner: int
    up: tuple[int, int, int, int, int]
    outer: int


def shapes(widths: Widths) -> dict[str, tuple[int, ...]]:
    """Returns the name and shape of every array of a codec with these widths."""
    w = widths
    result: dict[str, tuple[int, ...]] = {CODEBOOK: (CODES, w.embedding)}

    def add(name: str, out: int, *kernel: int) -> None:
        result[f"{name}.weight"] = kernel
        result[f"{name}.bias"] = (out,)

    for name, before, after in zip(_DOWN, (1, *w.down), w.down, strict=False):
        add(name, after, after, before, 4, 4)
    add("encoder.10", w.embedding, w.embedding, w.down[-1], 1, 1)
    add("decoder.0", w.up[0], w.up[0], w.embedding, 1, 1)
    for name, before, after in zip(_UP, w.up, w.up[1:], strict=False):
        add(name, after, before, after, 4, 4)
    add("decoder.12", 1, 1, w.up[-1], 1, 1)
    for blocks, wide, hidden in ((_ENCODER_BLOCKS, w.down[-1], w.inner), (_DECODER_BLOCKS, w.up[0], w.outer)):
        for block in blocks:
            add(f"{block}.net.0", hidden, hidden, wide, 3, 3)
            add(f"{block}.net.2", hidden, hidden, hidden, 3, 3)
            add(f"{block}.net.4", wide, wide, hidden, 1, 1)
    return result


def read_widths(arrays: Arrays) -> Widths:
    """Returns the widths that the biases and the codebook of a file speak of, whose arrays must all be there."""
    down = tuple(_length(arrays, name) for name in _DOWN)
    up = (_length(arrays, "decoder.0"), *(_length(arrays, name) for name in _UP))
    return Widths(
        embedding=int(np.shape(arrays[CODEBOOK])[-1]),
        down=down,  # pyright: ignore[reportArgumentType]
        inner=_length(arrays, "encoder.8.net.0"),
        up=up,  # pyright: ignore[reportArgumentType]
        outer=_length(arrays, "decoder.2.net.0"),
    )


def names() -> tuple[str, ...]:
    """Returns the names of all arrays of a codec."""
    return tuple(shapes(Widths(embedding=1, down=(1, 1, 1, 1), inner=1, up=(1, 1, 1, 1, 1), outer=1)))


def matrices(arrays: Arrays, xp: Any = np) -> dict[str, Any]:
    """Returns the kernels as the matrices that `encode` and `decode` multiply with; biases and codebook as they are.

    A convolution's kernel becomes (height * width * in, out); see `_doubling_matrix` for the transposed ones.
    """
    return dict(_matrices(arrays, xp))


def encode(weights: Arrays, masks: Any, xp: Any = np) -> Any:
    """Returns the vectors of masks before they are rounded to codes.

    Args:
        weights: From `matrices`.
        masks: (n, 64, 64) floating point, 0 outside to 1 inside.
        xp: numpy or jax.numpy.

    Returns:
        (n, 4, 4, embedding).
    """
    x = 2.0 * (masks[..., None] - 0.5)
    for name in _DOWN:
        x = xp.maximum(_convolution(weights, name, x, 4, 2, xp), 0)
    for name in _ENCODER_BLOCKS:
        x = _residual(weights, name, x, xp)
    return _convolution(weights, "encoder.10", x, 1, 1, xp)


def decode(weights: Arrays, vectors: Any, xp: Any = np) -> Any:
    """Returns masks of vectors of the codebook.

    Args:
        weights: From `matrices`.
        vectors: (n, 4, 4, embedding).
        xp: numpy or jax.numpy.

    Returns:
        (n, 64, 64), trained towards -1 outside and 1 inside but not limited to that range.
    """
    x = xp.maximum(_convolution(weights, "decoder.0", vectors, 1, 1, xp), 0)
    for name in _DECODER_BLOCKS:
        x = _residual(weights, name, x, xp)
    for name in _UP:
        x = xp.maximum(_transposed_convolution(weights, name, x, xp), 0)
    return _convolution(weights, "decoder.12", x, 1, 1, xp)[..., 0]


def nearest(codebook: Any, vectors: Any, xp: Any = np) -> Any:
    """Returns the index of the code nearest to each vector, by Euclidean distance.

    Args:
        codebook: (codes, embedding).
        vectors: (..., embedding).
        xp: numpy or jax.numpy.
    """
    # |v - c|^2 without the term |v|^2, which is the same for all codes.
    return xp.argmin((codebook**2).sum(-1) - 2.0 * (vectors @ codebook.T), axis=-1)


def _matrices(arrays: Arrays, xp: Any) -> Iterator[tuple[str, Any]]:
    for name, array in arrays.items():
        if not name.endswith(".weight"):
            yield name, xp.asarray(array)
        elif name.removesuffix(".weight") in _UP:
            yield name, _doubling_matrix(array, xp)
        else:
            yield name, xp.transpose(array, (2, 3, 1, 0)).reshape(-1, array.shape[0])


def _doubling_matrix(kernel: Any, xp: Any) -> Any:
    """Returns a transposed convolution (kernel 4, stride 2, padding 1) as a 3 x 3 convolution to 2 x 2 pixels.

    Pixel y of the input reaches the rows 2y - 1 .. 2y + 2 of the output, one for each row of the kernel. So an even
    row 2y gathers row 3 of the kernel at y - 1 and row 1 at y, an odd one row 2 at y and row 0 at y + 1; columns
    likewise. Row 4, which is zero, stands for none.

    Args:
        kernel: (in, out, 4, 4).
        xp: numpy or jax.numpy.

    Returns:
        (3 * 3 * in, 2 * 2 * out), the output's parity of row and column first.
    """
    rows = np.array(((3, 1, 4), (4, 2, 0)))  # (parity, neighbour)
    padded = xp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 1)))
    # (in, out, row parity, row neighbour, column parity, column neighbour)
    gathered = padded[:, :, rows[:, :, None, None], rows[None, None]]
    before, after = kernel.shape[:2]
    return xp.transpose(gathered, (3, 5, 0, 2, 4, 1)).reshape(9 * before, 4 * after)


def _residual(weights: Arrays, name: str, x: Any, xp: Any) -> Any:
    y = xp.maximum(_convolution(weights, f"{name}.net.0", x, 3, 1, xp), 0)
    y = xp.maximum(_convolution(weights, f"{name}.net.2", y, 3, 1, xp), 0)
    return x + _convolution(weights, f"{name}.net.4", y, 1, 1, xp)


def _convolution(weights: Arrays, name: str, x: Any, kernel: int, stride: int, xp: Any) -> Any:
    """Convolves (n, h, w, in) with zeros around it (TensorFlow's SAME) to (n, h / stride, w / stride, out)."""
    return _product(x, weights[f"{name}.weight"], kernel, stride, xp) + weights[f"{name}.bias"]


def _transposed_convolution(weights: Arrays, name: str, x: Any, xp: Any) -> Any:
    """Enlarges (n, h, w, in) to (n, 2h, 2w, out)."""
    n, height, width, _ = x.shape
    y = _product(x, weights[f"{name}.weight"], 3, 1, xp).reshape(n, height, width, 2, 2, -1)
    y = xp.transpose(y, (0, 1, 3, 2, 4, 5)).reshape(n, 2 * height, 2 * width, -1)
    return y + weights[f"{name}.bias"]


def _product(x: Any, matrix: Any, kernel: int, stride: int, xp: Any) -> Any:
    """Multiplies every patch of (n, h, w, in), h and w even where the stride is 2, with (kernel^2 * in, out)."""
    around = (kernel - stride) // 2
    if xp is not np:
        from jax import lax

        cube = matrix.reshape(kernel, kernel, x.shape[-1], -1)
        padding = ((around, around),) * 2
        return lax.conv_general_dilated(x, cube, (stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    if kernel > 1:
        height, width = x.shape[1:3]
        x = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
        patches = [x[:, i : i + height : stride, j : j + width : stride] for i in range(kernel) for j in range(kernel)]
        x = np.concatenate(patches, axis=-1)
    return x @ matrix


def _length(arrays: Arrays, layer: str) -> int:
    return int(np.shape(arrays[f"{layer}.bias"])[0])
