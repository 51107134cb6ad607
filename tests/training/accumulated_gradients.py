"""The gradient that a run hands to its optimizer, in float64, against one summed up answer by answer.

    export KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=4 PYTHONPATH=tests
    python tests/training/accumulated_gradients.py MESH AVERAGE KIND ...

A line of JSON for each pair of AVERAGE and KIND: {"case", "errors", "alone"}: distances between the gradients of each
update, relative to their size, and the same where each batch is divided by what it holds itself. JAX' variables for
several processes make this process one of them.
"""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import keras
import numpy as np
from backbones import make

from mmtune.data.batch import Row, collate
from mmtune.distributed.processes import fetch_global_array, is_main_process
from mmtune.distributed.worker import initialize_distributed
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.models.scorer import target_logits
from mmtune.models.weights import values
from mmtune.recipe import Optimizer, Recipe
from mmtune.sharding.mesh import distributed
from mmtune.training.model import Trainer
from mmtune.training.plan import Batch, Shape, load_batches
from mmtune.training.shared import own_rows
from mmtune.training.updates import updates_of

BATCHES, SIZE, ACCUMULATION = 5, 4, 3  # the second update takes the two batches that are left
TEXT, TARGETS, VOCABULARY = 48, 32, 256


def random_rows():
    """Returns rows of one to four answers of one to eight tokens, some without weight; one row has none at all."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(BATCHES * SIZE):
        most = 2 if number < 2 * SIZE else 9  # short answers first: batches weigh very differently
        answers = [rng.integers(3, VOCABULARY, rng.integers(1, most)).tolist() for _ in range(rng.integers(1, 5))]
        weights = [(rng.random(len(answer)) < 0.8).astype(float).tolist() for answer in answers]
        if number == 6:
            weights = [[0.0] * len(answer) for answer in answers]
        image = rng.integers(0, 256, (28, 28, 3), np.uint8)
        rows.append(Row(rng.integers(3, VOCABULARY, rng.integers(2, 7)).tolist(), answers, weights, image))
    return rows


def in_doubles(variables):
    """Makes float64 of variables."""
    for variable in variables:
        if variable.dtype == "float32":
            variable._value, variable._dtype = variable._value.astype(jnp.float64), "float64"


def trainer_of(recipe, kind, labels=0, loc=None, vocabulary=VOCABULARY):
    """Returns a trainer in float64 whose optimizer moves each weight by its gradient, and its model."""
    backbone = make("paligemma2", vocabulary_size=vocabulary, num_layers=1, vit_num_layers=1)
    model = Model(backbone, SimpleNamespace(loc=loc), name="small")
    if kind == "lora":
        rng = np.random.default_rng(1)
        for variable in model.add_lora(LoRA(rank=3, vision=True), 0).variables:
            variable.assign(rng.normal(0, 0.1, variable.shape))
    object.__setattr__(recipe, "precision", "float64")
    trainer = Trainer(model, recipe, labels)
    in_doubles({id(v): v for v in (*trainer.variables, *model.backbone.weights)}.values())
    trainer.compile(optimizer=keras.optimizers.SGD(1.0))
    trainer.build_optimizer()
    return trainer, model


def updates_made(trainer, batches, updates):
    """Trains and returns what each update subtracted from each weight, and the weights before it."""
    before, made = [[np.asarray(fetch_global_array(v.value)) for v in trainer.trainable_variables]], []

    def note(step, logs):
        del logs
        trainer.jax_state_sync()
        now = [np.asarray(fetch_global_array(v.value)) for v in trainer.trainable_variables]
        if step + 1 == updates.around(step).stop:
            made.append([old - new for old, new in zip(before[-1], now, strict=True)])
            before.append(now)
        else:
            assert all((old == new).all() for old, new in zip(before[-1], now, strict=True))

    log = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    trainer.fit(batches, steps_per_epoch=updates.steps, shuffle=False, verbose=0, callbacks=[log])
    return made, before[:-1]


def naive_sums(trainer, model, batches, at, by_tokens):
    """Returns for each batch the sum of the gradients of its answers' losses and what it is divided by.

    Each answer is computed in a row of its own.
    """
    trained = {id(variable) for variable in trainer.trainable_variables}
    known = {id(v): v for v in (*trainer.non_trainable_variables, *model.backbone.weights)}
    others = [variable for key, variable in known.items() if key not in trained]

    def loss(values_at, fixed, inputs, answer, weights):
        mapping = zip([*trainer.trainable_variables, *others], [*values_at, *fixed], strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)):
            adapter = {} if model.lora is None else {"adapter": model.lora.adapter(None)}
            logits = target_logits(values(model.variables), model.spec, inputs, dtype=jnp.dtype("float64"), **adapter)
        logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits)[0], answer[:, None], axis=1)[:, 0]
        return -jnp.sum(weights * logprobs)

    gradient = jax.jit(jax.grad(loss))
    fixed, sums = [variable.value for variable in others], []
    for rows in batches:
        total, count = 0.0, 0.0
        for row in rows:
            for answer, weights in zip(row.suffixes, row.weights, strict=True):
                if not sum(weights):
                    continue
                inputs, _ = collate([Row(row.prefix, [answer], [weights], row.image)], model.spec.image_tokens, 16, 8)
                padded = [np.pad(np.asarray(part), (0, 8 - len(part))) for part in (answer, weights)]
                found = gradient(at, fixed, inputs, *padded)
                share = 1.0 if by_tokens else 1 / sum(weights)
                total = total + share * np.concatenate([np.ravel(fetch_global_array(part)) for part in found])
                count += sum(weights) if by_tokens else 1
        sums.append((total, count))
    return sums


def distance(one, other):
    """Returns how far two gradients are apart, relative to the second."""
    one = np.concatenate([np.ravel(part) for part in one])
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def measured(average, kind, mesh=None):
    """Returns the errors of each update, and those that dividing each batch by its own weights would give."""
    with jax.enable_x64(True), distributed(mesh):
        options = Optimizer(accumulation=ACCUMULATION, average=average, clip=0.0)
        recipe = Recipe(task="instruct", data="-", steps=BATCHES, full=kind == "full", optimizer=options)
        trainer, model = trainer_of(recipe, kind)
        rows, by_tokens, updates = random_rows(), average == "tokens", updates_of(recipe, BATCHES)
        plan = [
            Batch(Shape(TEXT, TARGETS), tuple((SIZE * step + place, 0) for place in range(SIZE)))
            for step in range(BATCHES)
        ]
        loaded = load_batches(
            plan, lambda index, _: rows[index], model.spec.image_tokens, 0, own_rows(SIZE), by_tokens, updates
        )
        made, before = updates_made(trainer, loaded, updates)
        errors, alone = [], []
        for number, (found, at) in enumerate(zip(made, before, strict=True)):
            batches = [rows[SIZE * step : SIZE * (step + 1)] for step in updates[number]]
            sums = naive_sums(trainer, model, batches, at, by_tokens)
            wanted = sum(total for total, _ in sums) / sum(count for _, count in sums)
            errors.append(distance(found, wanted))
            alone.append(distance([np.mean([total / count for total, count in sums], axis=0)], wanted))
    return errors, alone


def main(mesh, *cases):
    """Prints a line a case."""
    initialize_distributed()
    for average, kind in zip(cases[::2], cases[1::2], strict=True):
        errors, alone = measured(average, kind, mesh)
        if is_main_process():
            print(json.dumps({"case": [average, kind], "errors": errors, "alone": alone}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
