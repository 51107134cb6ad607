"""The variables of a KerasHub backbone as plain trees, under the names of the passes that read them."""

from typing import Any

Tree = dict[str, Any]


def text_variables(backbone: Any) -> Tree:
    """Returns the decoder's variables.

    Returns:
        {"embedding": (vocabulary, hidden), "head": (hidden, vocabulary) or None, "norm": (hidden,),
        "layers": [{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "attention_norm",
        "mlp_norm", "post_attention_norm" or None, "post_mlp_norm" or None}]}, Keras variables in KerasHub's shapes.
    """
    embedding = backbone.token_embedding
    read = _gemma_layer if hasattr(backbone, "head_dim") else _llama_layer
    return {
        "embedding": embedding.embeddings,
        "head": None if embedding.tie_weights else embedding.reverse_embeddings,
        "norm": backbone.layer_norm.scale,
        "layers": [read(layer) for layer in backbone.transformer_layers],
    }


def vision_variables(tower: Any) -> Tree:
    """Returns the vision tower's variables, each dense layer as {"kernel", "bias"}, each norm as {"scale", "bias"}."""
    encoder = tower.get_layer("image_encoder")
    embeddings = encoder.vision_embeddings
    return {
        "patch": _dense(embeddings.patch_embedding),
        "positions": embeddings.position_embedding.embeddings,
        "norm": _norm(encoder.encoder_layer_norm),
        "projector": _dense(tower.get_layer("image_classifier")),
        "layers": [
            {
                "attention_norm": _norm(block.layer_norm_1),
                "q_proj": _dense(block.attn.query_proj),
                "k_proj": _dense(block.attn.key_proj),
                "v_proj": _dense(block.attn.value_proj),
                "out_proj": _dense(block.attn.out_proj),
                "mlp_norm": _norm(block.layer_norm_2),
                "fc1": _dense(block.mlp_dense_1),
                "fc2": _dense(block.mlp_dense_2),
            }
            for block in encoder.resblocks
        ],
    }


def values(variables: Any) -> Any:
    """Returns the same tree with each Keras variable replaced by its current JAX array.

    Inside Keras' stateless scope (a training step) these are the step's traced values.
    """
    import jax

    return jax.tree.map(lambda variable: variable.value, variables)


def model_variables(backbone: Any) -> Tree:
    """Returns {"text": ..., "vision": ... or None} of a backbone."""
    tower = getattr(backbone, "vit_encoder", None)
    return {"text": text_variables(backbone), "vision": vision_variables(tower) if tower is not None else None}


def _gemma_layer(layer: Any) -> Tree:
    attention = layer.attention
    return {
        "attention_norm": layer.pre_attention_norm.scale,
        "q_proj": attention.query_dense.kernel,
        "k_proj": attention.key_dense.kernel,
        "v_proj": attention.value_dense.kernel,
        "o_proj": attention.output_dense.kernel,
        "post_attention_norm": layer.post_attention_norm.scale if layer.use_post_attention_norm else None,
        "mlp_norm": layer.pre_ffw_norm.scale,
        "gate_proj": layer.gating_ffw.kernel,
        "up_proj": layer.gating_ffw_2.kernel,
        "down_proj": layer.ffw_linear.kernel,
        "post_mlp_norm": layer.post_ffw_norm.scale if layer.use_post_ffw_norm else None,
    }


def _llama_layer(layer: Any) -> Tree:
    attention = layer._self_attention_layer
    return {
        "attention_norm": layer._self_attention_layernorm.scale,
        "q_proj": attention._query_dense.kernel,
        "k_proj": attention._key_dense.kernel,
        "v_proj": attention._value_dense.kernel,
        "o_proj": attention._output_dense.kernel,
        "post_attention_norm": None,
        "mlp_norm": layer._feedforward_layernorm.scale,
        "gate_proj": layer._feedforward_gate_dense.kernel,
        "up_proj": layer._feedforward_intermediate_dense.kernel,
        "down_proj": layer._feedforward_output_dense.kernel,
        "post_mlp_norm": None,
    }


def _dense(layer: Any) -> Tree:
    return {"kernel": layer.kernel, "bias": layer.bias}


def _norm(layer: Any) -> Tree:
    return {"scale": layer.gamma, "bias": layer.beta}
