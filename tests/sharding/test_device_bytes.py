"""Bytes on each device of Gemma 2 9B and 27B: weights, adapter and optimizer, against arithmetic written out here.

The sizes are those of the models' cards. Every matrix is divided as docs/sharding.md says; nothing is taken from the
rules of mmtune.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.slow

RANK = 8
DEVICES = 16
MESHES = ("data=8", "data=2,model=4", "model=16")
SCHEMES = ("bfloat16", "int8", "int4")
GROUP = 32  # rows that share a scale in int4


@dataclass(frozen=True)
class Sizes:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    mlp: int
    vocabulary: int = 256_000


MODELS = {
    "gemma2_9b_en": Sizes(42, 3584, 16, 8, 256, 14336),
    "gemma2_27b_en": Sizes(46, 4608, 32, 16, 128, 36864),
}

PROGRAM = """
import json, sys
from mmtune.models.lora_config import LoRA
from mmtune.planning.bounds import held_bytes
from mmtune.planning.compiled import abstract_model, abstract_trainer
from mmtune.planning.request import describe
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import distributed, parse_mesh
from mmtune.sharding.table import layout_rows
names, meshes, schemes, rank = json.loads(sys.argv[1])
for name in names:
    spec = describe(name)
    for scheme in schemes:
        quantize = None if scheme == "bfloat16" else scheme
        recipe = Recipe(task="instruct", data="-", precision="bfloat16", quantize=quantize, lora=LoRA(rank=rank))
        with distributed("data=1"):
            trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
            plain = layout_rows(trainer.variables, trainer.optimizer)
        for mesh in meshes:
            with distributed(mesh):
                trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
                rows = layout_rows(trainer.variables, trainer.optimizer)
            told = {"weights": 0, "adapter": 0, "optimizer": 0, "keys and values": 0}
            for row in rows:
                if row.shape in ((), (2,)):  # the step, the state of the random generator
                    continue
                kind = "optimizer" if row.of_optimizer else "adapter" if row.path.startswith("lora/") else "weights"
                told[kind] += row.bytes
                parts = row.path.split("/")
                if kind == "weights" and {"k_proj", "v_proj", "key", "value"} & set(parts):
                    told["keys and values"] += row.bytes
            told["sum"] = sum(row.bytes for row in rows)
            told["by the search"] = held_bytes(plain, parse_mesh(mesh))
            print(json.dumps([name, scheme, mesh, told]), flush=True)
"""


def part(size, devices):
    """Returns what a device has of an axis: its part, or all where the devices do not divide it."""
    return size if size % devices else size // devices


def matrix_bytes(inputs, outputs, scheme, data_on_inputs, data, model, unit):
    """Returns the bytes on each device of a linear module.

    Args:
        inputs, outputs: Its size.
        scheme: What its numbers are kept in.
        data_on_inputs: Whether "data" divides the inputs and "model" the outputs; otherwise the other way round.
        data, model: Devices along each axis.
        unit: How many heads lie along what "model" divides; None: it may be divided anywhere.
    """
    across_model = model if unit is None or unit % model == 0 else 1
    over_inputs, over_outputs = (data, across_model) if data_on_inputs else (across_model, data)
    if scheme == "bfloat16":
        return 2 * part(inputs, over_inputs) * part(outputs, over_outputs)
    if scheme == "int8":  # a float32 scale for each output
        return part(inputs, over_inputs) * part(outputs, over_outputs) + 4 * part(outputs, over_outputs)
    groups = inputs // GROUP  # two weights a byte, a bfloat16 scale for each group
    columns = part(outputs, over_outputs)
    return part(inputs // 2, over_inputs) * columns + 2 * part(groups, over_inputs) * columns


def modules(s):
    """Yields each linear module of a layer: inputs, outputs, whether "model" divides its outputs, heads there."""
    yield s.width, s.heads * s.head, True, s.heads  # q
    yield s.width, s.kv_heads * s.head, True, s.kv_heads  # k
    yield s.width, s.kv_heads * s.head, True, s.kv_heads  # v
    yield s.heads * s.head, s.width, False, s.heads  # o
    yield s.width, s.mlp, True, None  # gate
    yield s.width, s.mlp, True, None  # up
    yield s.mlp, s.width, False, None  # down


def weight_bytes(s, scheme, data, model):
    layer = sum(matrix_bytes(i, o, scheme, by_columns, data, model, unit) for i, o, by_columns, unit in modules(s))
    norms = (4 * s.layers + 1) * s.width * 2
    rows, columns = part(s.vocabulary, model), part(s.width, data)
    embedding = 2 * rows * columns if scheme == "bfloat16" else rows * columns + 4 * rows
    return s.layers * layer + norms + embedding


def adapter_bytes(s, model):
    total = 0
    for inputs, outputs, by_columns, unit in modules(s):
        across = model if unit is None or unit % model == 0 else 1
        a = (inputs if by_columns else part(inputs, across)) * RANK
        b = RANK * (part(outputs, across) if by_columns else outputs)
        total += 4 * (a + b)
    return s.layers * total


@pytest.fixture(scope="module")
def told():
    """Bytes by model, scheme and mesh as the layout has them."""
    words = [sys.executable, "-c", PROGRAM, json.dumps([list(MODELS), MESHES, SCHEMES, RANK])]
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    done = subprocess.run(words, env=os.environ | flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {(name, scheme, mesh): found for name, scheme, mesh, found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mesh", MESHES)
def test_bytes_of_a_device(told, name, scheme, mesh):
    axes = {"data": 1, "model": 1} | {axis: int(size) for axis, size in (one.split("=") for one in mesh.split(","))}
    found, sizes = told[name, scheme, mesh], MODELS[name]
    print(name, scheme, mesh, {key: f"{value / 2**30:.3f} GiB" for key, value in found.items()})
    assert found["weights"] == weight_bytes(sizes, scheme, **axes)
    assert found["adapter"] == adapter_bytes(sizes, axes["model"])
    assert found["optimizer"] == 2 * found["adapter"]  # Adam's two moments in float32
    assert found["sum"] == found["by the search"]


def test_the_keys_and_values_that_were_whole(told):
    """Of 9B on four devices along model: eight heads of keys and values, one byte a weight."""
    numbers = 42 * 2 * 3584 * 8 * 256
    assert numbers / 2**30 == pytest.approx(0.574, abs=5e-4)
    scales = 42 * 2 * 8 * 256 * 4
    assert told["gemma2_9b_en", "int8", "data=2,model=4"]["keys and values"] == numbers // 8 + scales // 4
    assert (numbers // 8) / 2**30 == pytest.approx(0.072, abs=5e-4)
    # Eight heads are not divided over sixteen devices, in no form.
    assert told["gemma2_9b_en", "int8", "model=16"]["keys and values"] == numbers + scales
    assert told["gemma2_9b_en", "bfloat16", "model=16"]["keys and values"] == 2 * numbers
