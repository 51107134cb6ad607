"""The fields of a GGUF header that change what a model computes: each is read, or has a value that changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError

_READ = {
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",  # as llama.cpp called the factor at first
}
_READ_OF_GEMMA_2 = {"attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"}
# Of no effect on what is computed.
_UNUSED = {"context_length", "vocab_size", "rope.scaling.finetuned", "rope.scaling.original_context_length"}
# Values with which a field changes nothing. Any other field, known to llama.cpp or not, is refused.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tensor_data_layout": ("Meta AI original pth",),  # what converters write of every Llama
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "pooling_type": (0,),
    "rope.scaling.attn_factor": (1.0,),
    "use_parallel_residual": (False,),
}


def check_fields(path: Path, family: str, fields: Mapping[str, Any], head_dim: int, query_scale: float) -> None:
    """Raises a ModelError for fields of a family whose values would change what is computed; names each.

    Args:
        path: The file, for messages.
        family: The architecture, with which the names of its fields begin.
        fields: The header's.
        head_dim: Width of a head, all of which is rotated.
        query_scale: What queries are multiplied by.
    """
    neutral = _NEUTRAL | {
        "rope.dimension_count": (head_dim,),
        "attention.value_length": (head_dim,),
        "attention.scale": (float(np.float32(query_scale)), 0.0),
    }
    read = _READ | _UNUSED
    if family == "gemma2":
        read |= _READ_OF_GEMMA_2
        neutral["attention.sliding_window_pattern"] = (2,)
    problems = []
    for key, value in fields.items():
        name = key.removeprefix(f"{family}.")
        if name == key or name in read:
            continue
        if name not in neutral:
            problems.append(f"{key} = {str(value)[:80]} is not known here, it may change what the model computes")
        elif value not in neutral[name]:
            expected = " or ".join(map(str, neutral[name]))
            problems.append(f"{key} = {str(value)[:80]} is not supported: expected {expected}")
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}")


def linear_factor(path: Path, family: str, fields: Mapping[str, Any]) -> float:
    """Returns by what positions are divided before they are rotated.

    As llama.cpp reads it, a file that gives a factor and no type means linear scaling, and a factor of 0 none.

    Raises:
        ModelError: For another type of scaling, or a factor that cannot be; names the field.
    """
    at = f"{family}.rope.scaling"
    kind = fields.get(f"{at}.type", "linear")
    if kind not in ("none", "linear"):
        factor = fields.get(f"{at}.factor")
        told = "" if factor is None else f" with {at}.factor = {str(factor)[:80]}"
        raise ModelError(f"{path}: {at}.type = {str(kind)[:80]}{told} is not supported: expected none or linear")
    key = f"{at}.factor" if f"{at}.factor" in fields else f"{family}.rope.scale_linear"
    factor = fields.get(key, 0.0)
    if type(factor) not in (int, float) or not 0 <= factor < 1e30:
        raise ModelError(f"{path}: {key}: expected a number from 0, found {str(factor)[:80]}")
    return 1.0 if kind == "none" or factor == 0 else float(str(np.float32(factor)))
