"""Small random backbones of every family, built from KerasHub's own classes."""

import numpy as np

GEMMA = {
    "vocabulary_size": 256,
    "num_layers": 4,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 48,
    "intermediate_dim": 128,
    "head_dim": 16,
}
GEMMA_2 = {
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "attention_logit_soft_cap": 5.0,
    "final_logit_soft_cap": 3.0,
    "use_sliding_window_attention": True,
    "sliding_window_size": 5,
}
VISION = {
    "image_size": 28,
    "vit_patch_size": 14,
    "vit_num_heads": 2,
    "vit_hidden_dim": 32,
    "vit_num_layers": 2,
    "vit_intermediate_dim": 64,
}


def randomise(backbone, seed=0):
    """Gives every weight values of a trained model's size: fresh norms and biases are constants that hide faults."""
    rng = np.random.default_rng(seed)
    for variable in backbone.weights:
        value = np.asarray(variable)
        spread = 0.3 if value.ndim == 1 else 0.9 * max(value.std(), 0.05)
        variable.assign(value * (value.ndim == 1) + rng.normal(0, spread, value.shape).astype("float32"))
    # A final norm of random sign: with tied embeddings the likeliest next token would else be the same one again.
    offset = 0.0 if type(backbone).__name__.startswith("Llama") else 1.0
    backbone.layer_norm.scale.assign(rng.normal(0, 1, backbone.hidden_dim).astype("float32") - offset)
    return backbone


def make(family, **changes):
    """Returns a random backbone: paligemma, paligemma2, gemma, gemma2 or llama3."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    if family == "llama3":
        settings = {k: v for k, v in GEMMA.items() if k != "head_dim"} | {"hidden_dim": 64, "rope_max_wavelength": 500}
        return randomise(keras_hub.models.Llama3Backbone(**(settings | changes)))
    settings = dict(GEMMA)
    if family.endswith("2"):
        settings |= GEMMA_2
    if family.startswith("pali"):
        settings |= VISION | {"num_key_value_heads": 1}
        return randomise(keras_hub.models.PaliGemmaBackbone(**(settings | changes)))
    return randomise(keras_hub.models.GemmaBackbone(**(settings | changes)))
