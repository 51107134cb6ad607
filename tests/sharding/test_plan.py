"""Plans against whole compiled models, and what they say on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.planning.chips import CHIPS, step_seconds
from mmtune.planning.collectives import Traffic, traffic

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


def check_true(family, layers, *meshes):
    lines = program([Path(__file__).with_name("plan_truth.py"), family, str(layers), *meshes]).splitlines()
    told = [json.loads(line) for line in lines]
    assert len(told) == 2 * len(meshes)
    for plan in told:
        for what in ("total", "temporary", "flops", "exchanged"):
            assert plan[what] == pytest.approx(1, abs=0.05), plan


def test_a_plan_is_what_the_whole_model_takes():
    check_true("gemma2", 10, "data=2,model=4")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("family", "layers"),
    [("gemma", 9), ("gemma2", 10), ("gemma2", 16), ("llama3", 8), ("paligemma", 8), ("paligemma2", 12)],
)
def test_plans_of_six_models_on_four_meshes(family, layers):
    check_true(family, layers, "data=8", "data=4,model=2", "data=2,model=4", "model=8")


def test_collectives_are_counted_with_their_bytes():
    assert traffic(HLO) == {
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gemma3_900b"], "gemma3_900b: expected tiny, the name of a preset"),
        (["tiny", "--chip", "v99"], "unknown chip 'v99'"),
        (["tiny", "--mesh", "rows=2"], "mesh: unknown axis 'rows'"),
        (["tiny", "--mesh", "data=3", "--batch-size", "4"], "a batch of 4 rows cannot be divided over data=3"),
        (["tiny", "--full", "--quantize", "int8"], "quantize"),
        (["tiny", "--seq-len", "0"], "seq-len: expected 1 or more"),
        (["tiny", "--draw", "layout.pdf"], "layout.pdf: expected a file that ends in .svg or .png"),
    ],
)
def test_wrong_usage_is_a_sentence(words, said):
    done = subprocess.run([sys.executable, "-m", "mmtune", "plan", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
