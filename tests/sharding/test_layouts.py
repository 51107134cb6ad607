"""Training and decoding on simulated devices equal one device's; rules cover every weight; checks can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.errors import UsageError
from mmtune.sharding.rules import RULES, find, fit
from mmtune.sharding.table import Row, slot_faults

FAMILIES = ("gemma", "gemma2", "llama3", "paligemma", "paligemma2")
DEVICES = 8


def program(words, devices=DEVICES):
    """Returns what a Python program prints on simulated devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_equal(family, kinds, *meshes):
    words = [Path(__file__).with_name("equal_runs.py"), family, ",".join(kinds), *meshes]
    told = [json.loads(line) for line in program(words).splitlines()]
    assert [(run["kind"], run["mesh"]) for run in told] == [(kind, mesh) for kind in kinds for mesh in meshes]
    for run in told:
        print(family, json.dumps(run))  # pytest -rP shows it
        assert run["loss"] <= 1e-5, run
        assert run["weights"] <= 1e-5, run
        assert run["tokens"], run
        assert run["faults"] == [], run
        assert run["divided"] > 8, run


# One of one key and value head, one that sees, and one whose key and value heads are divided, in few bits too.
@pytest.mark.parametrize(
    ("family", "kinds", "mesh"),
    [
        ("gemma", ("lora", "full"), "data=2,model=4"),
        ("paligemma2", ("lora", "full"), "data=2,model=4"),
        ("gemma2", ("lora", "int8", "int4"), "data=4,model=2"),
    ],
)
def test_a_mesh_equals_one_device(family, kinds, mesh):
    check_equal(family, kinds, mesh)


@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
def test_every_mesh_equals_one_device(family):
    check_equal(family, ("lora", "full", "int8", "int4"), "data=8", "data=4,model=2", "data=2,model=4", "model=8")


COVERAGE = """
from types import SimpleNamespace
import jax
import keras
from backbones import make
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.sharding.mesh import distribution
layouts = distribution("data=2,model=2", {".*layer_norm_1/gamma": (), "no_such/.*": ("data",)})
keras.distribution.set_distribution(layouts)
for family in ("gemma", "gemma2", "llama3", "paligemma", "paligemma2"):
    for scheme in (None, "int8", "int4"):
        model = Model(make(family), SimpleNamespace(loc=None), name=family)
        if scheme:
            model.quantize(scheme)
        model.add_lora(LoRA(rank=4, dora=True, vision=family.startswith("pali")), 0)
print(len(layouts.decided), sorted(layouts.unmatched), layouts.unused)
"""


def test_every_weight_has_a_rule():
    count, rest = program(["-c", COVERAGE], 4).split(" ", 1)
    assert int(count) > 200
    assert rest.strip() == "[] ['no_such/.*']"


CAST = """
from types import SimpleNamespace
import keras
import numpy as np
from backbones import make
from mmtune.model import Model
from mmtune.sharding.mesh import distribution
keras.distribution.set_distribution(distribution("data=2,model=2"))
for family in ("paligemma2", "llama3"):
    wide = make(family)
    model = Model(make(family, dtype="bfloat16"), SimpleNamespace(loc=None), name=family)
    model.cast("float32")
    divided = 0
    for one, two in zip(wide.weights, model.backbone.weights, strict=True):
        assert one.path == two.path
        assert one.value.sharding.is_equivalent_to(two.value.sharding, len(one.shape)), one.path
        assert one._layout.axes == two._layout.axes, one.path
        assert two.dtype == two.value.dtype == "float32"
        rounded = np.asarray(one.value.astype("bfloat16").astype("float32"))
        np.testing.assert_array_equal(rounded, np.asarray(two.value))
        divided += not two.value.sharding.is_fully_replicated
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.backbone.trainable_variables)
    slots = [v for v in optimizer.variables if "velocity" in v.path]
    for slot, weight in zip(slots, model.backbone.trainable_variables, strict=True):
        assert slot.value.sharding.is_equivalent_to(weight.value.sharding, len(slot.shape)), slot.path
        assert slot.dtype == "float32"
    print(family, divided > 8)
"""


