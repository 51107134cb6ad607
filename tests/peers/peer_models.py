"""Small random models of transformers, their weights copied by hand into KerasHub backbones of the same sizes."""

import numpy as np
import torch
from backbones import make

from benchmarks.fidelity.models import IMAGE_TOKEN, LLAMA_3_1_ROPE, LLAMA_ROPE, build, randomise

__all__ = ["IMAGE_TOKEN", "KERAS_LLAMA_3_1", "LLAMA_3_1_ROPE", "LLAMA_ROPE", "build", "pair", "randomise"]

KERAS_LLAMA_3_1 = {
    "rope_frequency_adjustment_factor": 8.0,
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "rope_pretraining_sequence_length": 64,
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
    backbone = make(family, **({"num_layers": 4} | (keras or {})))
    copy(theirs, backbone)
    return theirs, backbone


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
