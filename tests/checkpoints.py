"""Checkpoints in Hugging Face's form, written by hand: file by file as transformers writes them."""

import json

import numpy as np
from backbones import make
from safetensors.numpy import save_file

from mmtune.models.hf_names import links
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables


def llama_config(spec):
    """Returns the `config.json` of a small Llama."""
    text = spec.text
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": text.vocabulary_size,
        "hidden_size": text.hidden_dim,
        "intermediate_size": text.mlp_dim,
        "num_hidden_layers": text.num_layers,
        "num_attention_heads": text.num_heads,
        "num_key_value_heads": text.num_kv_heads,
        "rms_norm_eps": text.norm_epsilon,
        "rope_theta": text.rope.theta,
        "tie_word_embeddings": text.tied,
    }


def write_llama(folder, vocabulary_size):
    """Writes a small random Llama without a vocabulary and returns its backbone."""
    backbone = make("llama3", vocabulary_size=vocabulary_size)
    spec = read_spec(backbone)
    tensors = {
        f"{'' if link.name.startswith('lm_head') else 'model.'}{link.name}": np.ascontiguousarray(
            link.write(np.asarray(link.leaf))
        )
        for link in links(spec, model_variables(backbone))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(llama_config(spec)))
    return backbone
