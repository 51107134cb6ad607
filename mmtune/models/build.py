"""A KerasHub backbone from our description of a model, without values in its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmtune.models.spec import ModelSpec, TextSpec, VisionSpec


def build_backbone(spec: ModelSpec, dtype: str, name: str | None = None) -> Any:
    """Returns a backbone whose variables have shapes and dtypes but no values: no memory, whatever its size.

    What KerasHub's classes cannot say (a query scale of its own, another rotary base for Gemma, layers with windows in
    another order) is said by the description alone, by which the forward pass goes.

    Args:
        spec: The description.
        dtype: Of the variables.
        name: Of the backbone.
    """
    import keras_hub

    options: dict[str, Any] = {"dtype": dtype} if name is None else {"dtype": dtype, "name": name}
    with without_values():
        if spec.family == "llama":
            return keras_hub.models.Llama3Backbone(**_llama(spec.text), **options)
        if spec.vision is None:
            return keras_hub.models.GemmaBackbone(**_gemma(spec.text), **options)
        return keras_hub.models.PaliGemmaBackbone(**_gemma(spec.text), **_vision(spec.vision), **options)


@contextmanager
def without_values() -> Iterator[None]:
    """Lets variables be made that never get first values.

    Keras notes them down, to fill them all when the next layer of whatever model is built: there they are taken out.
    Where they will lie on a mesh is settled all the same, which Keras leaves to the first values.
    """
    import keras
    from keras.src.backend.common import global_state

    waiting: Any = global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before = len(waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
        for variable in waiting[before:]:
            variable._initialize_layout()
    finally:
        del waiting[before:]


def _sizes(text: TextSpec) -> dict[str, Any]:
    return {
        "vocabulary_size": text.vocabulary_size,
        "num_layers": text.num_layers,
        "num_query_heads": text.num_heads,
        "num_key_value_heads": text.num_kv_heads,
        "hidden_dim": text.hidden_dim,
        "layer_norm_epsilon": text.norm_epsilon,
    }


def _gemma(text: TextSpec) -> dict[str, Any]:
    window = next((width for width in text.windows if width is not None), None)
    return {
        **_sizes(text),
        "intermediate_dim": 2 * text.mlp_dim,
        "head_dim": text.head_dim,
        "query_head_dim_normalize": text.query_scale == text.head_dim**-0.5,
        "use_post_ffw_norm": text.post_norms,
        "use_post_attention_norm": text.post_norms,
        "attention_logit_soft_cap": text.attention_softcap,
        "final_logit_soft_cap": text.final_softcap,
        "use_sliding_window_attention": window is not None,
        "sliding_window_size": window or 4096,
    }


def _llama(text: TextSpec) -> dict[str, Any]:
    rope = text.rope
    return {
        **_sizes(text),
        "intermediate_dim": text.mlp_dim,
        "rope_max_wavelength": rope.theta,
        "rope_position_scaling_factor": rope.linear_factor,
        "rope_frequency_adjustment_factor": rope.factor,
        "rope_low_freq_factor": rope.low_frequency,
        "rope_high_freq_factor": rope.high_frequency,
        "rope_pretraining_sequence_length": rope.pretraining_length,
        "tie_word_embeddings": text.tied,
    }


def _vision(vision: VisionSpec) -> dict[str, Any]:
    return {
        "image_size": vision.image_size,
        "vit_patch_size": vision.patch_size,
        "vit_num_heads": vision.num_heads,
        "vit_hidden_dim": vision.hidden_dim,
        "vit_num_layers": vision.num_layers,
        "vit_intermediate_dim": vision.mlp_dim,
    }
