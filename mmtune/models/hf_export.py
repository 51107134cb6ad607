"""A model as a Hugging Face checkpoint: `config.json` and safetensors files, spelled as all versions read them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.files import save_tensors, write_json
from mmtune.models.folder_files import CONFIG, INDEX, SINGLE
from mmtune.models.hf_names import Link, links
from mmtune.models.safetensor_files import numpy_dtype
from mmtune.models.spec import ModelSpec, RopeSpec, TextSpec, VisionSpec
from mmtune.models.weights import Tree

SHARD = 5_000_000_000
"""Bytes of a file that are not exceeded unless one tensor alone is larger: transformers' own limit."""

_CLASSES = {
    "paligemma": "PaliGemmaForConditionalGeneration",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "llama": "LlamaForCausalLM",
}
_LENGTH = 8192  # positions that the families were trained on; nothing here depends on it


def config_of(spec: ModelSpec, dtype: str) -> dict[str, Any]:
    """Returns a model's `config.json`, from which `mmtune.models.hf_config.read_config` gives the description back.

    Args:
        spec: The description.
        dtype: Of the weights in the files.
    """
    if spec.vision is None:
        config = _llama(spec.text) if spec.family == "llama" else _gemma(spec.text)
        return {"architectures": [_CLASSES[config["model_type"]]], **config, "torch_dtype": dtype}
    return {
        "architectures": [_CLASSES["paligemma"]],
        "model_type": "paligemma",
        "text_config": _gemma(spec.text) | {"num_image_tokens": spec.image_tokens},
        "vision_config": _vision(spec.vision) | {"projection_dim": spec.text.hidden_dim},
        "hidden_size": spec.text.hidden_dim,
        "projection_dim": spec.text.hidden_dim,
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
    }


def write_checkpoint(
    folder: Path,
    spec: ModelSpec,
    variables: Tree,
    dtype: str,
    *,
    tokens: Mapping[str, int] | None = None,
    largest: int = SHARD,
) -> None:
    """Writes `config.json` and the weights: one file, or shards with their index.

    Args:
        folder: Exists already.
        spec: The description.
        variables: `model_variables`; one file's tensors at a time are held a second time.
        dtype: Of the weights in the files: "float32", "float16" or "bfloat16".
        tokens: Ids that `config.json` names: "bos_token_id", "image_token_index" and the like.
        largest: Most bytes of a file, unless one tensor alone is larger.
    """
    found = links(spec, variables)
    shards = list(_shards(found, numpy_dtype(dtype).itemsize, largest))
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {spelled(link.name, spec): _array(link, dtype) for link in shard}
        places |= dict.fromkeys(tensors, name)
        save_tensors(tensors, folder / name, {"format": "pt"})
    if len(shards) > 1:
        total = sum(_size(link, numpy_dtype(dtype).itemsize) for link in found)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))})
    write_json(folder / CONFIG, config_of(spec, dtype) | dict(tokens or {}))


def spelled(name: str, spec: ModelSpec) -> str:
    """Returns a weight's name as published checkpoints spell it: all versions of transformers read that.

    Args:
        name: As `mmtune.models.hf_names.canonical` spells it.
        spec: The description.
    """
    if name.startswith("lm_head."):
        return name
    if spec.vision is None:
        return f"model.{name}"
    for now, former in (("language_model.", "language_model.model."), ("vision_tower.", "vision_tower.vision_model.")):
        if name.startswith(now):
            return former + name.removeprefix(now)
    return name


def _gemma(text: TextSpec) -> dict[str, Any]:
    second = text.post_norms
    config = {
        "model_type": "gemma2" if second else "gemma",
        **_sizes(text),
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
    }
    if not second:
        return config
    window = next((width for width in text.windows if width is not None), None)
    types = ["full_attention" if width is None else "sliding_attention" for width in text.windows]
    return config | {
        "query_pre_attn_scalar": _whole(text.query_scale**-2),
        "attn_logit_softcapping": text.attention_softcap,
        "final_logit_softcapping": text.final_softcap,
        "sliding_window": window,
        "layer_types": types,
    }


def _llama(text: TextSpec) -> dict[str, Any]:
    return {
        "model_type": "llama",
        **_sizes(text),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def _sizes(text: TextSpec) -> dict[str, Any]:
    return {
        "vocab_size": text.vocabulary_size,
        "hidden_size": text.hidden_dim,
        "intermediate_size": text.mlp_dim,
        "num_hidden_layers": text.num_layers,
        "num_attention_heads": text.num_heads,
        "num_key_value_heads": text.num_kv_heads,
        "head_dim": text.head_dim,
        "rms_norm_eps": text.norm_epsilon,
        "rope_theta": text.rope.theta,
        "rope_scaling": _scaling(text.rope),
        "max_position_embeddings": _LENGTH,
        "tie_word_embeddings": text.tied,
    }


def _scaling(rope: RopeSpec) -> dict[str, Any] | None:
    if rope.factor is not None:
        return {
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low_frequency,
            "high_freq_factor": rope.high_frequency,
            "original_max_position_embeddings": rope.pretraining_length,
        }
    return None if rope.linear_factor == 1.0 else {"rope_type": "linear", "factor": rope.linear_factor}


def _vision(vision: VisionSpec) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_size": vision.hidden_dim,
        "intermediate_size": vision.mlp_dim,
        "num_hidden_layers": vision.num_layers,
        "num_attention_heads": vision.num_heads,
        "layer_norm_eps": vision.norm_epsilon,
        "num_image_tokens": vision.num_tokens,
        "vision_use_head": False,
    }


def _whole(value: float) -> int | float:
    """Returns a number that was meant whole as such: 143.99999999999997 is 144."""
    return round(value) if abs(value - round(value)) < 1e-6 * value else value


def _shards(found: Sequence[Link], item: int, largest: int) -> Iterator[list[Link]]:
    shard: list[Link] = []
    held = 0
    for link in found:
        if shard and held + _size(link, item) > largest:
            yield shard
            shard, held = [], 0
        shard.append(link)
        held += _size(link, item)
    yield shard


def _size(link: Link, item: int) -> int:
    return int(np.prod(link.shape, dtype=np.int64)) * item


def _array(link: Link, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(link.write(np.asarray(link.leaf)).astype(numpy_dtype(dtype), copy=False))
