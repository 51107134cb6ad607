"""Small random models of transformers, and their weights copied by hand into KerasHub backbones."""

import numpy as np
import torch
from backbones import GEMMA, GEMMA_2, VISION, make
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
)

IMAGE_TOKEN = 255
LLAMA_ROPE = {"rope_type": "default", "rope_theta": 500.0}
# Long wavelengths must lie on both sides of 64 / 1 and 64 / 4 tokens, so that all three branches are taken.
LLAMA_3_1_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
KERAS_LLAMA_3_1 = {
    "rope_frequency_adjustment_factor": 8.0,
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "rope_pretraining_sequence_length": 64,
}
_TEXT = {
    "vocab_size": 256,
    "num_hidden_layers": GEMMA["num_layers"],
    "num_attention_heads": GEMMA["num_query_heads"],
    "num_key_value_heads": GEMMA["num_key_value_heads"],
    "hidden_size": GEMMA["hidden_dim"],
    "intermediate_size": GEMMA["intermediate_dim"] // 2,
    "head_dim": GEMMA["head_dim"],
    "attn_implementation": "eager",
}
_TEXT_2 = {
    "query_pre_attn_scalar": GEMMA["head_dim"],
    "attn_logit_softcapping": GEMMA_2["attention_logit_soft_cap"],
    "final_logit_softcapping": GEMMA_2["final_logit_soft_cap"],
    "sliding_window": GEMMA_2["sliding_window_size"],
}
_VISION = {
    "model_type": "siglip_vision_model",
    "image_size": VISION["image_size"],
    "patch_size": VISION["vit_patch_size"],
    "num_attention_heads": VISION["vit_num_heads"],
    "hidden_size": VISION["vit_hidden_dim"],
    "num_hidden_layers": VISION["vit_num_layers"],
    "intermediate_size": VISION["vit_intermediate_dim"],
    "vision_use_head": False,
    "attn_implementation": "eager",
}


def pair(family, keras=None, **changes):
    """Returns a random transformers model in eval mode and a KerasHub backbone with the same weights.

    Args:
        family: paligemma, paligemma2, gemma, gemma2 or llama3.
        keras: Changes to the backbone's arguments.
        **changes: Changes to the text configuration of transformers.
    """
    torch.manual_seed(0)
    theirs = randomise(build(family, changes)).eval()
    backbone = make(family, **(keras or {}))
    copy(theirs, backbone)
    return theirs, backbone


def build(family, changes):
    """Returns the transformers model of a family in float32 with eager attention."""
    if family == "gemma":
        return GemmaForCausalLM(GemmaConfig(**(_TEXT | changes)))
    if family == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**(_TEXT | _TEXT_2 | changes)))
    if family == "llama3":
        llama = {"hidden_size": 64, "intermediate_size": 128, "rms_norm_eps": 1e-6, "rope_parameters": LLAMA_ROPE}
        return LlamaForCausalLM(LlamaConfig(**(_TEXT | llama | changes)))
    text = _TEXT | {"num_key_value_heads": 1, "model_type": "gemma"}
    if family == "paligemma2":
        text |= _TEXT_2 | {"model_type": "gemma2"}
    config = PaliGemmaConfig(
        text_config=text | changes,
        vision_config=_VISION,
        image_token_index=IMAGE_TOKEN,
        projection_dim=_TEXT["hidden_size"],
        hidden_size=_TEXT["hidden_size"],
        attn_implementation="eager",
    )
    return PaliGemmaForConditionalGeneration(config)


