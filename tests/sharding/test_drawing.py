"""Pictures of layouts: cells hold what JAX says that devices hold, kinds cover a model, files can be read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mmtune.errors import UsageError
from mmtune.sharding.canvas import Drawing, Label, Rectangle, as_svg, write_drawing
from mmtune.sharding.drawing import colour, draw_layout, holders, numbers
from mmtune.sharding.kinds import kinds
from mmtune.sharding.table import Row

MESH = {"data": 2, "model": 4}
ROWS = [
    Row("token_embedding/embeddings", (256, 48), "float32", ("model", "data"), 256 * 48 * 4 // 8),
    Row("decoder_block_0/attention/query/kernel", (8, 48, 16), "bfloat16", ("model", "data", None), 1536),
    Row("decoder_block_1/attention/query/kernel", (8, 48, 16), "bfloat16", ("model", "data", None), 1536),
    Row("decoder_block_0/attention/key/kernel", (1, 48, 16), "bfloat16", (None, "data", None), 768),
    Row("decoder_block_0/attention/value/kernel", (1, 48, 16), "bfloat16", (None, "data", None), 768),
    Row("decoder_block_0/pre_attention_norm/scale", (48,), "float32", (None,), 192),
    Row("lora/model_layers_0_self_attn_q_proj_b", (4, 128), "float32", (None, "model"), 512),
    Row("mine/some_table", (6, 8), "float32", ("data", None), 96),
    Row("seed_generator/seed_generator_state", (2,), "uint32", (None,), 8),
    Row("adam_w/mine_some_table_momentum", (6, 8), "float32", ("data", None), 96, "mine/some_table", True),
]

TRUTH = """
import json, sys
import jax
import numpy as np
mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
told = []
for axes, shape in json.loads(sys.argv[1]):
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    parts = sharding.devices_indices_map(tuple(shape))
    told.append([[[s.start or 0, s.stop or size] for s, size in zip(parts[d], shape)] for d in jax.devices()])
print(json.dumps(told))
"""


def test_cells_hold_what_jax_lays_there():
    found = kinds(ROWS)
    asked = json.dumps([[kind.axes, kind.shape] for kind in found])
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    words = [sys.executable, "-c", TRUTH, asked]
    told = json.loads(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
    for kind, devices in zip(found, told, strict=True):
        held = holders(kind, MESH)
        for device, bounds in enumerate(devices):
            (cell,) = np.argwhere(held[..., device])
            cuts = np.array(held.shape[:-1])
            first, last = np.array(bounds).T
            assert (first == cell * kind.shape // cuts).all()
            assert (last == (cell + 1) * kind.shape // cuts).all()


def test_kinds_gather_layers_and_name_what_they_know():
    told = [(kind.part, kind.name, kind.count) for kind in kinds(ROWS)]
    assert told == [
        ("decoder", "embedding", 1),
        ("decoder", "attention: query", 2),
        ("decoder", "attention: key, value", 2),
        ("decoder", "norms", 1),
        ("adapter", "LoRA B: q", 1),
        ("further weights", "mine/some_table", 1),
    ]


COVERAGE = """
import json
from types import SimpleNamespace
from backbones import make
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.sharding.kinds import OTHER, kinds
from mmtune.sharding.table import layout_rows
import jax
for family in ("gemma", "gemma2", "llama3", "paligemma", "paligemma2"):
    for scheme in (None, "int8", "int4"):
        model = Model(make(family), SimpleNamespace(loc=None), name=family)
        if scheme:
            model.quantize(scheme)
        lora = model.add_lora(LoRA(rank=4, dora=True, vision=family.startswith("pali")), 0)
        found = kinds(layout_rows([*jax.tree.leaves(model.variables), *lora.variables]))
        print(family, scheme, len(found), [kind.name for kind in found if kind.part == OTHER])
"""


def test_every_weight_of_every_family_has_a_name():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-c", COVERAGE]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 15
    for line in lines:
        assert line.endswith(" []"), line
        assert int(line.split()[2]) > 9, line


def test_a_picture_shows_each_cell_in_the_colours_of_its_devices(tmp_path):
    drawing = draw_layout("a <model> & more", ROWS, MESH)
    texts = [mark.text for mark in drawing.marks if isinstance(mark, Label)]
    assert "heads 8 / 4" in texts
    assert "width 48 / 2" in texts
    assert "whole on all 8" in texts
    assert "2 of 8 x 48 x 16 bfloat16" in texts
    file = tmp_path / "layout.png"
    write_drawing(file, drawing)
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert picture.shape == (round(drawing.height * 2), round(drawing.width * 2), 3)
    cells = [mark for mark in drawing.marks if isinstance(mark, Rectangle) and mark.width > 8 and mark.height > 8]
    # 8 of the mesh, embedding and query 8 each, the norms' one, and stripes: keys 2 x 4, B 4 x 2, and a table's 2 x 4.
    assert len(cells) == 8 + 8 + 8 + 1 + 8 + 8 + 8
    for cell in cells:
        seen = picture[int((cell.y + 3) * 2), int((cell.x + 3) * 2)]
        wanted = [int(cell.fill[place : place + 2], 16) for place in (1, 3, 5)]
        assert abs(seen - wanted).max() < 12, cell


def test_svg_is_escaped():
    drawing = draw_layout('a <model> & "more"', ROWS, MESH)
    root = ElementTree.fromstring(as_svg(drawing))
    assert 'a <model> & "more"' in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_colours_tell_devices_apart():
    for mesh in (MESH, {"data": 8, "model": 1}, {"data": 1, "model": 8}, {"data": 1, "model": 1}):
        count = mesh["data"] * mesh["model"]
        assert len({colour(device, mesh) for device in range(count)}) == count


def test_numbers_in_short():
    assert numbers([3]) == "3"
    assert numbers([0, 4]) == "0 4"
    assert numbers(range(16)) == "0-15"


def test_large_meshes_are_drawn_without_numbers_that_nobody_can_read(tmp_path):
    mesh = {"data": 8, "model": 128}
    rows = [Row("token_embedding/embeddings", (1024, 64), "float32", ("model", "data"), 256)]
    drawing = draw_layout("many", rows, mesh)
    assert drawing.width < 1000
    assert all(mark.size >= 5 for mark in drawing.marks if isinstance(mark, Label))
    write_drawing(tmp_path / "many.svg", drawing)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"layout\.pdf: expected a file that ends in \.svg or \.png"):
        write_drawing(tmp_path / "layout.pdf", Drawing(1, 1, ()))