def test_weights_in_another_dtype_lie_where_they_lay():
    assert program(["-c", CAST], 4).splitlines() == ["paligemma2 True", "llama3 True"]


# Whole paths as Keras names them, on (data, model) = (2, 4).
PLACES = {
    ("token_embedding/embeddings", (256, 48)): ("model", "data"),
    ("decoder_block_0/attention/query/kernel", (8, 48, 16)): ("model", "data", None),
    ("decoder_block_11/attention/key/kernel", (1, 48, 16)): (None, "data", None),
    ("pali/decoder_block_0/attention/attention_output/kernel", (8, 16, 48)): ("model", None, "data"),
    ("decoder_block_0/pre_attention_norm/scale", (48,)): (None,),
    ("transformer_layer_3/self_attention/key/kernel", (48, 4, 16)): ("data", "model", None),
    ("image_encoder/encoder_block_0/multi_head_attention/out_proj/kernel", (32, 32)): ("model", "data"),
    ("image_encoder/encoder_block_0/mlp_dense_1/bias", (64,)): ("model",),
    ("lora/model_layers_0_self_attn_q_proj_b", (4, 64)): (None, "model"),
    ("lora/model_layers_0_self_attn_o_proj_a", (64, 4)): ("model", None),
    ("lora/model_layers_0_self_attn_k_proj_b", (4, 64)): (None, "model"),
    ("lora/model_vision_tower_encoder_layers_0_self_attn_v_proj_b", (4, 64)): (None, "model"),
    ("lora/model_layers_0_self_attn_v_proj_magnitude", (64,)): ("model",),
    ("quantized/model/layers/0/self_attn/k_proj/values", (48, 64)): ("data", "model"),
    ("quantized/model/layers/0/self_attn/v_proj/scale", (1, 64)): (None, "model"),
    ("quantized/model/layers/0/self_attn/o_proj/values", (64, 48)): ("model", "data"),
    ("quantized/model/vision_tower/encoder/layers/0/self_attn/v_proj/values", (32, 32)): ("data", "model"),
    ("quantized/model/embedding/values", (256, 48)): ("model", "data"),
    ("quantized/model/embedding/scale", (256, 1)): ("model", None),
    ("quantized/model/head/values", (48, 256)): ("data", "model"),
}


@pytest.mark.parametrize(("path", "shape"), PLACES, ids=[path for path, _ in PLACES])
def test_where_weights_lie(path, shape):
    rule = find(path, RULES)
    assert rule is not None
    assert fit(rule.axes, shape, {"data": 2, "model": 4}).axes == PLACES[path, shape]


AGREEMENT = """
import json
from types import SimpleNamespace
import jax
from backbones import make
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.models.modules import linear_kernels
from mmtune.sharding.mesh import distributed
def along(variable):
    axes = tuple(variable._layout.axes)
    return axes + (None,) * (len(variable.shape) - len(axes))
def sides(path, kernel):  # what divides inputs and outputs
    axes = along(kernel)
    if len(axes) == 2:
        return list(axes)
    if path.endswith("o_proj"):
        return [axes[0] or axes[1], axes[2]]
    return [axes[1], axes[0] or axes[2]] if head_first else [axes[0], axes[1] or axes[2]]
def outer(spec, tree):  # embeddings and head, where it is not the embeddings
    tables = {"embedding": tree["text"]["embedding"], "head": tree["text"]["head"]}
    return {name: table for name, table in tables.items() if table is not None}
for family, kwargs in (("gemma", {"num_key_value_heads": 1}), ("gemma2", {}), ("llama3", {}), ("paligemma2", {})):
    for mesh in ("data=2,model=2", "data=2,model=4", "data=1,model=8", "data=4,model=1"):
        with distributed(mesh):
            model = Model(make(family, **kwargs), SimpleNamespace(loc=None), name=family)
            head_first = model.spec.text.head_first
            kernels = linear_kernels(model.spec, model.variables)
            wanted = {path: sides(path, kernel) for path, kernel in kernels.items()}
            tables = {name: list(along(table)) for name, table in outer(model.spec, model.variables).items()}
            lora = model.add_lora(LoRA(rank=3, dora=True, vision=family.startswith("pali")), 0)
            found = {}
            for path, weights in lora.table.items():
                inputs, outputs = wanted[path]
                model_only = [axis if axis == "model" else None for axis in (inputs, outputs)]
                a, b, magnitude = (along(weights[name]) for name in ("a", "b", "magnitude"))
                if [a[0], b[1]] != model_only or a[1] or b[0] or magnitude != (model_only[1],):
                    print("adapter", family, mesh, path, wanted[path], a, b, magnitude)
            for scheme in ("int8", "int4"):
                other = Model(make(family, **kwargs), SimpleNamespace(loc=None), name=family)
                other.quantize(scheme)
                for path, kernel in linear_kernels(other.spec, other.variables).items():
                    if list(along(kernel.values)) != wanted[path]:
                        print(scheme, family, mesh, path, wanted[path], along(kernel.values))
                for name, table in outer(other.spec, other.variables).items():
                    if list(along(table.values)) != tables[name]:
                        print(scheme, family, mesh, name, tables[name], along(table.values))
            divided = sum("model" in axes for axes in wanted.values())
            keys = {axes[1] for path, axes in wanted.items() if path.endswith("k_proj") and "vision" not in path}
            print("done", family, mesh, divided, *keys)
"""


