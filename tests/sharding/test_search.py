"""The search for a mesh against trying everything, and its bounds against what is compiled."""

import io
import itertools
import json
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

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
    found = search(FAMILIES, sizes, bound, measure, memory)
    assert [one.per_example for one in found.fitting[:1]] == sorted(fitting)[:1]
    assert all(one.taken.bytes <= memory for one in found.fitting)
    assert found.compiled < len(every)
    # Every family is either among those that fit or left for a reason, never both.
    shown = [one.way.family for one in found.fitting]
    assert sorted(map(str, [*shown, *found.left])) == sorted(map(str, FAMILIES))


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("memory", [12, 25, 60])
def test_what_is_likely_to_fit_is_compiled_first(seed, memory):
    """Ways take three times their bound: one miss tells how far bounds are off, and the next ones fit."""
    measure, bound = made_up(seed)

    def far(way):
        least = bound(way)
        return Bounds(measure(way).bytes / 3, least.seconds, least.estimate)

    first = []

    def on_step(found, way):
        if way is not None and found.fitting and not first:
            first.append(found.compiled)

    found = search(FAMILIES, sizes, far, measure, memory, on_step)
    assert found.fitting
    assert (first or [found.compiled])[0] <= 3


def test_what_is_known_is_told_before_each_compilation():
    measure, bound = made_up(1)
    told = []

    def on_step(found, way):
        told.append((found.compiled, way, len(found.untried)))
        known = {one.way.family for one in found.fitting} | set(found.left) | set(found.untried)
        assert known == set(FAMILIES)

    found = search(FAMILIES, sizes, bound, measure, 25, on_step)
    assert [compiled for compiled, *_ in told] == list(range(found.compiled + 1))
    assert told[-1] == (found.compiled, None, 0)
    assert told[0][2] > 20


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
    words += ["--seq-len", "16", "--dtype", "float32", "--quantize", "int8", "--search-seconds", "120"]
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
    assert found["not_tried"] == 0
    assert "untried" not in found


def test_the_time_is_kept(tmp_path):
    """Two seconds are too few for anything: the command ends with a true word about what it knows."""
    file = tmp_path / "found.json"
    words = ["plan", "tiny", "--search", "--devices", "4", "--search-seconds", "2", "--json", str(file)]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "mmtune", *words], capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 30  # a compilation that has begun would take as long again
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing found yet, 27 not tried: give it more time by --search-seconds" in done.stdout
    assert "nothing fits" not in done.stdout
    found = json.loads(file.read_text())
    assert found["not_tried"] == len(found["left"]) == 27
    assert found["best"] == []
    assert {one["reason"] for one in found["left"]} == {"not tried: the time was up (--search-seconds 2)"}


def test_what_cannot_fit_is_not_called_untried():
    words = ["plan", "tiny", "--search", "--devices", "2", "--hbm", "0.0001", "--search-seconds", "120"]
    done = subprocess.run([sys.executable, "-m", "mmtune", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing fits" in done.stdout
    assert "not tried" not in done.stdout


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused(seconds):
    words = ["plan", "tiny", "--search", "--search-seconds", seconds]
    done = subprocess.run([sys.executable, "-m", "mmtune", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--search-seconds: expected a number above 0" in done.stderr


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


def test_what_was_found_is_kept_when_the_process_that_searches_dies(monkeypatch):
    """As when the machine's memory is used up: what it told before is shown, and that it died."""
    from mmtune.planning import search_process
    from mmtune.planning.search_report import print_search

    best = {"mesh": "data=1,model=1", "quantize": None, "rematerialise": "none", "batch_size": 8}
    best |= {"total": 2**30, "step_seconds": 0.8, "example_seconds": 0.1}
    way = {"mesh": "data=1,model=1", "quantize": "int8", "rematerialise": "none"}
    told = {"compiled": 1, "best": [best], "left": [], "untried": [way], "next": way | {"batch_size": 8}}
    program = f"import os\nprint({json.dumps(told)!r}, flush=True)\nos.kill(os.getpid(), 9)"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **more: popen([words[0], "-c", program], **more))
    asked = {"model": "tiny", "settings": {}, "length": 8, "chip": "v5p", "memory": 95, "devices": 1}
    found = search_process.search_within(asked, 60, lambda *_: None)
    assert found["best"] == [best]
    assert found["not_tried"] == 1
    assert found["left"][0]["reason"] == "not tried: the process that searches ended with exit code -9"
    out = io.StringIO()
    about = {"model": "tiny", "devices": 1, "chip": "v5p", "hbm": 95, "seq_len": 8}
    print_search(Console(file=out, width=120), about | found)
    assert "the best so far, 1 not tried: the process that searches ended with exit code -9" in out.getvalue()
