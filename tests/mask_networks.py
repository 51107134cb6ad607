"""Random codecs of any width for the tests, and their network computed pixel by pixel."""

import numpy as np

from mmtune.codecs import mask_network as network
from mmtune.codecs.mask_network import Widths

PUBLIC_WIDTHS = Widths(
    embedding=512, down=(64, 128, 128, 128), inner=128, up=(128, 128, 64, 32, 16), outer=128
)  # those of the decoder and the codebook are the published ones
NARROW = Widths(embedding=5, down=(2, 3, 4, 3), inner=2, up=(4, 3, 2, 3, 2), outer=5)


def random_arrays(widths, seed=0):
    """Arrays under the public names, scaled so that activations keep their size."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:]))) * 1.4).astype(np.float32)
        for name, shape in network.shapes(widths).items()
    }


def naive_encode(arrays, mask):
    """(64, 64) in 0..1 -> (4, 4, embedding)."""
    x = 2 * (mask[None] - 0.5)
    for layer in ("encoder.0", "encoder.2", "encoder.4", "encoder.6"):
        x = np.maximum(_convolution(arrays, layer, x, 2, 1), 0)
    x = _residual(arrays, "encoder.9", _residual(arrays, "encoder.8", x))
    return _convolution(arrays, "encoder.10", x, 1, 0).transpose(1, 2, 0)


def naive_decode(arrays, vectors):
    """(4, 4, embedding) -> (64, 64)."""
    x = np.maximum(_convolution(arrays, "decoder.0", vectors.transpose(2, 0, 1), 1, 0), 0)
    x = _residual(arrays, "decoder.3", _residual(arrays, "decoder.2", x))
    for layer in ("decoder.4", "decoder.6", "decoder.8", "decoder.10"):
        x = np.maximum(_transposed(arrays, layer, x), 0)
    return _convolution(arrays, "decoder.12", x, 1, 0)[0]


def _residual(arrays, name, x):
    y = np.maximum(_convolution(arrays, f"{name}.net.0", x, 1, 1), 0)
    y = np.maximum(_convolution(arrays, f"{name}.net.2", y, 1, 1), 0)
    return x + _convolution(arrays, f"{name}.net.4", y, 1, 0)


def _convolution(arrays, layer, x, stride, padding):
    kernel, bias = arrays[f"{layer}.weight"], arrays[f"{layer}.bias"]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    side = (padded.shape[1] - kernel.shape[2]) // stride + 1
    out = np.zeros((len(kernel), side, side))
    for row in range(side):
        for column in range(side):
            top, left = row * stride, column * stride
            patch = padded[:, top : top + kernel.shape[2], left : left + kernel.shape[3]]
            out[:, row, column] = (kernel * patch).sum((1, 2, 3)) + bias
    return out


def _transposed(arrays, layer, x):
    """Each pixel adds its kernel to the output, of which a border of one is cut off."""
    kernel, bias = arrays[f"{layer}.weight"], arrays[f"{layer}.bias"]
    side = 2 * x.shape[1] + 2
    out = np.zeros((kernel.shape[1], side, side))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            stamp = (x[:, row, column, None, None, None] * kernel).sum(0)
            out[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += stamp
    return out[:, 1:-1, 1:-1] + bias[:, None, None]
