"""What differs between the model families, as a small frozen description read off a KerasHub backbone."""

from dataclasses import dataclass
from typing import Any, Literal

from mmtune.errors import ModelError


@dataclass(frozen=True)
class RopeSpec:
    """Rotary positions: wavelength base, and Llama 3.1's stretching of long wavelengths (all None: not stretched)."""

    theta: float = 10_000.0
    linear_factor: float = 1.0
    factor: float | None = None
    low_frequency: float | None = None
    high_frequency: float | None = None
    pretraining_length: int | None = None


@dataclass(frozen=True)
class TextSpec:
    """The decoder of Gemma 1, Gemma 2, PaliGemma's language model or Llama 3.

    Attributes:
        norm_offset: RMS normalisation multiplies by (offset + scale): 1 in Gemma, 0 in Llama.
        query_scale: What queries are multiplied by before the product with keys.
        attention_softcap, final_softcap: `cap * tanh(x / cap)` on attention and vocabulary logits; None: none.
        windows: For each layer, how far a query sees in both directions (distance < window); None: everything.
        post_norms: Whether attention and MLP outputs are normalised too (Gemma 2).
        embedding_scale: Factor on token embeddings.
        tied: Whether the vocabulary product uses the token embeddings.
        bidirectional_prefix: Whether prefix tokens see each other in full (PaliGemma) or causally.
        head_first: Whether query, key and value kernels are stored (heads, hidden, head_dim), as KerasHub's Gemma
            does, or (hidden, heads, head_dim), as its Llama does.
    """

    vocabulary_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    norm_epsilon: float
    norm_offset: float
    query_scale: float
    attention_softcap: float | None
    final_softcap: float | None
    windows: tuple[int | None, ...]
    post_norms: bool
    embedding_scale: float
    rope: RopeSpec
    activation: Literal["gelu", "silu"]
    tied: bool
    bidirectional_prefix: bool
    head_first: bool


