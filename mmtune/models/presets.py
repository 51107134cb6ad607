"""The published sizes of pretrained models, so that they can be planned without a network.

Numbers of the models' own configurations (config.json); vision tower: SigLIP So400m with patches of 14 pixels.
"""

import re
from typing import Any

from mmtune.models.spec import ModelSpec, RopeSpec, TextSpec, VisionSpec

# layers, query heads, key and value heads, width, hidden units of the MLP, width of a head
_GEMMA = {
    "gemma_2b": (18, 8, 1, 2048, 16384, 256),
    "gemma_7b": (28, 16, 16, 3072, 24576, 256),
    "gemma2_2b": (26, 8, 4, 2304, 9216, 256),
    "gemma2_9b": (42, 16, 8, 3584, 14336, 256),
    "gemma2_27b": (46, 32, 16, 4608, 36864, 128),
}
# the same; KerasHub keeps an output embedding of its own for all of them, whether it equals the input's or not
_LLAMA = {
    "llama3_8b": (32, 32, 8, 4096, 14336, 128),
    "llama3.1_8b": (32, 32, 8, 4096, 14336, 128),
    "llama3.2_1b": (16, 32, 8, 2048, 8192, 64),
    "llama3.2_3b": (28, 24, 8, 3072, 8192, 128),
}
_PALI = {
    "pali_gemma_3b": "gemma_2b",
    "pali_gemma2_3b": "gemma2_2b",
    "pali_gemma2_10b": "gemma2_9b",
    "pali_gemma2_28b": "gemma2_27b",
}
_OTHER_NAMES = {
    "paligemma": "pali_gemma",
    "code_gemma": "gemma",
    "codegemma": "gemma",
    "shieldgemma": "gemma2",
    "c2s_scale_": "",
    "meta_": "",
    "llama_3": "llama3",
}
_VARIANTS = r"instruct|it|mix|pt|ft|docci|1\.1|guard|en|int8|224|448|896"
_VOCABULARY = {"gemma": 256_000, "paligemma": 257_152, "llama": 128_256}
_WINDOW = 4096


def preset_spec(name: str) -> ModelSpec | None:
    """Returns the description of a pretrained model by its name in KerasHub or on the hub; None for other names.

    Variants that differ in their weights alone share a description: "gemma2_instruct_9b_en" is Gemma 2 9B, and so is
    "google/gemma-2-9b-it".
    """
    plain = name.lower().rsplit("/", 1)[-1].replace("-", "_").replace("gemma_2_", "gemma2_")
    for said, means in _OTHER_NAMES.items():
        plain = plain.replace(said, means)
    size = re.search(r"_(224|448|896)(_|$)", plain)
    plain = re.sub(rf"_({_VARIANTS})(?=_|$)", "", plain)
    if plain in _PALI:
        text = _gemma(_PALI[plain], "paligemma")
        return ModelSpec("paligemma", text, VisionSpec(int(size[1]) if size else 224, 14, 1152, 27, 16, 4304))
    if plain in _GEMMA:
        return ModelSpec("gemma", _gemma(plain, "gemma"))
    if plain in _LLAMA:
        return ModelSpec("llama", _llama(plain))
    return None


def _gemma(name: str, family: str) -> TextSpec:
    layers, heads, kv_heads, width, hidden, head = _GEMMA[name]
    second = name.startswith("gemma2")
    return TextSpec(
        **_sizes(_VOCABULARY[family], layers, heads, kv_heads, width, hidden, head),
        norm_epsilon=1e-6,
        norm_offset=1.0,
        # Gemma 2 27B scales by the width of a head if all of the model's width were divided over the heads.
        query_scale=(width / heads if name == "gemma2_27b" else head) ** -0.5,
        attention_softcap=50.0 if second else None,
        final_softcap=30.0 if second else None,
        windows=tuple(_WINDOW if second and index % 2 == 0 else None for index in range(layers)),
        post_norms=second,
        embedding_scale=width**0.5,
        rope=RopeSpec(),
        activation="gelu",
        tied=True,
        bidirectional_prefix=family == "paligemma",
        head_first=True,
    )


def _llama(name: str) -> TextSpec:
    layers, heads, kv_heads, width, hidden, head = _LLAMA[name]
    stretched = {"low_frequency": 1.0, "high_frequency": 4.0, "pretraining_length": 8192}
    factor = {"llama3.1_8b": 8.0, "llama3.2_1b": 32.0, "llama3.2_3b": 32.0}.get(name)
    return TextSpec(
        **_sizes(_VOCABULARY["llama"], layers, heads, kv_heads, width, hidden, head),
        norm_epsilon=1e-5,
        norm_offset=0.0,
        query_scale=head**-0.5,
        attention_softcap=None,
        final_softcap=None,
        windows=(None,) * layers,
        post_norms=False,
        embedding_scale=1.0,
        rope=RopeSpec(500_000.0) if factor is None else RopeSpec(500_000.0, factor=factor, **stretched),
        activation="silu",
        tied=False,
        bidirectional_prefix=False,
        head_first=False,
    )


def _sizes(
    vocabulary: int, layers: int, heads: int, kv_heads: int, width: int, hidden: int, head: int
) -> dict[str, Any]:
    return {
        "vocabulary_size": vocabulary,
        "hidden_dim": width,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head,
        "mlp_dim": hidden,
    }
