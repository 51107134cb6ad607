"""Which modules an adapter is on, how many weights that makes and with what they begin; options and their faults."""

import numpy as np
import pytest
from backbones import make
from small_adapters import FAMILIES, config, make_lora

from mmtune.errors import ModelError
from mmtune.models.lora_config import LoRA
from mmtune.models.modules import current_path, linear_kernels, select
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

# (inputs + outputs) of each module; hidden 48, 4 query heads of 16, gated mlp 64; vision 32 wide, mlp 64.
DECODER_SUMS = {
    "paligemma2": [48 + 64, 48 + 16, 48 + 16, 64 + 48, 48 + 64, 48 + 64, 64 + 48],  # one KV head
    "gemma2": [48 + 64, 48 + 32, 48 + 32, 64 + 48, 48 + 64, 48 + 64, 64 + 48],  # two KV heads
    "llama3": [64 + 64, 64 + 32, 64 + 32, 64 + 64, 64 + 128, 64 + 128, 128 + 64],
}
VISION_SUMS = [32 + 32, 32 + 32, 32 + 32, 32 + 32, 32 + 64, 64 + 32]
DECODER_OUTPUTS = {
    "paligemma2": 64 + 16 + 16 + 48 + 64 + 64 + 48,
    "gemma2": 64 + 32 + 32 + 48 + 64 + 64 + 48,
    "llama3": 64 + 32 + 32 + 64 + 128 + 128 + 64,
}
VISION_OUTPUTS = 4 * 32 + 64 + 32


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_number_of_trainable_parameters(family, rank):
    backbone = make(family, num_layers=4)
    decoder = make_lora(backbone, LoRA(rank=rank))
    assert decoder.count == rank * 4 * sum(DECODER_SUMS[family])
    assert decoder.count == sum(int(np.prod(v.shape)) for v in decoder.trainable_variables)
    total, lengths = rank * 4 * sum(DECODER_SUMS[family]), 4 * DECODER_OUTPUTS[family]
    if family.startswith("pali"):
        total += rank * (2 * sum(VISION_SUMS) + 32 + 48)
        lengths += 2 * VISION_OUTPUTS + 48
    assert make_lora(backbone, config(family, rank=rank)).count == total
    assert make_lora(backbone, config(family, rank=rank, dora=True)).count == total + lengths


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"targets": ("q_proj",)}, [f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(4)]),
        (
            {"targets": ("q_proj",), "vision": True},
            [f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(4)]
            + [f"model.vision_tower.encoder.layers.{i}.self_attn.q_proj" for i in range(2)],
        ),
        ({"targets": ("fc1",), "vision": True}, [f"model.vision_tower.encoder.layers.{i}.mlp.fc1" for i in range(2)]),
        ({"targets": ("linear",), "vision": True}, ["model.multi_modal_projector.linear"]),
        (
            {"targets": (r".*vision_tower.*\.0\..*out_proj",)},
            ["model.vision_tower.encoder.layers.0.self_attn.out_proj"],
        ),
        (
            {"targets": (r"model\.language_model\.layers\.[13]\.mlp\.(up|down)_proj", "v_proj")},
            [
                "model.language_model.layers.0.self_attn.v_proj",
                "model.language_model.layers.1.self_attn.v_proj",
                "model.language_model.layers.1.mlp.up_proj",
                "model.language_model.layers.1.mlp.down_proj",
                "model.language_model.layers.2.self_attn.v_proj",
                "model.language_model.layers.3.self_attn.v_proj",
                "model.language_model.layers.3.mlp.up_proj",
                "model.language_model.layers.3.mlp.down_proj",
            ],
        ),
    ],
    ids=["name", "name in both", "vision name", "projector", "pattern in vision", "pattern and name"],
)
def test_targets(options, expected):
    lora = make_lora(make("paligemma2", num_layers=4), LoRA(rank=2, **options))
    assert list(lora.table) == expected


def test_paths_of_text_models():
    backbone = make("llama3", num_layers=4)
    assert list(make_lora(backbone, LoRA(targets=("o_proj",))).table) == [
        f"model.layers.{i}.self_attn.o_proj" for i in range(4)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"targets": ("q_prj",)},
            "'q_prj' matches no linear module of this model. Names: .*q_proj.*model.language_model.layers.0",
        ),
        ({"targets": ("fc1",)}, "'fc1' matches no linear module"),  # only in the tower, and vision is off
        ({"targets": ("q_proj", r"model\.layers\..*")}, r"'model\\.layers\\..\*' matches no linear module"),
        ({"targets": ("(q_proj|",)}, r"'\(q_proj\|' is no regular expression: missing \)"),
    ],
    ids=["typing error", "vision off", "pattern", "broken pattern"],
)
def test_unknown_target(options, message):
    with pytest.raises(ModelError, match=message) as error:
        make_lora(make("paligemma2", num_layers=4), LoRA(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "lora.rank: expected a whole number from 1, got 0"),
        ({"alpha": 0.0}, "lora.alpha: expected a number above 0, got 0.0"),
        ({"dropout": 1.0}, r"lora.dropout: expected a rate in 0..1 (1 excluded), got 1.0"),
        ({"targets": ()}, "lora.targets: expected at least one module name or pattern, got none"),
    ],
)
def test_config_problems(options, message):
    assert LoRA(**options).problems() == [message]
    assert LoRA().problems() == []


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 2.0), ({"alpha": 4.0}, 0.25), ({"alpha": 4.0, "rslora": True}, 1.0), ({"rslora": True}, 8.0)],
)
def test_scale(options, scale):
    assert LoRA(rank=16, **options).scale == scale


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("language_model.model.layers.3.mlp.up_proj", "model.language_model.layers.3.mlp.up_proj"),
        ("vision_tower.vision_model.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"),
        ("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"),
        ("multi_modal_projector.linear", "model.multi_modal_projector.linear"),
        ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"),
    ],
)
def test_former_module_paths(former, now):
    assert current_path(former) == now
    assert current_path(now) == now


def test_initial_weights():
    """`a` is uniform within 1 / sqrt(inputs) and differs between modules and seeds."""
    backbone = make("gemma2", num_layers=4)
    lora = make_lora(backbone, LoRA(rank=32))
    down, up = (np.asarray(lora.table[f"model.layers.0.mlp.{name}"]["a"]) for name in ("down_proj", "up_proj"))
    assert np.abs(down).max() <= 64**-0.5
    assert np.abs(up).max() <= 48**-0.5
    assert np.std(up) == pytest.approx(48**-0.5 / np.sqrt(3), rel=0.1)
    drawn = {np.asarray(weights["a"]).tobytes() for weights in lora.table.values()}
    assert len(drawn) == len(lora.table)
    again, other = make_lora(backbone, LoRA(rank=32)), make_lora(backbone, LoRA(rank=32), seed=100)
    assert {np.asarray(weights["a"]).tobytes() for weights in again.table.values()} == drawn
    assert not {np.asarray(weights["a"]).tobytes() for weights in other.table.values()} & drawn


def test_select_keeps_the_models_order():
    paths = list(linear_kernels(read_spec(make("gemma2", num_layers=4)), model_variables(make("gemma2", num_layers=4))))
    assert select(paths, LoRA(targets=("down_proj", "q_proj")))[:3] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
    ]
