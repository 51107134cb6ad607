"""The part of transformers and PEFT: `python transformers_peft.py CASE OPTION FOLDER DATA PRECISION BEGUN REPETITIONS`.

It imports neither Keras nor mmtune, so that an environment with torch alone can run it.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.speed.measuring import host_peak, measure
from benchmarks.speed.sizes import END, MIXED_BATCH, MIXED_NEW, NEW, RANK, TARGET, until_end, weights_dtype


def torch_peak() -> float:
    """Returns the most memory so far of what torch computes on, in GiB: the GPU's own, or the process's."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else host_peak()


def main(case: str, option: str, folder: str, file: str, precision: str, begun: str, repetitions: str) -> None:
    """Reads its command line."""
    import numpy as np
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    data = dict(np.load(file))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, weights_dtype(case, precision))
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=dtype).to(device)
    image_token, image_tokens = model.config.image_token_id, model.config.vision_config.num_image_tokens
    pixels = torch.tensor(data["images"].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).to(device, dtype)
    prompts = torch.tensor(data["prompts"].astype(np.int64), device=device)
    pictured = torch.full((len(prompts), image_tokens), image_token, device=device)
    if case == "mixed":
        _decode_mixed(model.eval(), pixels, pictured, data, float(begun), int(repetitions))
        return
    if case.startswith("decode"):
        _decode(model.eval(), pixels, torch.cat([pictured, prompts], 1), float(begun), int(repetitions))
        return
    answers = data["answers"] if case == "captions" else data["answers"][:, :1]
    count = answers.shape[1]
    texts = torch.tensor(answers.reshape(-1, answers.shape[-1]).astype(np.int64), device=device)
    prefix = torch.cat([pictured, prompts], 1).repeat_interleave(count, 0)
    ids = torch.cat([prefix, texts], 1)
    inputs = {
        "input_ids": ids,
        "pixel_values": pixels.repeat_interleave(count, 0),
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.cat([torch.zeros_like(prefix), torch.ones_like(texts)], 1),
    }
    labels = torch.cat([torch.full_like(prefix, -100), texts], 1)
    model, trained = _trained(model, full=case == "full")
    optimizer = torch.optim.AdamW(trained, lr=2e-5)
    whole = len(ids) if option != "small batches" else len(pixels)
    narrowed = getattr(torch, precision) if precision != weights_dtype(case, precision) else None

    def run(steps: int) -> None:
        for _ in range(steps):
            for start in range(0, len(ids), whole):
                part = slice(start, start + whole)
                _step(model, {name: value[part] for name, value in inputs.items()}, labels[part], option, narrowed)
                optimizer.step()
                optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    trainable = sum(parameter.numel() for parameter in trained)
    block = 3 if case != "captions" else 1
    measure(float(begun), run, int(repetitions), block, peak=torch_peak, trainable=trainable)


def _trained(model: Any, full: bool) -> tuple[Any, list[Any]]:
    if full:
        return model.train(), list(model.parameters())
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, target_modules=r".*language_model.*\.(q_proj|v_proj)", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config).train()
    return adapted, [parameter for parameter in adapted.parameters() if parameter.requires_grad]


def _step(model: Any, inputs: dict[str, Any], labels: Any, option: str, narrowed: Any) -> None:
    """Makes the gradients; `narrowed`: the dtype of products where weights are wider, or None."""
    import torch

    with torch.autocast(labels.device.type, narrowed, enabled=narrowed is not None):
        if option == "ships":
            loss = model(**inputs, labels=labels).loss
        else:  # only the positions that predict go through the vocabulary
            logits = model(**inputs, logits_to_keep=TARGET + 1).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, -TARGET:].flatten())
    loss.backward()


def _decode(model: Any, pixels: Any, ids: Any, begun: float, repetitions: int) -> None:
    import torch

    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            with torch.inference_mode():
                answers = model.generate(
                    input_ids=ids,
                    pixel_values=pixels,
                    attention_mask=torch.ones_like(ids),
                    token_type_ids=torch.zeros_like(ids),
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                    do_sample=False,
                    eos_token_id=None,
                )
            written[:] = answers[:, ids.shape[1] :].tolist()

    measure(begun, run, repetitions, peak=torch_peak, tokens=written)


def _decode_mixed(model: Any, pixels: Any, pictured: Any, data: Any, begun: float, repetitions: int) -> None:
    import torch

    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            written.clear()
            for start in range(0, len(pixels), MIXED_BATCH):
                part = slice(start, start + MIXED_BATCH)
                lengths = data["lengths"][part]
                ids, seen = _left(pictured[part], data["mixed"][part], lengths)
                with torch.inference_mode():
                    answers = model.generate(
                        input_ids=ids,
                        pixel_values=pixels[part],
                        attention_mask=seen,
                        # As its processor gives them. Without, a padded prompt does not see itself in full.
                        token_type_ids=torch.zeros_like(ids),
                        max_new_tokens=MIXED_NEW,
                        do_sample=False,
                        eos_token_id=END,
                        pad_token_id=0,
                    )
                written.extend(until_end(row[ids.shape[1] :]) for row in answers.tolist())

    measure(begun, run, repetitions, warm=False, peak=torch_peak, tokens=written)


def _left(pictured: Any, prompts: Any, lengths: Any) -> tuple[Any, Any]:
    """Returns pictures and prompts padded on the left, as generating needs it, and which tokens are none of the pad."""
    import torch

    most = int(lengths.max())
    ids = torch.zeros((len(prompts), pictured.shape[1] + most), dtype=torch.long, device=pictured.device)
    seen = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        text = torch.tensor(prompts[row, :length].astype("int64"), device=pictured.device)
        line = torch.cat([pictured[row], text])
        ids[row, -len(line) :], seen[row, -len(line) :] = line, 1
    return ids, seen


if __name__ == "__main__":
    main(*sys.argv[1:])