def randomise(model, seed=0):
    """Gives every weight values of a trained model's size, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            fresh = torch.randn(value.shape, generator=generator)
            norm = value.ndim == 1 and name.endswith("weight")
            spread = 0.3 if value.ndim == 1 else 0.9 * max(float(value.std()), 0.05)
            centre = value if norm else torch.zeros(())
            value.copy_(centre + spread * fresh)
    return model


def copy(model, backbone):
    """Copies every weight of a transformers model; fails when one is left over on either side."""
    source = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    if backbone.token_embedding.tie_weights:
        head, embedding = source.pop("lm_head.weight"), next(n for n in source if n.endswith("embed_tokens.weight"))
        assert np.array_equal(head, source[embedding])
    filled = []

    def put(variable, name, *turn):
        value = source.pop(name)
        for step in turn:
            value = step(value)
        assert value.shape == tuple(variable.shape), (name, value.shape, variable.path, variable.shape)
        variable.assign(value)
        filled.append(variable.path)

    text = "model.language_model" if any(n.startswith("model.language_model") for n in source) else "model"
    put(backbone.token_embedding.embeddings, f"{text}.embed_tokens.weight")
    if not backbone.token_embedding.tie_weights:
        put(backbone.token_embedding.reverse_embeddings, "lm_head.weight", np.transpose)
    put(backbone.layer_norm.scale, f"{text}.norm.weight")
    fill = _llama_layer if type(backbone).__name__.startswith("Llama") else _gemma_layer
    for index, layer in enumerate(backbone.transformer_layers):
        fill(put, layer, f"{text}.layers.{index}")
    if text == "model.language_model":
        _tower(put, backbone.vit_encoder)
    assert not source, f"left over: {sorted(source)}"
    assert sorted(filled) == sorted(v.path for v in backbone.weights)


def _gemma_layer(put, layer, path):
    """KerasHub: query, key, value (heads, hidden, head_dim), output (heads, head_dim, hidden)."""
    attention = layer.attention

    def heads(value):  # (heads * head_dim, hidden)
        return value.reshape(-1, layer.head_dim, value.shape[1]).transpose(0, 2, 1)

    put(attention.query_dense.kernel, f"{path}.self_attn.q_proj.weight", heads)
    put(attention.key_dense.kernel, f"{path}.self_attn.k_proj.weight", heads)
    put(attention.value_dense.kernel, f"{path}.self_attn.v_proj.weight", heads)
    output = attention.output_dense.kernel
    put(output, f"{path}.self_attn.o_proj.weight", np.transpose, lambda v: v.reshape(output.shape))
    put(layer.gating_ffw.kernel, f"{path}.mlp.gate_proj.weight", np.transpose)
    put(layer.gating_ffw_2.kernel, f"{path}.mlp.up_proj.weight", np.transpose)
    put(layer.ffw_linear.kernel, f"{path}.mlp.down_proj.weight", np.transpose)
    put(layer.pre_attention_norm.scale, f"{path}.input_layernorm.weight")
    if layer.use_post_attention_norm:
        put(layer.post_attention_norm.scale, f"{path}.post_attention_layernorm.weight")
        put(layer.pre_ffw_norm.scale, f"{path}.pre_feedforward_layernorm.weight")
        put(layer.post_ffw_norm.scale, f"{path}.post_feedforward_layernorm.weight")
    else:
        put(layer.pre_ffw_norm.scale, f"{path}.post_attention_layernorm.weight")


def _llama_layer(put, layer, path):
    """KerasHub: query, key, value (hidden, heads, head_dim), output (heads, head_dim, hidden)."""
    attention = layer._self_attention_layer
    for dense, name in (
        (attention._query_dense, "q_proj"),
        (attention._key_dense, "k_proj"),
        (attention._value_dense, "v_proj"),
        (attention._output_dense, "o_proj"),
    ):
        shape = dense.kernel.shape
        put(dense.kernel, f"{path}.self_attn.{name}.weight", np.transpose, lambda v, s=shape: v.reshape(s))
    put(layer._feedforward_gate_dense.kernel, f"{path}.mlp.gate_proj.weight", np.transpose)
    put(layer._feedforward_intermediate_dense.kernel, f"{path}.mlp.up_proj.weight", np.transpose)
    put(layer._feedforward_output_dense.kernel, f"{path}.mlp.down_proj.weight", np.transpose)
    put(layer._self_attention_layernorm.scale, f"{path}.input_layernorm.weight")
    put(layer._feedforward_layernorm.scale, f"{path}.post_attention_layernorm.weight")


def _tower(put, tower):
    encoder, path = tower.get_layer("image_encoder"), "model.vision_tower"
    patch = encoder.vision_embeddings.patch_embedding
    put(patch.kernel, f"{path}.embeddings.patch_embedding.weight", lambda v: v.transpose(2, 3, 1, 0))
    put(patch.bias, f"{path}.embeddings.patch_embedding.bias")
    put(encoder.vision_embeddings.position_embedding.embeddings, f"{path}.embeddings.position_embedding.weight")
    for index, block in enumerate(encoder.resblocks):
        for dense, name in (
            (block.attn.query_proj, "self_attn.q_proj"),
            (block.attn.key_proj, "self_attn.k_proj"),
            (block.attn.value_proj, "self_attn.v_proj"),
            (block.attn.out_proj, "self_attn.out_proj"),
            (block.mlp_dense_1, "mlp.fc1"),
            (block.mlp_dense_2, "mlp.fc2"),
        ):
            _dense(put, dense, f"{path}.encoder.layers.{index}.{name}")
        _norm(put, block.layer_norm_1, f"{path}.encoder.layers.{index}.layer_norm1")
        _norm(put, block.layer_norm_2, f"{path}.encoder.layers.{index}.layer_norm2")
    _norm(put, encoder.encoder_layer_norm, f"{path}.post_layernorm")
    _dense(put, tower.get_layer("image_classifier"), "model.multi_modal_projector.linear")


def _dense(put, layer, path):
    put(layer.kernel, f"{path}.weight", np.transpose)
    put(layer.bias, f"{path}.bias")


def _norm(put, layer, path):
    put(layer.gamma, f"{path}.weight")
    put(layer.beta, f"{path}.bias")
