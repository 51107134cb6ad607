"""Sizes of the models that are measured: PaliGemma in its own proportions, small enough for two cores, and as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Size:
    """A PaliGemma.

    Attributes:
        hidden, mlp, layers, heads, head: Of the decoder, with one key and value head.
        vocabulary: Tokens.
        vision_hidden, vision_mlp, vision_layers, vision_heads: Of the tower.
        image, patch: Sides in pixels.
    """

    hidden: int = 384
    mlp: int = 4096
    layers: int = 7
    heads: int = 4
    head: int = 96
    vocabulary: int = 25_600
    vision_hidden: int = 256
    vision_mlp: int = 956
    vision_layers: int = 10
    vision_heads: int = 4
    image: int = 224
    patch: int = 14

    @property
    def image_tokens(self) -> int:
        """Tokens of a picture."""
        return (self.image // self.patch) ** 2


SIZES = {
    # Vision, body and vocabulary head share the work as in the 3B: 0.2 to 1 to 0.27.
    "mini": Size(),
    # The real vocabulary on a narrow body.
    "wide": Size(vocabulary=257_152),
    # For looking whether everything runs.
    "dot": Size(64, 128, 2, 2, 32, 512, 32, 64, 2, 2, 56, 14),
    # The real shapes.
    "3b": Size(2048, 16_384, 18, 8, 256, 257_152, 1152, 4304, 27, 16),
}

PROMPT, TARGET, NEW, RANK = 8, 64, 32, 8
"""Tokens of a prompt, of an answer that is trained on, of an answer that is written; rank of the adapter."""
FIRST_TEXT = 5  # tokens below have meanings of their own
END = 1
"""The token that ends an answer, where answers end."""
MIXED_PROMPT, MIXED_NEW, MIXED_BATCH = 40, 64, 8
"""Of a data set of answers of mixed length: most tokens of a prompt and of an answer, pictures at once."""
_ENDING = 2.4
_BYTES = {"float32": 4, "bfloat16": 2}


def weights_dtype(case: str, precision: str) -> str:
    """Returns what the base weights are kept in: the precision, but float32 where they train themselves."""
    return "float32" if case == "full" else precision


def build(size: Size, case: str, precision: str = "float32") -> Any:
    """Returns a random PaliGemma as KerasHub builds it, the same each time.

    Its embedding has the deviation 1 / sqrt(width), so that logits have unit scale, and its last norm random signs:
    otherwise each token's likeliest successor is itself, and equal answers would mean little.

    Args:
        size: Its shapes.
        case: What is measured. Answers of "mixed" end: the logit of `END` varies so much more than others that it is
            often the largest.
        precision: Of activations and products, and of the weights as `weights_dtype` says.
    """
    import keras
    import keras_hub

    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.PaliGemmaBackbone(
        vocabulary_size=size.vocabulary,
        image_size=size.image,
        num_layers=size.layers,
        num_query_heads=size.heads,
        num_key_value_heads=1,
        hidden_dim=size.hidden,
        intermediate_dim=2 * size.mlp,  # KerasHub counts gate and up projection together
        head_dim=size.head,
        vit_patch_size=size.patch,
        vit_num_heads=size.vision_heads,
        vit_hidden_dim=size.vision_hidden,
        vit_num_layers=size.vision_layers,
        vit_intermediate_dim=size.vision_mlp,
        dtype=precision if weights_dtype(case, precision) == precision else f"mixed_{precision}",
    )
    rng = np.random.default_rng(2)
    table = backbone.token_embedding.embeddings
    shape, deviation = (size.vocabulary, size.hidden), size.hidden**-0.5
    if table.dtype == "float32":
        embedding = rng.standard_normal(shape, np.float32)
        embedding *= np.float32(deviation)  # in place: memory that contenders are measured by must not be ours
    else:  # numpy takes many seconds to draw the 3B's and to round them
        embedding = keras.random.normal(shape, 0, deviation, table.dtype, seed=2)
    if case == "mixed":
        ending = np.where(np.arange(size.vocabulary) == END, _ENDING, 1)
        embedding = embedding * ending[:, None].astype(embedding.dtype)
    table.assign(embedding)
    for layer in backbone.transformer_layers:
        for dense in (layer.attention.output_dense, layer.ffw_linear):
            dense.kernel.assign(0.5 * dense.kernel.value)
    backbone.layer_norm.scale.assign(rng.normal(-1, 1, size.hidden).astype(np.float32))
    return backbone


def step_flops(size: Size, case: str, rows: int, encodes: bool = True) -> float:
    """Returns the operations of a training step's products that no contender can do without.

    One forward and one backward pass; gradients of weights only where they train; a frozen tower forward only; queries,
    MLP of the last layer and vocabulary only where tokens are predicted; a picture's prefix once for all its answers.

    Args:
        size: The model.
        case: "lora", "captions" or "full".
        rows: Pictures.
        encodes: Whether the pictures go through the tower.
    """
    targets = TARGET * (5 if case == "captions" else 1)
    length = size.image_tokens + PROMPT + targets
    weights, pairs = _text_products(size, length, targets)
    passes = 3 if case == "full" else 2
    total = passes * weights + 3 * pairs
    if encodes:
        total += (3 if case == "full" else 1) * _tower_products(size)
    return 2.0 * rows * total


def decoding_floor(size: Size, rows: int, precision: str, peak: float, bandwidth: float) -> float:
    """Returns the seconds below which no contender writes `NEW` tokens; arguments are those of `decoding_parts`."""
    seen, opened, token = decoding_parts(size, rows, precision, peak, bandwidth)
    return seen + opened + (NEW - 1) * token


def decoding_parts(size: Size, rows: int, precision: str, peak: float, bandwidth: float) -> tuple[float, float, float]:
    """Returns the least seconds of the tower, of the prompts with the first token, and of each token after it.

    The tower and the prompts are products at the peak; a token reads every weight of the decoder once for all rows, or
    is a product at the peak where that takes longer.

    Args:
        size: The model.
        rows: Pictures.
        precision: Of the weights.
        peak, bandwidth: Operations and bytes read a second, as measured.
    """
    prompts, pairs = _text_products(size, size.image_tokens + PROMPT, 1)
    token, _ = _text_products(size, 1, 1)
    read = token * _BYTES[precision] / bandwidth
    seen, opened = (2 * rows * products / peak for products in (_tower_products(size), prompts + pairs))
    return seen, opened, max(2 * rows * token / peak, read)


def _text_products(size: Size, length: int, targets: int) -> tuple[int, int]:
    """Returns multiplications of one row with weights, and of queries with keys and values."""
    wide = 2 * size.hidden * size.heads * size.head + 3 * size.hidden * size.mlp
    narrow = 2 * size.hidden * size.head
    everywhere = length * (size.layers * narrow + (size.layers - 1) * wide)
    weights = everywhere + targets * (wide + size.vocabulary * size.hidden)
    return weights, 2 * size.heads * size.head * length * ((size.layers - 1) * length + targets)


def _tower_products(size: Size) -> int:
    block = 4 * size.vision_hidden**2 + 2 * size.vision_hidden * (size.vision_mlp + size.image_tokens)
    ends = (3 * size.patch**2 + size.hidden) * size.vision_hidden
    return size.image_tokens * (size.vision_layers * block + ends)


def until_end(ids: Sequence[int]) -> list[int]:
    """Returns an answer up to its end, at most MIXED_NEW tokens."""
    kept = list(ids)[:MIXED_NEW]
    return kept[: kept.index(END) + 1] if END in kept else kept


def write_data(file: Path, size: Size, rows: int) -> None:
    """Writes what `make_data` makes."""
    np.savez(file, **make_data(size, rows))  # pyright: ignore[reportArgumentType]


def make_data(size: Size, rows: int) -> dict[str, np.ndarray]:
    """Returns a batch, the same each time.

    "images" (rows, image, image, 3) uint8, "prompts" (rows, PROMPT) and "answers" (rows, 5, TARGET) int32; "mixed"
    (rows, MIXED_PROMPT) int32, prompts of "lengths" (rows,) tokens with zeros behind.
    """
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, MIXED_PROMPT + 1, rows)
    mixed = rng.integers(FIRST_TEXT, size.vocabulary - 10, (rows, MIXED_PROMPT)).astype(np.int32)
    mixed[np.arange(MIXED_PROMPT) >= lengths[:, None]] = 0
    return {
        "lengths": lengths,
        "mixed": mixed,
        "images": rng.integers(0, 256, (rows, size.image, size.image, 3), np.uint8),
        "prompts": rng.integers(FIRST_TEXT, size.vocabulary - 10, (rows, PROMPT)).astype(np.int32),
        "answers": rng.integers(FIRST_TEXT, size.vocabulary - 10, (rows, 5, TARGET)).astype(np.int32),
    }
