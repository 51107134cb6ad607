"""KerasHub's part: `python -m benchmarks.speed.kerashub CASE OPTION SIZE DATA PRECISION BEGUN REPETITIONS`."""

import os
import sys
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

from benchmarks.speed.measuring import jax_peak, measure
from benchmarks.speed.sizes import END, MIXED_BATCH, MIXED_NEW, NEW, RANK, SIZES, build, until_end


def lm_of(backbone: Any, option: str, case: str) -> Any:
    """Returns KerasHub's model, compiled.

    Args:
        backbone: The weights.
        option: "ships": LoRA wherever `enable_lora` puts it and the accuracy of the guide; "best": the decoder alone
            and no metric, which is its fastest.
        case: What is measured.
    """
    import keras
    import keras_hub

    lm = keras_hub.models.PaliGemmaCausalLM(preprocessor=None, backbone=backbone)
    if case != "full":
        backbone.enable_lora(RANK)
        if option != "ships":
            backbone.vit_encoder.trainable = False
    lm.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.AdamW(2e-5),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()] if option == "ships" else [],
    )
    return lm


def main(case: str, option: str, size: str, file: str, precision: str, begun: str, repetitions: str) -> None:
    """Reads its command line."""
    import jax
    import numpy as np

    data = dict(np.load(file))
    images = data["images"].astype(np.float32) / 127.5 - 1
    prompts = data["prompts"]
    backbone = build(SIZES[size], case, precision)
    if case == "mixed":
        _decode_mixed(backbone, images, data, float(begun), int(repetitions))
        return
    if case.startswith("decode"):
        _decode(backbone, images, prompts, float(begun), int(repetitions))
        return
    answers = data["answers"] if case == "captions" else data["answers"][:, :1]
    count = answers.shape[1]
    lm = lm_of(backbone, option, case)
    tokens = np.concatenate([np.repeat(prompts, count, 0), answers.reshape(-1, answers.shape[-1])], 1)
    rows = len(tokens)
    responses = np.zeros_like(tokens, dtype=bool)
    responses[:, prompts.shape[1] :] = True
    inputs = {
        "images": np.repeat(images, count, 0),
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens, dtype=bool),
        "response_mask": responses,
    }
    labels = np.concatenate([tokens[:, 1:], np.zeros_like(tokens[:, :1])], 1)
    weights = np.concatenate([responses[:, 1:], np.zeros_like(responses[:, :1])], 1).astype(np.float32)
    whole = rows if option != "small batches" else len(images)

    def run(steps: int) -> None:
        x = {name: np.concatenate([value] * steps) for name, value in inputs.items()}
        y, w = np.concatenate([labels] * steps), np.concatenate([weights] * steps)
        lm.fit(x, y, sample_weight=w, batch_size=whole, shuffle=False, verbose=0)
        jax.block_until_ready([variable.value for variable in lm.trainable_variables])

    trainable = sum(int(np.prod(v.shape)) for v in lm.trainable_variables)
    block = 3 if case != "captions" else 1
    measure(float(begun), run, int(repetitions), block, peak=jax_peak, trainable=trainable)


def _decode(backbone: Any, images: Any, prompts: Any, begun: float, repetitions: int) -> None:
    import keras_hub
    import numpy as np

    lm = keras_hub.models.PaliGemmaCausalLM(preprocessor=None, backbone=backbone)
    lm.compile(sampler="greedy")
    width = prompts.shape[1]
    tokens = np.concatenate([prompts, np.zeros((len(prompts), NEW), np.int32)], 1)
    mask = np.zeros_like(tokens)
    mask[:, :width] = 1
    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            answers = lm.generate(
                {"images": images, "token_ids": tokens.copy(), "padding_mask": mask}, stop_token_ids=None
            )
            written[:] = np.asarray(answers["token_ids"])[:, width:].tolist()

    measure(begun, run, repetitions, peak=jax_peak, tokens=written)


def _decode_mixed(backbone: Any, images: Any, data: Any, begun: float, repetitions: int) -> None:
    import keras_hub
    import numpy as np

    lm = keras_hub.models.PaliGemmaCausalLM(preprocessor=None, backbone=backbone)
    lm.compile(sampler="greedy")
    # One length for all batches, as its preprocessor has it: each further one would be compiled.
    tokens = np.pad(data["mixed"], ((0, 0), (0, MIXED_NEW)))
    lengths = data["lengths"]
    mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int32)
    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            written.clear()
            for start in range(0, len(images), MIXED_BATCH):
                part = slice(start, start + MIXED_BATCH)
                inputs = {"images": images[part], "token_ids": tokens[part].copy(), "padding_mask": mask[part]}
                answers = np.asarray(lm.generate(inputs, stop_token_ids=(END,))["token_ids"])
                for row, length in zip(answers, lengths[part], strict=True):
                    written.append(until_end(row[length:].tolist()))

    measure(begun, run, repetitions, warm=False, peak=jax_peak, tokens=written)


if __name__ == "__main__":
    main(*sys.argv[1:])
