"""Plans against whole compiled models, and what they say on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.planning.chips import CHIPS, step_seconds
from mmtune.planning.collectives import Traffic, traffic
from mmtune.planning.hlo import parse

DEVICES = 8
HLO = """
  %all-reduce.1 = f32[4,8]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1}}
  %ar = (f32[2]{0}, bf16[3,5]{1,0}) all-reduce(%y, %z), channel_id=2
  %ag = bf16[16,2]{1,0} all-gather-start(%x), dimensions={0}
  %done = bf16[16,2]{1,0} all-gather-done(%ag)
  %flag = pred[7]{0} collective-permute(%f), source_target_pairs={{0,1}}
  %fusion = f32[9]{0} fusion(%all-reduce.1), kind=kLoop
"""


def program(words):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


MESHES = ("data=8", "data=4,model=2", "data=2,model=4", "model=8")


def check_true(what, family, layers, kind, *meshes):
    """Compares plans with what real models take, see plan_truth.py; `pytest -rP` shows the figures."""
    words = [Path(__file__).with_name("plan_truth.py"), what, family, str(layers), kind, *meshes]
    told = [json.loads(line) for line in program(words).splitlines()]
    assert [plan["mesh"] for plan in told] == list(meshes)
    for plan in told:
        print(json.dumps(plan))
        # Against the memory analysis of the real model's step, and against its arrays as they really lie.
        assert plan["bytes"] == pytest.approx(1, abs=0.1), plan
        for exact in {"held", "cache"} & plan.keys():
            assert plan[exact] == pytest.approx(1, abs=1e-3), plan
        # The line through two depths, against the whole depth compiled.
        for extended in ("total", "temporary", "flops", "exchanged"):
            assert plan[extended] == pytest.approx(1, abs=0.05), plan


def test_a_plan_is_what_a_real_model_takes():
    check_true("train", "gemma2", 10, "lora", "data=2,model=4")


def test_a_plan_of_decoding_is_what_a_real_model_takes():
    check_true("decode", "gemma2", 10, "lora", "data=2,model=4")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("family", "layers", "kind"),
    [
        ("gemma", 9, "lora"),
        ("gemma2", 10, "lora"),
        ("gemma2", 16, "full"),
        ("llama3", 8, "lora"),
        ("llama3", 8, "int8"),
        ("paligemma", 8, "lora"),
        ("paligemma2", 12, "lora"),
    ],
)
def test_plans_of_real_models_on_four_meshes(family, layers, kind):
    check_true("train", family, layers, kind, *MESHES)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("family", "layers", "kind"),
    [("gemma2", 10, "lora"), ("llama3", 8, "int4"), ("paligemma2", 12, "lora")],
)
def test_plans_of_decoding_real_models_on_four_meshes(family, layers, kind):
    check_true("decode", family, layers, kind, *MESHES)


def test_collectives_are_counted_with_their_bytes():
    assert traffic(parse(HLO)) == {
        "all-reduce": Traffic(2, 4 * 8 * 4 + 2 * 4 + 15 * 2),
        "all-gather": Traffic(1, 64),
        "collective-permute": Traffic(1, 7),
    }


def test_a_step_takes_what_the_slower_of_two_takes_and_the_exchange():
    chip = CHIPS["v5p"]
    assert step_seconds(chip, 459e12, 0, 0) == pytest.approx(1)
    assert step_seconds(chip, 459e12, 2 * 2765e9, 600e9) == pytest.approx(3)


def test_the_command(tmp_path):
    words = ["-m", "mmtune", "plan", "tiny", "--mesh", "data=2,model=2", "--batch-size", "4", "--seq-len", "16"]
    said = program(
        [*words, "--json", tmp_path / "plan.json", "--layout", tmp_path / "layout.txt", "--dtype", "float32"]
    )
    assert "tiny on data=2 x model=2: LoRA rank 8" in said
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["mesh"] == {"data": 2, "model": 2}
    assert plan["total"] > plan["weights"] > 2_875_680 * 4 / 4
    assert plan["fits"]
    table = (tmp_path / "layout.txt").read_text()
    assert "decoder_block_1/attention/query/kernel" in table
    assert "adam_w/lora_model_language_model_layers_1_self_attn_q_proj_b_momentum" in table


def test_decoding_on_the_command_line(tmp_path):
    words = ["-m", "mmtune", "plan", "tiny", "--mesh", "data=2,model=2", "--batch-size", "3", "--seq-len", "9"]
    said = program([*words, "--decode", "--max-tokens", "20", "--json", tmp_path / "plan.json", "--dtype", "float32"])
    assert "tiny on data=2 x model=2, decoding: float32, LoRA rank 8, 4 prompts of 116 tokens, 32 new ones" in " ".join(
        said.split()
    )
    plan = json.loads((tmp_path / "plan.json").read_text())
    # Keys and values of 4 layers, 4 rows (3 are padded), 116 + 32 slots and one head of 40, in float32.
    assert plan["cache"] in [2 * 4 * 4 * (116 + 32) * 40 * 4 // cut for cut in (1, 2, 4)]
    assert set(plan["programs"]) == {"image", "prompt", "token"}
    assert plan["programs"]["prompt"]["flops"] > 4 * plan["programs"]["token"]["flops"]
    assert plan["total"] > plan["weights"] + plan["cache"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gemma3_900b"], "gemma3_900b: expected tiny, the name of a preset"),
        (["tiny", "--chip", "v99"], "unknown chip 'v99'"),
        (["tiny", "--mesh", "rows=2"], "mesh: unknown axis 'rows'"),
        (["tiny", "--mesh", "data=3", "--batch-size", "4"], "a batch of 4 rows cannot be divided over data=3"),
        (["tiny", "--full", "--quantize", "int8"], "quantize"),
        (["tiny", "--seq-len", "0"], "seq-len: expected 1 or more"),
        (["tiny", "--decode", "--max-tokens", "0"], "max-tokens: expected 1 or more"),
        (["tiny", "--draw", "layout.pdf"], "layout.pdf: expected a file that ends in .svg or .png"),
    ],
)
def test_wrong_usage_is_a_sentence(words, said):
    done = subprocess.run([sys.executable, "-m", "mmtune", "plan", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