@dataclass(frozen=True)
class VisionSpec:
    """PaliGemma's vision tower (SigLIP).

    Attributes:
        mean, std: What is taken off colours in 0..1, and what they are divided by then.
        resample: How pictures are brought to its size, always with antialiasing: a key of
            `mmtune.data.pixels.RESAMPLING`.
        draft: Whether JPEG files are decoded at a fraction of their size first.
    """

    image_size: int
    patch_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    norm_epsilon: float = 1e-6
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    draft: bool = False

    @property
    def num_tokens(self) -> int:
        """How many image tokens stand before the text."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class ModelSpec:
    """A whole model; `vision` is None for the text families."""

    family: Literal["paligemma", "gemma", "llama"]
    text: TextSpec
    vision: VisionSpec | None = None

    @property
    def image_tokens(self) -> int:
        """Number of image tokens before the text, 0 for text models."""
        return self.vision.num_tokens if self.vision else 0


_CLASSES: dict[str, Literal["paligemma", "gemma", "llama"]] = {
    "PaliGemmaBackbone": "paligemma",
    "GemmaBackbone": "gemma",
    "LlamaBackbone": "llama",
}


def read_spec(backbone: Any) -> ModelSpec:
    """Returns the description of a KerasHub backbone.

    Args:
        backbone: A `PaliGemmaBackbone`, `GemmaBackbone` or `Llama3Backbone` (or `LlamaBackbone`).

    Raises:
        ModelError: For a backbone of another class, or with settings that the forward pass does not compute.
    """
    family = check_class(type(backbone))
    if family == "llama":
        return ModelSpec("llama", _llama(backbone))
    if family == "gemma":
        return ModelSpec("gemma", _gemma(backbone, bidirectional=False))
    return ModelSpec("paligemma", _gemma(backbone, bidirectional=True), _vision(backbone.vit_encoder))


def check_class(backbone: type) -> Literal["paligemma", "gemma", "llama"]:
    """Returns the family of a class of KerasHub's backbones.

    Raises:
        ModelError: When it is of none.
    """
    kinds = {cls.__name__ for cls in backbone.__mro__}
    for name, family in _CLASSES.items():
        if name in kinds:
            return family
    raise ModelError(
        f"a backbone of class {backbone.__name__} is not supported: "
        "expected a PaliGemma, Gemma, Gemma 2, CodeGemma or Llama 3 backbone of KerasHub"
    )


def _gemma(backbone: Any, bidirectional: bool) -> TextSpec:
    # Gemma 2 27B divides by the square root of hidden_dim / heads (144), the others by that of head_dim. KerasHub
    # keeps the flag on the backbone but its decoder block ignores it.
    if bool(backbone.use_post_attention_norm) != bool(backbone.use_post_ffw_norm):
        raise ModelError(
            f"use_post_attention_norm = {backbone.use_post_attention_norm} with use_post_ffw_norm = "
            f"{backbone.use_post_ffw_norm} is not supported: expected both or neither"
        )
    head_dim, heads = backbone.head_dim, backbone.num_query_heads
    width = head_dim if backbone.query_head_dim_normalize else backbone.hidden_dim // heads
    window = backbone.sliding_window_size if backbone.use_sliding_window_attention else None
    return TextSpec(
        vocabulary_size=backbone.vocabulary_size,
        hidden_dim=backbone.hidden_dim,
        num_layers=backbone.num_layers,
        num_heads=heads,
        num_kv_heads=backbone.num_key_value_heads,
        head_dim=head_dim,
        mlp_dim=backbone.intermediate_dim // 2,
        norm_epsilon=backbone.layer_norm_epsilon,
        norm_offset=1.0,
        query_scale=width**-0.5,
        attention_softcap=backbone.attention_logit_soft_cap,
        final_softcap=backbone.final_logit_soft_cap,
        windows=tuple(window if i % 2 == 0 else None for i in range(backbone.num_layers)),
        post_norms=bool(backbone.use_post_attention_norm),
        embedding_scale=backbone.hidden_dim**0.5,
        rope=RopeSpec(),
        activation="gelu",
        tied=True,
        bidirectional_prefix=bidirectional,
        head_first=True,
    )


def _llama(backbone: Any) -> TextSpec:
    head_dim = backbone.hidden_dim // backbone.num_query_heads
    return TextSpec(
        vocabulary_size=backbone.vocabulary_size,
        hidden_dim=backbone.hidden_dim,
        num_layers=backbone.num_layers,
        num_heads=backbone.num_query_heads,
        num_kv_heads=backbone.num_key_value_heads,
        head_dim=head_dim,
        mlp_dim=backbone.intermediate_dim,
        norm_epsilon=backbone.layer_norm_epsilon,
        norm_offset=0.0,
        query_scale=head_dim**-0.5,
        attention_softcap=None,
        final_softcap=None,
        windows=(None,) * backbone.num_layers,
        post_norms=False,
        embedding_scale=1.0,
        rope=RopeSpec(
            theta=backbone.rope_max_wavelength,
            linear_factor=backbone.rope_position_scaling_factor,
            factor=backbone.rope_frequency_adjustment_factor,
            low_frequency=backbone.rope_low_freq_factor,
            high_frequency=backbone.rope_high_freq_factor,
            pretraining_length=backbone.rope_pretraining_sequence_length,
        ),
        activation="silu",
        tied=backbone.tie_word_embeddings,
        bidirectional_prefix=False,
        head_first=False,
    )


def _vision(tower: Any) -> VisionSpec:
    activation = getattr(tower.classifier_activation, "__name__", tower.classifier_activation)
    if activation not in (None, "linear"):
        raise ModelError(f"vit_classifier_activation = {activation} is not supported: expected linear")
    return VisionSpec(
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        hidden_dim=tower.hidden_dim,
        num_layers=tower.num_layers,
        num_heads=tower.num_heads,
        mlp_dim=tower.intermediate_dim,
    )
