"""The embedded model `tiny`: a PaliGemma of three million parameters with a vocabulary of its own."""

import math
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.distributed.processes import fetch_global_array
from mmtune.models.build import without_values
from mmtune.models.spm_tokenizer import SentencePieceTokenizer

_ASSETS = files("mmtune") / "assets"
_TOKENIZER = "tiny_tokenizer.model"
_WEIGHTS = "tiny.safetensors"

# Amplitude of the first patch positions, beside patch embeddings with a standard deviation near 1.
_POSITIONS = 0.2
# The patch convolution starts this much wider than 1 / sqrt(fan in): pixels in -1..1 have a deviation well below 1.
_PATCH_GAIN = 1.5
# Longest and shortest wavelength of the first location embeddings, in bins: one sweep over the picture is half a
# wave, and neighbours within a patch stay alike.
_WAVES = (2048.0, 24.0)


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """The size of the embedded model; `mlp_dim` is the width of the gated MLP, of which KerasHub wants the double."""

    vocabulary_size: int = 2176
    image_size: int = 120
    patch_size: int = 12
    vision_dim: int = 160
    vision_layers: int = 4
    vision_heads: int = 4
    vision_mlp_dim: int = 640
    hidden_dim: int = 160
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 1
    head_dim: int = 40
    mlp_dim: int = 480


TINY = TinyConfig()


def build_tiny(seed: int = 0, dtype: Any = None) -> Any:
    """Returns the untrained model, a KerasHub `PaliGemmaBackbone`.

    Keras' own first values leave the patch convolution far too small and know nothing of space. Three tables start
    otherwise, all of them trainable: the patch kernel, patch positions (sines and cosines of row and column) and
    location embeddings (neighbouring bins alike).

    Args:
        seed: The same seed gives the same weights.
        dtype: As KerasHub takes it; None: Keras' current policy.
    """
    # Keras' initialisers draw their seeds from Python's generator, whose state is given back to its owner.
    state = random.getstate()
    random.seed(seed)
    try:
        backbone = _backbone(dtype)
    finally:
        random.setstate(state)
    _initialise(backbone, np.random.default_rng(seed))
    return backbone


def empty_tiny() -> Any:
    """Returns the model without values in its weights, for a file to fill: first values take seconds to compile."""
    with without_values():
        return _backbone(None)


def _backbone(dtype: Any) -> Any:
    from keras_hub.models import PaliGemmaBackbone

    return PaliGemmaBackbone(
        vocabulary_size=TINY.vocabulary_size,
        image_size=TINY.image_size,
        num_layers=TINY.num_layers,
        num_query_heads=TINY.num_heads,
        num_key_value_heads=TINY.num_kv_heads,
        hidden_dim=TINY.hidden_dim,
        intermediate_dim=2 * TINY.mlp_dim,
        head_dim=TINY.head_dim,
        vit_patch_size=TINY.patch_size,
        vit_num_heads=TINY.vision_heads,
        vit_hidden_dim=TINY.vision_dim,
        vit_num_layers=TINY.vision_layers,
        vit_intermediate_dim=TINY.vision_mlp_dim,
        vit_name="vit",
        dtype=dtype,
        name="tiny",
    )


@cache
def tiny_tokenizer() -> SentencePieceTokenizer:
    """Returns the embedded model's vocabulary of 2,176 pieces (made by `mmtune.models.tiny_vocabulary`)."""
    return SentencePieceTokenizer((_ASSETS / _TOKENIZER).read_bytes())


def tiny_weights_path() -> Path:
    """Returns the file of trained weights in the package."""
    return Path(str(_ASSETS / _WEIGHTS))


def _initialise(backbone: Any, rng: np.random.Generator) -> None:
    embeddings = backbone.vit_encoder.get_layer("image_encoder").vision_embeddings
    kernel = embeddings.patch_embedding.kernel
    fan_in = math.prod(kernel.shape[:3])
    kernel.assign(rng.normal(0, _PATCH_GAIN / math.sqrt(fan_in), kernel.shape))
    positions = embeddings.position_embedding.embeddings
    positions.assign(_POSITIONS * grid_positions(math.isqrt(positions.shape[0]), positions.shape[1]))

    table = backbone.token_embedding.embeddings
    values = np.array(fetch_global_array(table.value), np.float32)
    bins = slice(tiny_tokenizer().loc, tiny_tokenizer().seg)
    count, width = values[bins].shape
    values[bins] = ordinal_embeddings(count, width, float(values.std()), rng)
    table.assign(values)


def grid_positions(side: int, width: int) -> np.ndarray:
    """Returns positions of a square grid as sines and cosines of row and column, (side * side, width) in -1..1.

    Args:
        side: Cells a side; cells are numbered row by row.
        width: A multiple of 4. Frequencies run from half a turn over the grid to one turn over two cells.
    """
    frequencies = math.pi * np.geomspace(0.5, side / 2, width // 4)
    angles = (np.arange(side) + 0.5)[:, None] / side * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    return np.concatenate([np.repeat(waves, side, 0), np.tile(waves, (side, 1))], 1)


def ordinal_embeddings(count: int, width: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Returns embeddings of ordered bins, (count, width): the nearer two bins, the more alike.

    Args:
        count: Number of bins.
        width: A multiple of 4. Half of the directions of the space carry the order, turned at random.
        spread: Standard deviation of the values.
        rng: Source of the turn, and of a tenth of noise by which every bin is its own.
    """
    angles = np.arange(count)[:, None] * (2 * math.pi / np.geomspace(*_WAVES, width // 4))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0][: waves.shape[1]]
    # Each row of `waves` has length sqrt(width) / 2, so that its values turned have a deviation of one half.
    return spread * (2 * waves @ turn + 0.1 * rng.normal(size=(count, width)))
