"""Small random models as transformers writes them, and how likely each library finds the same answer.

Everything is imported where it is used: the names of the findings are known without the peers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

IMAGE_TOKEN = 256  # behind the vocabulary, as in the published checkpoints
SIDE = 28
TEXT = {
    "vocab_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 48,
    "intermediate_size": 64,
    "head_dim": 16,
    "attn_implementation": "eager",
}
SECOND = {
    "query_pre_attn_scalar": 16,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
    "sliding_window": 5,
}
VISION = {
    "model_type": "siglip_vision_model",
    "image_size": SIDE,
    "patch_size": 14,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "vision_use_head": False,
    "attn_implementation": "eager",
}
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

# What makes a random model as sure as a trained one: the deviation of the final norm's weights, and a factor on queries
# and keys, so that log-probabilities and attention are far from uniform.
_SURE, _SHARP = 8.0, 4.0


def build(family: str, changes: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> Any:
    """Returns a model of transformers in float32 with eager attention and its own first weights.

    Args:
        family: paligemma, paligemma2, gemma, gemma2 or llama3.
        changes: To the configuration of the text model.
        vision: To that of the vision tower.
    """
    import transformers as hf

    changes = changes or {}
    if family == "gemma":
        return hf.GemmaForCausalLM(hf.GemmaConfig(**(TEXT | changes)))
    if family == "gemma2":
        return hf.Gemma2ForCausalLM(hf.Gemma2Config(**(TEXT | SECOND | changes)))
    if family == "llama3":
        llama = {"hidden_size": 64, "intermediate_size": 128, "rms_norm_eps": 1e-6, "rope_parameters": LLAMA_ROPE}
        return hf.LlamaForCausalLM(hf.LlamaConfig(**(TEXT | llama | changes)))
    text: dict[str, Any] = TEXT | {"num_key_value_heads": 1, "model_type": "gemma"}
    if family == "paligemma2":
        text |= SECOND | {"model_type": "gemma2"}
    config = hf.PaliGemmaConfig(
        text_config=text | changes,
        vision_config=VISION | (vision or {}),
        image_token_index=IMAGE_TOKEN,
        projection_dim=TEXT["hidden_size"],
        hidden_size=TEXT["hidden_size"],
        attn_implementation="eager",
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def randomise(model: Any, seed: int = 0) -> Any:
    """Gives every weight values of a trained model's size, norms and biases included."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            fresh = torch.randn(value.shape, generator=generator)
            norm = value.ndim == 1 and name.endswith("weight")
            spread = 0.3 if value.ndim == 1 else 0.9 * max(float(value.std()), 0.05)
            centre = value if norm else torch.zeros(())
            value.copy_(centre + spread * fresh)
    return model


def made(family: str, changes: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> Any:
    """Returns the same random model whenever it is asked for, in eval mode; see `build`.

    It is as sure of its answers as a trained model is: a nearly uniform one would hide faults.
    """
    import torch

    torch.manual_seed(0)
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0} if family.endswith("2") else {}
    model = randomise(build(family, caps | (changes or {}), vision)).eval()
    base = getattr(model.model, "language_model", model.model)
    with torch.no_grad():
        base.norm.weight.copy_(_SURE * torch.randn(base.norm.weight.shape, generator=torch.Generator().manual_seed(5)))
        for layer in base.layers:
            layer.self_attn.q_proj.weight.mul_(_SHARP)
            layer.self_attn.k_proj.weight.mul_(_SHARP)
    return model


@contextmanager
def saved(model: Any) -> Iterator[Path]:
    """Writes a model as transformers does; the folder is gone afterwards."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        yield Path(folder)


@dataclass(frozen=True)
class Question:
    """A prompt and an answer whose likelihood is asked.

    Attributes:
        prompt, answer: Token ids.
        picture: (side, side, 3) float32 in -1..1 for models that see.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    picture: np.ndarray | None = None


def question(side: int | None = None, prompt: int = 24, answer: int = 8) -> Question:
    """Returns random ids, with a random picture where a side is given."""
    rng = np.random.default_rng(1)
    ids = rng.integers(3, 250, prompt + answer).tolist()
    picture = None if side is None else rng.uniform(-1, 1, (side, side, 3)).astype(np.float32)
    return Question(tuple(ids[:prompt]), tuple(ids[prompt:]), picture)


def _mean(logits: np.ndarray, asked: Question) -> float:
    """Returns nats per token of the answer, in float64; logits (prompt + answer, vocabulary)."""
    before = len(asked.prompt) - 1
    rows = np.asarray(logits, np.float64)[before : before + len(asked.answer)]
    likelihood = (
        rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1, keepdims=True)
    )
    return float(likelihood[np.arange(len(rows)), asked.answer].mean())


def by_transformers(model: Any, asked: Question, told_prefix: bool = True) -> float:
    """Returns the answer's mean log-probability by transformers.

    Args:
        model: A causal language model or PaliGemma.
        asked: Prompt, answer, picture.
        told_prefix: Whether PaliGemma is given `token_type_ids`, which say what is prompt.
    """
    import torch

    ids = torch.tensor([asked.prompt + asked.answer])
    with torch.no_grad():
        if asked.picture is None:
            return _mean(model(input_ids=ids).logits[0].numpy(), asked)
        count = (asked.picture.shape[0] // model.config.vision_config.patch_size) ** 2
        ids = torch.cat([torch.full((1, count), model.config.image_token_id), ids], 1)
        kinds = torch.arange(ids.shape[1])[None] >= count + len(asked.prompt)
        prefix = {"token_type_ids": kinds.long()} if told_prefix else {}
        pixels = torch.tensor(asked.picture.transpose(2, 0, 1)[None])
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), **prefix).logits
    return _mean(logits[0, count:].numpy(), asked)


def by_kerashub(backbone: Any, asked: Question) -> float:
    """Returns the answer's mean log-probability by KerasHub's own forward pass and vocabulary product."""
    ids = np.array([asked.prompt + asked.answer], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    count = 0
    if asked.picture is not None:
        count = backbone.image_sequence_length
        response = (np.arange(ids.shape[1]) >= len(asked.prompt)).astype(np.int32)[None]
        inputs |= {"images": asked.picture[None], "response_mask": response}
    logits = backbone.token_embedding(backbone(inputs), reverse=True)
    return _mean(np.asarray(logits)[0, count:], asked)


def by_us(backbone: Any, asked: Question, spec: Any = None, lora: Any = None) -> float:
    """Returns the answer's mean log-probability by mmtune's forward pass."""
    from mmtune.decoding.requests import Request
    from mmtune.decoding.score import score

    weights = weights_of(backbone, spec, lora)
    return float(np.mean(score(weights, [Request(asked.prompt, asked.picture)], [asked.answer])[0], dtype=np.float64))


def weights_of(backbone: Any, spec: Any = None, lora: Any = None, eos: int = 1, pad: int = 0) -> Any:
    """Returns a backbone as mmtune's decoding takes it, without a vocabulary."""
    import jax.numpy as jnp

    from mmtune.decoding.requests import Weights
    from mmtune.models.linear import NO_ADAPTER
    from mmtune.models.spec import read_spec
    from mmtune.models.weights import model_variables, values

    adapter = NO_ADAPTER if lora is None else lora.adapter()
    tree = values(model_variables(backbone))
    return Weights(tree, read_spec(backbone) if spec is None else spec, adapter, jnp.float32, eos, pad)
