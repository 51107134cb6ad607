"""mmtune's part of the comparison: `python -m benchmarks.speed.ours CASE OPTION SIZE DATA PRECISION BEGUN REPETITIONS`.

Also `export SIZE FOLDER CASE PRECISION` and `peak PRECISION`.
"""

import sys
from typing import Any

from benchmarks.speed.measuring import jax_peak, measure, timed
from benchmarks.speed.sizes import END, MIXED_BATCH, MIXED_NEW, NEW, RANK, SIZES, Size, build, weights_dtype

NEVER = -1  # no token has this id: an answer goes on to its end


def model_of(size: Size, case: str, precision: str = "float32") -> Any:
    """Returns the random model of a size, as `build` makes its weights."""
    from mmtune.model import Model
    from mmtune.models.tiny import tiny_tokenizer

    return Model(build(size, case, precision), tiny_tokenizer(), name="random", precision=precision)


def trainer_of(model: Any, full: bool, rank: int = RANK) -> Any:
    """Returns what trains the model, compiled as `mmtune train` does it."""
    from mmtune.models.lora_config import LoRA
    from mmtune.recipe import Optimizer, Recipe
    from mmtune.training.model import Trainer
    from mmtune.training.optimizer import make_optimizer

    recipe = Recipe(
        task="captioning",
        data="generated",
        steps=1000,
        full=full,
        lora=LoRA(rank=rank, targets=("q_proj", "v_proj")),
        precision=model.precision,
        optimizer=Optimizer(learning_rate=2e-5),
    )
    if not full:
        model.add_lora(recipe.lora, 0)
    trainer = Trainer(model, recipe)
    trainer.compile(optimizer=make_optimizer(recipe, recipe.steps or 1))
    return trainer


def rows_of(data: Any, case: str, features: Any) -> list[Any]:
    """Returns a row a picture, with one answer or with five."""
    from mmtune.data.batch import Row

    rows = []
    for place, (image, prompt, answers) in enumerate(
        zip(data["images"], data["prompts"], data["answers"], strict=True)
    ):
        chosen = answers if case == "captions" else answers[:1]
        kept = None if features is None else features[place]
        rows.append(
            Row(
                prompt.tolist(),
                [answer.tolist() for answer in chosen],
                [[1.0] * len(answer) for answer in chosen],
                image if features is None else None,
                features=kept,
            )
        )
    return rows


def train(case: str, option: str, model: Any, data: Any, begun: float, repetitions: int) -> None:
    """Measures a training step."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mmtune.data.batch import collate
    from mmtune.decoding.engine import encode
    from mmtune.models.linear import NO_ADAPTER

    trainer = trainer_of(model, full=case == "full")
    features = None
    if option == "cached":
        weights = model.weights()
        features = np.asarray(
            encode(weights.tree, weights.spec, jnp.asarray(data["images"]), NO_ADAPTER, dtype=jnp.dtype(weights.dtype))
        )
    batch = collate(rows_of(data, case, features), model.spec.image_tokens)

    def run(steps: int) -> None:
        trainer.fit((batch for _ in range(steps)), steps_per_epoch=steps, shuffle=False, verbose=0)
        jax.block_until_ready([variable.value for variable in trainer.trainable_variables])

    trainable = sum(int(np.prod(v.shape)) for v in trainer.trainable_variables)
    measure(begun, run, repetitions, block=3, peak=jax_peak, trainable=trainable)


def peak(precision: str) -> None:
    """Prints the device's name, its operations a second in products of matrices, and the bytes a second it reads."""
    import json

    import jax
    import jax.numpy as jnp

    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (side, side), precision)
    large = jax.random.normal(jax.random.key(1), (8192, 8192), precision)
    product = jax.jit(jnp.matmul)
    found = {
        "device": jax.devices()[0].device_kind,
        "matmul_peak": 2 * side**3 / min(timed(lambda: product(matrix, matrix), 10)),
        "read_peak": large.nbytes / min(timed(lambda: product(large, large[0]), 10)),
    }
    print(json.dumps(found))


def decode(model: Any, data: Any, begun: float, repetitions: int) -> None:
    """Measures writing `NEW` tokens for every picture."""
    from dataclasses import replace

    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    weights = replace(model.weights(), eos=NEVER)
    requests = [Request(prompt.tolist(), image) for image, prompt in zip(data["images"], data["prompts"], strict=True)]
    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            answers = generate(weights, requests, max_tokens=NEW, batch_size=len(requests))
            written[:] = [list(answer.ids) for answer in answers]

    measure(begun, run, repetitions, peak=jax_peak, tokens=written)


def decode_mixed(model: Any, data: Any, begun: float, repetitions: int) -> None:
    """Measures answering a data set whose prompts and answers have mixed lengths."""
    from dataclasses import replace

    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    weights = replace(model.weights(), eos=END)
    requests = [
        Request(prompt[:length].tolist(), image)
        for image, prompt, length in zip(data["images"], data["mixed"], data["lengths"], strict=True)
    ]
    written: list[list[int]] = []

    def run(times: int) -> None:
        for _ in range(times):
            answers = generate(weights, requests, max_tokens=MIXED_NEW, batch_size=MIXED_BATCH)
            written[:] = [list(answer.ids) for answer in answers]

    measure(begun, run, repetitions, warm=False, peak=jax_peak, tokens=written)


def export(size: str, folder: str, case: str, precision: str) -> None:
    """Writes the model as transformers reads it."""
    from pathlib import Path

    from mmtune.models.hf_export import write_checkpoint

    model = model_of(SIZES[size], case, precision)
    dtype = weights_dtype(case, precision)
    write_checkpoint(Path(folder), model.spec, model.variables, dtype, tokens={"image_token_index": 1})


def main(case: str, option: str, size: str, file: str, precision: str, begun: str, repetitions: str) -> None:
    """Reads its command line."""
    import numpy as np

    model = model_of(SIZES[size], case, precision)
    data = dict(np.load(file))
    if case == "mixed":
        decode_mixed(model, data, float(begun), int(repetitions))
    elif case.startswith("decode"):
        decode(model, data, float(begun), int(repetitions))
    else:
        train(case, option, model, data, float(begun), int(repetitions))


if __name__ == "__main__":
    {"peak": peak, "export": export}.get(sys.argv[1], lambda *rest: main(sys.argv[1], *rest))(*sys.argv[2:])
