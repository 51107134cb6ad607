"""Prompts and answers: what stands before a prompt, what it sees, and where an answer ends."""

from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.fidelity.finding import NATS, Finding, versioned
from benchmarks.fidelity.models import (
    IMAGE_TOKEN,
    SIDE,
    by_kerashub,
    by_transformers,
    by_us,
    made,
    question,
    saved,
    weights_of,
)

_PROMPTS, _NEW, _LONGEST = 20, 8, 24


def mixed_lengths() -> Finding:
    """KerasHub writes from where the shortest prompt ends; tokens of longer ones see only what is before them there."""
    import torch

    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 250, n).tolist() for n in rng.integers(4, _LONGEST, _PROMPTS)]
    picture = rng.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32)
    model = made("paligemma")
    pixels = torch.tensor(picture.transpose(2, 0, 1)[None])
    count = (SIDE // model.config.vision_config.patch_size) ** 2
    truth = []
    for prompt in prompts:
        ids = torch.tensor([[IMAGE_TOKEN] * count + prompt])
        told = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        found = model.generate(
            ids, pixel_values=pixels, max_new_tokens=_NEW, min_new_tokens=_NEW, do_sample=False, **told
        )
        truth.append(found[0, ids.shape[1] :].tolist())
    with saved(model) as folder:
        backbone = _backbone(folder)
    theirs = _kerashub(backbone)
    alone = [answer for prompt in prompts for answer in _kerashub_answers(theirs, [prompt], picture)]
    batch = _kerashub_answers(theirs, prompts, picture)
    requests = [Request(prompt, picture) for prompt in prompts]
    weights = weights_of(backbone, eos=-1)
    ours = [list(answer.ids) for answer in generate(weights, requests, max_tokens=_NEW, batch_size=_PROMPTS)]

    def right(answers: list[list[int]]) -> int:
        return sum(answer == wanted for answer, wanted in zip(answers, truth, strict=True))

    return Finding(
        f"PaliGemma is asked {_PROMPTS} prompts of different lengths in one batch: how many answers are those that it "
        "gives to one prompt at a time (greedy, by transformers)?",
        "KerasHub",
        version("keras-hub"),
        right(batch),
        f"{versioned('keras-hub', 'KerasHub')}, one prompt at a time",
        right(alone),
        right(ours),
    )


def padded_by_its_end() -> Finding:
    """KerasHub looks for the end in the whole row, padding included. SmolLM2 pads with the token that ends a text."""
    import torch

    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    end, model = 0, made("llama3")
    prompt = question().prompt
    ids = torch.tensor([prompt])
    told = {"attention_mask": torch.ones_like(ids), "pad_token_id": end, "eos_token_id": end}
    truth = model.generate(ids, max_new_tokens=_NEW, do_sample=False, **told)[0, len(prompt) :]
    with saved(model) as folder:
        backbone = _backbone(folder)
    (theirs,) = _kerashub_answers(_kerashub(backbone), [prompt], stop=end)
    (ours,) = generate(weights_of(backbone, eos=end, pad=end), [Request(prompt)], max_tokens=_NEW)
    return Finding(
        f"Llama is asked for up to {_NEW} tokens, its rows padded with the token that ends a text (as SmolLM2's are): "
        "how many does it write?",
        "KerasHub",
        version("keras-hub"),
        len(theirs),
        versioned("transformers"),
        len(truth),
        len(ours.ids),
    )


def untold_prefix() -> Finding:
    """Without `token_type_ids` transformers lets image and prompt see only what is before them."""
    model, asked = made("paligemma"), question(SIDE)
    with saved(model) as folder:
        backbone = _backbone(folder)
    return Finding(
        "How likely is an answer by PaliGemma, asked without `token_type_ids` to say where the prompt ends?",
        "transformers",
        version("transformers"),
        by_transformers(model, asked, told_prefix=False),
        versioned("keras-hub", "KerasHub"),
        by_kerashub(backbone, asked),
        by_us(backbone, asked),
        tolerance=NATS,
        places=4,
    )


def _backbone(folder: Any) -> Any:
    from mmtune.models.hf_load import load_checkpoint

    return load_checkpoint(folder, "float32")[0]


def _kerashub(backbone: Any) -> Any:
    """Returns KerasHub's task on a backbone, deciding greedily."""
    import keras_hub

    sees = "PaliGemma" in type(backbone).__name__
    task = keras_hub.models.PaliGemmaCausalLM if sees else keras_hub.models.Llama3CausalLM
    model: Any = task(preprocessor=None, backbone=backbone)
    model.compile(sampler="greedy")
    return model


def _kerashub_answers(
    model: Any, prompts: list[Any], picture: np.ndarray | None = None, stop: int | None = None
) -> list[list[int]]:
    """Returns what KerasHub's `generate` writes behind each prompt, at most `_NEW` tokens."""
    shape = (len(prompts), _LONGEST + _NEW)
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)], mask[row, : len(prompt)] = prompt, 1
    inputs: dict[str, Any] = {"token_ids": ids, "padding_mask": mask}
    if picture is not None:
        inputs |= {"images": np.stack([picture] * len(prompts)), "response_mask": 0 * mask}
    written = np.asarray(model.generate(inputs, stop_token_ids=None if stop is None else (stop,))["token_ids"])
    answers = [row[len(prompt) :][:_NEW].tolist() for row, prompt in zip(written, prompts, strict=True)]
    return [answer[: answer.index(stop)] if stop in answer else answer for answer in answers]
