"""Trains and decodes one small model on several meshes and prints how far each run is from that of a single device.

    export KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=tests
    python tests/sharding/equal_runs.py FAMILY KINDS [MESH ...]

KINDS, with commas between them: lora, full, and int8 or int4 for an adapter on quantized weights.

A line of JSON a run: {"mesh", "kind", "loss", "weights", "tokens", "faults", "divided"}: largest differences of five
losses and of the weights after them, whether greedy tokens are the same, faults of the layouts, and the number of
weights that are really divided.
"""

import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
from backbones import make

from mmtune.data.batch import Row, collate
from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request, Weights
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.lora_config import LoRA
from mmtune.models.weights import values
from mmtune.recipe import Optimizer, Recipe
from mmtune.sharding.mesh import distributed
from mmtune.sharding.table import layout_rows, slot_faults
from mmtune.training.model import Trainer
from mmtune.training.optimizer import make_optimizer

STEPS, BATCH, VOCABULARY, SIZE = 5, 8, 256, 28
# PaliGemma's towers have one key and value head, as Gemma 2B has.
ONE_HEAD = {"num_key_value_heads": 1}
SETTINGS = {"gemma": ONE_HEAD}


def rows(seen, count, seed):
    """Returns rows of random tokens, with random pictures for models that see."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        prefix, suffix = rng.integers(3, 9), rng.integers(2, 7)
        image = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8) if seen else None
        prompt, answer = (rng.integers(3, VOCABULARY, n).tolist() for n in (prefix, suffix))
        yield Row(prompt, [answer], [[1.0] * len(answer)], image)


def run(family, kind, mesh, start):
    """Returns losses, trained weights, greedy tokens, layout rows and slot faults of a run."""
    seen = family.startswith("pali")
    with distributed(mesh):
        backbone = make(family, num_layers=2, vocabulary_size=VOCABULARY, **SETTINGS.get(family, {}))
        for variable, value in zip(backbone.weights, start or [], strict=bool(start)):
            variable.assign(value)
        first = [np.asarray(variable) for variable in backbone.weights]
        model = Model(backbone, SimpleNamespace(loc=None), name=family)
        settings = {"task": "instruct", "data": "-", "model": "-", "out": "-", "steps": STEPS}
        recipe = Recipe(full=kind == "full", optimizer=Optimizer(learning_rate=1e-3), **settings)
        if kind.startswith("int"):
            model.quantize(kind)
        if kind != "full":
            lora = model.add_lora(LoRA(rank=4, vision=seen), 0)
            rng = np.random.default_rng(1)
            for variable in lora.variables:
                variable.assign(rng.normal(0, 0.1, variable.shape))
        trainer = Trainer(model, recipe)
        trainer.compile(optimizer=make_optimizer(recipe, STEPS))
        trainer.optimizer.build(trainer.trainable_variables)
        table = layout_rows(trainer.variables, trainer.optimizer)
        batches = [collate(list(rows(seen, BATCH, n)), model.spec.image_tokens, 16, 8) for n in range(STEPS)]
        losses = []
        log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(float(logs["loss"])))
        trainer.fit((batch for batch in batches), steps_per_epoch=STEPS, verbose=0, callbacks=[log])
        adapter = NO_ADAPTER if kind == "full" else model.lora.adapter()
        weights = Weights(values(model.variables), model.spec, adapter, np.float32, 1, 0)
        asked = [Request(row.prefix, row.image, None, n) for n, row in enumerate(rows(seen, 5, 99))]
        tokens = [answer.ids for answer in generate(weights, asked, max_tokens=12)]
        trained = {variable.path: np.asarray(variable) for variable in trainer.trainable_variables}
        return first, losses, trained, tokens, table


def main(family, kinds, *meshes):
    """Prints a line a run."""
    for kind in kinds.split(","):
        start, losses, trained, tokens, _ = run(family, kind, None, None)
        assert len({token for answer in tokens for token in answer}) > 5, "answers of one token hide faults"
        for mesh in meshes:
            _, its_losses, its_trained, its_tokens, table = run(family, kind, mesh, start)
            found = {
                "mesh": mesh,
                "kind": kind,
                "loss": float(np.max(np.abs(np.subtract(losses, its_losses)))),
                "weights": max(float(np.max(np.abs(trained[path] - its_trained[path]))) for path in trained),
                "tokens": tokens == its_tokens,
                "faults": slot_faults(table),
                "divided": sum(any(row.axes) for row in table if row.weight is None),
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
