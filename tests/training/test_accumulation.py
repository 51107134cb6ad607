"""Gradient accumulation: an update is that of one large batch, whatever its batches hold and whoever makes them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import accumulated_gradients as program
import jax
import numpy as np
import pytest
from backbones import make

from mmtune.data.batch import Row
from mmtune.data.dense import Objects, dense_targets
from mmtune.models.spec import read_spec
from mmtune.planning.compiled import compile_step
from mmtune.recipe import Dense, Optimizer, Recipe
from mmtune.training.plan import Batch, Shape, Supervised, load_batches
from mmtune.training.updates import Updates, updates_of

EXACT = 1e-6
APART = 0.05  # how far off batches are that are divided by what they hold themselves: a test that cannot fail is none


@pytest.mark.parametrize("accumulation", [1, 2, 3, 7, 30])
@pytest.mark.parametrize(("steps", "dense"), [(12, 0), (13, 0), (13, 4), (1, 0), (9, 8)])
def test_every_batch_belongs_to_one_update(steps, dense, accumulation):
    naive, batches = [], []
    for step in range(steps):
        batches.append(step)
        if len(batches) == accumulation or step + 1 in (dense, steps):
            naive.append(batches)
            batches = []
    updates = Updates(steps, accumulation, dense)
    assert [list(update) for update in updates] == naive
    assert len(updates) == len(naive)
    assert updates.dense_updates == sum(update[-1] < dense for update in naive)
    assert [list(updates.around(step)) for step in range(steps)] == [update for update in naive for _ in update]


@pytest.mark.parametrize(("average", "kind"), [("tokens", "full"), ("answers", "lora")])
def test_an_update_is_the_gradient_of_all_its_answers(average, kind):
    errors, alone = program.measured(average, kind)
    assert len(errors) == 2  # of three batches and of the two that are left
    assert max(errors) < EXACT
    assert min(alone) > APART


def started(count, *words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "PYTHONPATH": "tests"}
    environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    environment |= {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    return [
        subprocess.Popen(
            [sys.executable, program.__file__, *words],
            env=environment | {"JAX_PROCESS_ID": str(number)},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def test_two_processes_divide_by_the_rows_of_both():
    processes = started(2, "data=2", "tokens", "lora")
    said = [process.communicate(timeout=600) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-3000:]
    found = json.loads(next(line for line in said[0][0].splitlines() if line.startswith("{")))
    assert max(found["errors"]) < EXACT
    assert min(found["alone"]) > APART


def dense_rows(count):
    rng = np.random.default_rng(2)
    for number in range(count):
        edges = np.sort(rng.uniform(0, 1, (number % 4, 2, 2)), axis=1).reshape(-1, 4)
        objects = Objects(edges, rng.integers(1, 3, len(edges)))
        answer = rng.integers(3, 99, 1 + 3 * (number % 3)).tolist()
        image = rng.integers(0, 256, (28, 28, 3), np.uint8)
        yield Row([2, 9, 4], [answer], [[1.0] * len(answer)], image, dense=dense_targets([objects], 2, rng))


@pytest.mark.parametrize("average", ["answers", "tokens"])
def test_dense_supervision_is_that_of_one_large_batch(average):
    """In both stages: five batches of the tower alone, then five with the answers, three an update."""
    rows, shape, by_tokens = list(dense_rows(20)), Shape(16, 8), average == "tokens"
    plain = [Batch(shape, ((2 * step, 0), (2 * step + 1, 0))) for step in range(10)]

    def trainer(accumulation):
        options = Optimizer(accumulation=accumulation, average=average, clip=0.0)
        dense = Dense(steps=5, weight=0.7)
        recipe = Recipe(task="detection", data="-", steps=10, full=True, optimizer=options, dense=dense)
        return program.trainer_of(recipe, "full", labels=3, loc=100, vocabulary=1200)

    def loaded(model, plan, updates=None):
        return load_batches(
            plan, lambda index, _: rows[index], model.spec.image_tokens, 0, slice(None), by_tokens, updates
        )

    with jax.enable_x64(True):
        several, model = trainer(3)
        updates = updates_of(several.recipe, 10)
        plan = Supervised(plain, updates, 0.7)
        made, before = program.updates_made(several, loaded(model, plan, updates), updates)
        assert [list(update) for update in updates] == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
        one, model = trainer(1)
        for update, found, at in zip(updates, made, before, strict=True):
            for variable, value in zip(one.trainable_variables, at, strict=True):
                variable.assign(value)
            first = plan[update.start]
            large = Batch(shape, sum((plain[step].members for step in update), ()), first.dense, first.answers)
            whole, _ = program.updates_made(one, loaded(model, [large]), Updates(1))
            wanted = np.concatenate([np.ravel(part) for part in whole[0]])
            assert np.linalg.norm(wanted) > 0.1
            assert program.distance(found, wanted) < EXACT


def test_a_run_that_goes_on_within_an_update_divides_by_the_batches_before():
    rows = [Row([2, 5], [[7] * (1 + n)], [[1.0] * (1 + n)]) for n in range(7)]
    plan = [Batch(Shape(16, 16), ((n, 0),)) for n in range(7)]
    updates = Updates(7, 3)
    for first in range(7):
        loaded = load_batches(plan, lambda index, _: rows[index], 0, first, slice(None), True, updates)
        found = [(float(labels["update_weights"].sum()), labels["closes"].all()) for _, labels in loaded]
        wanted = [(6.0, False), (6.0, False), (6.0, True), (15.0, False), (15.0, False), (15.0, True), (7.0, True)]
        assert found == wanted[first:]


def test_the_logged_loss_is_that_of_the_batch_alone():
    """A long batch among short ones adds many times its loss to its update, which would look like an explosion."""
    rows = [Row([2, 5], [[7] * (1 + 30 * (n == 1))], [[1.0] * (1 + 30 * (n == 1))]) for n in range(3)]
    plan = [Batch(Shape(40, 32), ((n, 0),)) for n in range(3)]
    logged, added = {}, {}
    for accumulation in (1, 3):
        options = Optimizer(accumulation=accumulation, average="tokens", label_smoothing=0.1)
        recipe = Recipe(task="instruct", data="-", steps=3, optimizer=options)
        with jax.enable_x64(True):
            trainer, model = program.trainer_of(recipe, "lora")
        updates = updates_of(recipe, 3) if accumulation > 1 else None
        hidden = np.random.default_rng(0).normal(size=(1, 32, model.spec.text.hidden_dim)).astype(np.float32)
        outputs = {"hidden": hidden, "vocabulary": {"embedding": model.variables["text"]["embedding"].value}}
        loaded = load_batches(plan, lambda index, _: rows[index], 0, 0, slice(None), True, updates)
        losses = [trainer._loss(outputs, labels) for _, labels in loaded]
        added[accumulation], logged[accumulation] = np.array(losses).T
    np.testing.assert_allclose(logged[3], logged[1], rtol=1e-6)
    np.testing.assert_allclose(added[1], logged[1], rtol=1e-6)
    np.testing.assert_allclose(added[3], logged[1] * np.array([1, 31, 1]) / 33, rtol=1e-6)


def test_a_plan_counts_the_sums_of_gradients():
    spec, found = read_spec(make("gemma", num_layers=1)), []
    for accumulation in (1, 2):
        options = Optimizer(accumulation=accumulation)
        recipe = Recipe(task="instruct", data="-", full=True, batch_size=2, optimizer=options)
        found.append(compile_step(spec, recipe, 16, 8).arguments)
    weights = sum(int(np.prod(variable.shape)) for variable in make("gemma", num_layers=1).weights)
    assert found[1] - found[0] == pytest.approx(4 * weights, rel=1e-3)