def test_adapters_and_quantized_matrices_are_divided_as_the_kernels_that_they_stand_for():
    lines = program(["-c", AGREEMENT]).splitlines()
    assert [line for line in lines if not line.startswith("done")] == []
    assert len(lines) == 4 * 4
    # One head for keys and values is whole; more are divided where the mesh divides them.
    assert lines[0].endswith("gemma data=2,model=2 10 None"), lines[0]
    assert any(line.endswith(" model") for line in lines), lines


def test_a_rule_for_other_axes_is_refused():
    with pytest.raises(ValueError, match="expected 2 axes"):
        fit(("model",), (4, 4), {"model": 2})


def test_slots_elsewhere_than_their_weight_are_faults():
    weight = Row("decoder_block_0/ffw_linear/kernel", (8, 4), "float32", ("model", None), 64)
    slot = Row("adam_w/decoder_block_0_ffw_linear_kernel_momentum", (8, 4), "float32", ("model", None), 64, weight.path)
    broken = Row(slot.path, slot.shape, slot.dtype, (None, None), 128, weight.path)
    assert slot_faults([weight, slot]) == []
    (said,) = slot_faults([weight, broken])
    assert said == f"{slot.path} of shape (8, 4) lies whole, its weight {weight.path} (model, -)"


BROKEN = """
import jax
import keras
from backbones import make
from mmtune.sharding.mesh import distribution
from mmtune.sharding.table import layout_rows, slot_faults
keras.distribution.set_distribution(distribution("data=2,model=2"))
backbone = make("gemma")
optimizer = keras.optimizers.AdamW()
optimizer.build(backbone.trainable_variables)
print(slot_faults(layout_rows(backbone.weights, optimizer)))
slot = next(v for v in optimizer.variables if v.path.endswith("decoder_block_1_attention_query_kernel_momentum"))
slot._value = jax.device_put(slot.value, jax.devices()[0])
print(slot_faults(layout_rows(backbone.weights, optimizer)))
"""


def test_a_slot_that_was_moved_is_found():
    sound, moved = program(["-c", BROKEN], 4).splitlines()
    assert sound == "[]"
    assert "decoder_block_1_attention_query_kernel_momentum" in moved
    assert "lies whole, its weight decoder_block_1/attention/query/kernel (model, data, -)" in moved


WRONG = """
from mmtune.errors import UsageError
from mmtune.sharding.mesh import distribution
for mesh, rules in (("model=2", {".*": ("rows",)}), ("model=99", None)):
    try:
        distribution(mesh, rules)
    except UsageError as error:
        print(error)
"""


def test_wrong_distributions_are_sentences():
    axis, devices = program(["-c", WRONG], 2).splitlines()
    assert axis == "layout '.*': the mesh has no axis 'rows'"
    assert devices.startswith("mesh: model=99 needs 99 devices, there are 2")


def test_unknown_axes_of_a_mesh():
    from mmtune.sharding.mesh import parse_mesh

    with pytest.raises(UsageError, match="axis"):
        parse_mesh("rows=2")
