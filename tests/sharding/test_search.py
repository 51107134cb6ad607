"""The search for a mesh against trying everything, and its bounds against what is compiled."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from mmtune.planning.bounds import Bounds
from mmtune.planning.search import REMATERIALISE, SCHEMES, Family, Taken, Way, batch_sizes, meshes, search
from mmtune.sharding.mesh import parse_mesh

MOST = 64
FAMILIES = [Family(*parts) for parts in itertools.product(meshes(8), SCHEMES, REMATERIALISE)]
WIDTH = {None: 2, "int8": 1, "int4": 0.6}
SAVED = {"none": 9.0, "dots": 4.0, "full": 1.0}
REDONE = {"none": 1.0, "dots": 1.1, "full": 1.3}


def sizes(family):
    return batch_sizes(MOST, parse_mesh(family.mesh)["data"])


def made_up(seed):
    """Returns a world in which larger batches are never slower for each example, and its bounds."""

    def measure(way):
        mesh = parse_mesh(way.family.mesh)
        here = way.batch_size / mesh["data"]
        held = 80 * WIDTH[way.family.quantize] / 8
        saved = here * SAVED[way.family.rematerialise] * (1 + (seed % 3) / mesh["model"])
        seconds = way.batch_size * REDONE[way.family.rematerialise] / 8 + 0.1 * mesh["model"] * (1 + seed % 5)
        return Taken(held + saved, seconds)

    def bound(way):
        taken = measure(way)
        return Bounds(0.8 * taken.bytes, way.batch_size / 8, 0.9 * taken.seconds)

    return measure, bound


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("memory", [5, 12, 25, 60, 1000])
def test_the_best_is_that_of_trying_everything(seed, memory):
    measure, bound = made_up(seed)
    every = {Way(family, size): measure(Way(family, size)) for family in FAMILIES for size in sizes(family)}
    fitting = [taken.seconds / way.batch_size for way, taken in every.items() if taken.bytes <= memory]
    found = search(FAMILIES, sizes, bound, measure, memory, 1e9)
    assert [one.per_example for one in found.fitting[:1]] == sorted(fitting)[:1]
    assert all(one.taken.bytes <= memory for one in found.fitting)
    assert found.compiled < len(every)
    # Every family is either among those that fit or left for a reason, never both.
    shown = [one.way.family for one in found.fitting]
    assert sorted(map(str, [*shown, *found.left])) == sorted(map(str, FAMILIES))


def test_when_the_time_is_up_nothing_more_is_compiled_than_one_way():
    measure, bound = made_up(0)
    found = search(FAMILIES, sizes, bound, measure, 1000, -1)
    assert found.compiled == len(found.fitting) == 1
    assert "not tried: the time was up (--search-seconds)" in found.left.values()
    assert len(found.left) == len(FAMILIES) - 1


def test_meshes_and_batches():
    assert meshes(6) == ["data=6,model=1", "data=3,model=2", "data=2,model=3", "data=1,model=6"]
    assert batch_sizes(20, 3) == [3, 6, 12]
    assert batch_sizes(4, 8) == []


BOUNDS = """
import json
from dataclasses import replace
import mmtune
from mmtune.models.lora_config import LoRA
from mmtune.planning.bounds import bounds, held_bytes
from mmtune.planning.chips import CHIPS
from mmtune.planning.compiled import abstract_model, abstract_trainer, compile_step, with_layers
from mmtune.planning.request import describe
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import distributed, parse_mesh
from mmtune.sharding.table import layout_rows
tiny = describe("tiny")
short = with_layers(tiny, 2, 1)
many = replace(short, text=replace(short.text, vocabulary_size=262_144))  # whose loss takes four parts
ways = (
    (tiny, "data=2,model=2", False, None, "none"),
    (tiny, "data=4", True, None, "full"),
    (tiny, "model=4", False, "int4", "dots"),
    (many, "data=2,model=2", False, None, "none"),
    (many, "data=4", True, None, "full"),
)
for spec, mesh, full, scheme, again in ways:
    settings = {"mesh": mesh, "full": full, "quantize": scheme, "rematerialise": again}
    recipe = Recipe(task="instruct", data="-", batch_size=8, **settings)
    with distributed("data=1"):
        trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
        plain = layout_rows(trainer.variables, trainer.optimizer)
    with distributed(mesh):
        trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
        laid = layout_rows(trainer.variables, trainer.optimizer)
        step = compile_step(spec, recipe, 64, 64)
    least = bounds(spec, recipe, plain, 64, CHIPS["v5p"])
    held, operations = sum(row.bytes for row in laid), least.seconds * CHIPS["v5p"].flops
    told = [held_bytes(plain, parse_mesh(mesh)), held, least.bytes, step.total, operations, step.flops]
    print(json.dumps(told))
"""


def test_bounds_are_below_what_is_compiled_and_what_is_held_is_exact():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", BOUNDS], env=os.environ | flags, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 5
    for held, laid, least, total, operations, flops in lines:
        assert held == laid
        assert held < least < total
        assert 0.25 * flops < operations < flops  # the rest: attention, norms, optimizer


def test_the_command(tmp_path):
    words = [sys.executable, "-m", "mmtune", "plan", "tiny", "--search", "--devices", "2", "--batch-size", "2"]
    words += ["--seq-len", "16", "--dtype", "float32", "--quantize", "int8", "--search-seconds", "1"]
    file = tmp_path / "found.json"
    done = subprocess.run([*words, "--json", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(file.read_text())
    assert found["devices"] == 2
    assert found["compiled"] >= 1
    (best, *_) = found["best"]
    assert best["example_seconds"] == pytest.approx(best["step_seconds"] / best["batch_size"])
    assert best["quantize"] == "int8"
    assert len(found["best"]) + len(found["left"]) == 2 * 3
    assert best["mesh"] in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search", "--decode"], "--search plans many trainings: leave out --decode, --layout and --draw"),
        (["--devices", "4"], "--devices: expected 1 or more, with --search"),
        (["--search", "--devices", "0"], "--devices: expected 1 or more"),
    ],
)
def test_wrong_usage_is_a_sentence(words, said):
    command = [sys.executable, "-m", "mmtune", "plan", "tiny", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
