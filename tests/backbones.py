"""Small random backbones of every family, built from KerasHub's own classes."""

import numpy as np

from mmtune.models.build import without_values

GEMMA = {
    "vocabulary_size": 256,
    "num_layers": 2,
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
    llama = type(backbone).__name__.startswith("Llama")
    for variable in backbone.weights:
        shape = variable.shape
        if len(shape) == 1:
            middle, spread = float(variable.name == "gamma" or (llama and variable.name == "scale")), 0.3
        else:
            middle, spread = 0.0, 0.9 * max(np.sqrt(2 / (np.prod(shape[:-1]) + shape[-1])), 0.05)
        variable.assign(rng.normal(middle, spread, shape).astype("float32"))
    # A final norm of random sign: with tied embeddings the likeliest next token would else be the same one again.
    backbone.layer_norm.scale.assign(rng.normal(0, 1, backbone.hidden_dim).astype("float32") - (not llama))
    return backbone


def make(family, **changes):
    """Returns a random backbone: paligemma, paligemma2, gemma, gemma2 or llama3."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    settings, cls = dict(GEMMA), keras_hub.models.GemmaBackbone
    if family == "llama3":
        settings |= {"hidden_dim": 64, "rope_max_wavelength": 500}
        del settings["head_dim"]
        cls = keras_hub.models.Llama3Backbone
    if family.endswith("2"):
        settings |= GEMMA_2
    if family.startswith("pali"):
        settings |= VISION | {"num_key_value_heads": 1}
        cls = keras_hub.models.PaliGemmaBackbone
    # To draw Keras' own first values a program is compiled for each shape, for longer than most tests take.
    with without_values():
        backbone = cls(**(settings | changes))
    return randomise(backbone)
