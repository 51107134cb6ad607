"""Training on simulated devices gives the losses of one device, with the weights really divided."""

import csv
import os
import subprocess
import sys

import pytest

import mmtune
from mmtune.errors import UsageError
from mmtune.sharding.mesh import parse_mesh

pytestmark = pytest.mark.usefixtures("quick_compiles")

PROGRAM = """
import sys, mmtune
from mmtune.recipe import Recipe
from mmtune.api import train_recipe
mesh, out = sys.argv[1] or None, sys.argv[2]
recipe = Recipe(task="detection", data="shapes:train?n=8&max_objects=2", model="tiny", out=out, steps=3, batch_size=4,
                full="full" in out, log_every=1, buckets=1, mesh=mesh,
                quantize=next((scheme for scheme in ("int8", "int4") if scheme in out), None))
model = train_recipe(recipe, verbose=False).model
layer = model.variables["text"]["layers"][0]
query, key = (getattr(layer[name], "values", layer[name]) for name in ("q_proj", "k_proj"))
print(query.value.sharding.shard_shape(query.shape), key.value.sharding.shard_shape(key.shape))
print(len(model.generate([model.pixels(__import__("PIL.Image").Image.new("RGB", (9, 9)))], ["detect circle"], 4)))
"""


def losses(folder, name, mesh):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    words = [sys.executable, "-c", PROGRAM, mesh, str(folder / name)]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    with (folder / name / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)], said


# Of the first layer's query and key weights on a device: half of the heads, where there is more than one, and half of
# the width; quantised half of the columns, and in int4 a byte holds two rows.
SHARDS = {
    "lora": "(2, 80, 40) (1, 80, 40)",
    "full": "(2, 80, 40) (1, 80, 40)",
    "int8": "(80, 80) (80, 40)",
    "int4": "(40, 80) (40, 40)",
}


@pytest.mark.parametrize("kind", SHARDS)
def test_a_mesh_gives_the_losses_of_one_device(tmp_path, kind):
    one, _ = losses(tmp_path, f"{kind}-one", "")
    four, said = losses(tmp_path, f"{kind}-four", "data=2,model=2")
    assert four[0] == pytest.approx(one[0], rel=1e-5)  # the log has six digits
    # Adam divides by the gradient's own size, so that rounding is blown up from the second step on.
    assert four == pytest.approx(one, rel=1e-4)
    assert said.startswith(SHARDS[kind])


LOADING = """
import sys
import numpy as np
import mmtune
import mmtune.models.hf_load as hf_load
from mmtune.sharding.mesh import distributed
from mmtune.models.fingerprint import differences
hf_load._PIECE = 2**14
told, bases = [], []
for mesh in (None, "model=2"):
    with distributed(mesh):
        for scheme in (None, "int4"):
            model = mmtune.load(sys.argv[1], quantize=scheme)
            table, query = model.variables["text"]["embedding"], model.variables["text"]["layers"][0]["q_proj"]
            parts = [getattr(one, "values", one) for one in (table, query)]
            print([part.value.sharding.shard_shape(part.shape) for part in parts])
            bases.append(model.fingerprint())
            told.append(model.score([np.zeros((9, 9, 3), np.uint8)], ["caption en"], ["a red star"])[0].logprobs)
print(max(np.abs(np.subtract(told[i], told[i + 2])).max() for i in (0, 1)))
print([bases[i].weights == bases[i + 2].weights for i in (0, 1)])
"""


def test_a_checkpoint_is_read_straight_to_its_devices(tmp_path):
    mmtune.load("tiny").export(tmp_path / "hf")
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    words = [sys.executable, "-c", LOADING, str(tmp_path / "hf")]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[:4] == [
        "[(2176, 160), (4, 160, 40)]",
        "[(2176, 160), (80, 160)]",
        "[(1088, 160), (2, 160, 40)]",
        "[(1088, 160), (80, 80)]",
    ]
    assert float(said[4]) < 1e-5
    assert said[5] == "[True, True]"


@pytest.mark.parametrize("text", ["data=0", "model", "rows=2", "data=x", ""])
def test_wrong_meshes_are_refused(text):
    with pytest.raises(UsageError, match="mesh"):
        parse_mesh(text)


def test_what_a_mesh_does_not_divide_is_left_whole_and_said(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    words = [sys.executable, "-m", "mmtune", "train", "--task", "detection", "--data", "shapes:train?n=3", "--mesh"]
    words += ["model=3", "--batch-size", "3", "--steps", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mesh data=1 x model=3: " in done.stderr
    said = "whole along model=3, which does not divide it: token_embedding/embeddings (2176, 160), 1 of them"
    assert said in done.stderr
    assert "MLP: gate, up" in (tmp_path / "run" / "layout.svg").read_text()
    table = (tmp_path / "run" / "layout.txt").read_text().splitlines()
    rows = {line.split()[0]: line for line in table}
    assert "(data, model)" in rows["decoder_block_1/ffw_gating/kernel"]
    assert rows["decoder_block_1/ffw_gating/kernel"].endswith(f"{160 * 480 // 3 * 4:,}")
    assert rows["token_embedding/embeddings"].endswith(f"{2176 * 160 * 4:,}")


def test_axes_default_to_one():
    assert parse_mesh("model=8") == {"data": 1, "model": 8}
