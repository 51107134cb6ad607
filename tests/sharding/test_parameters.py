"""Numbers of models before and after LoRA: arithmetic of the published sizes, and KerasHub's own count."""

import json
import subprocess
import sys

import pytest
from backbones import make

from mmtune.models.presets import preset_spec
from mmtune.models.spec import read_spec
from mmtune.planning.parameters import keras_hub_lora, peft_lora


def test_gemma_2_9b_trains_what_the_papers_of_both_libraries_say():
    spec = preset_spec("gemma2_9b_en")
    # 42 layers, width 3584, 16 heads for queries and 8 for values of 256 each; rank 4.
    assert keras_hub_lora(spec, 4) == 42 * (16 * 3584 * 4 + 4 * 256 + 8 * 3584 * 4 + 4 * 256) == 14_536_704
    assert peft_lora(spec, 4) == 42 * (3584 * 4 + 4 * 16 * 256 + 3584 * 4 + 4 * 8 * 256) == 2_236_416


@pytest.mark.parametrize("family", ["gemma", "gemma2", "llama3"])
def test_keras_hub_counts_the_same(family):
    backbone = make(family, num_layers=3)
    spec = read_spec(backbone)
    backbone.enable_lora(5)
    assert sum(v.value.size for v in backbone.trainable_variables) == keras_hub_lora(spec, 5)


def planned(tmp_path, *words):
    file = tmp_path / "plan.json"
    command = [sys.executable, "-m", "mmtune", "plan", "tiny", "--seq-len", "16", "--batch-size", "2", "--json", file]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(file.read_text()), done.stdout


def test_a_plan_tells_the_numbers_before_and_after(tmp_path):
    from mmtune.models.tiny import build_tiny

    backbone = build_tiny()
    whole = backbone.count_params()
    spec = read_spec(backbone)
    found, said = planned(tmp_path, "--lora-rank", "3", "--lora-targets", "q_proj,v_proj", "--dtype", "float32")
    few = peft_lora(spec, 3)
    assert found["parameters"] == {
        "before": {
            "total": {"numbers": whole, "bytes": 4 * whole},
            "trainable": {"numbers": whole, "bytes": 4 * whole},
            "non_trainable": {"numbers": 0, "bytes": 0},
        },
        "after": {
            "total": {"numbers": whole + few, "bytes": 4 * (whole + few)},
            "trainable": {"numbers": few, "bytes": 4 * few},
            "non_trainable": {"numbers": whole, "bytes": 4 * whole},
        },
    }
    assert found["trainable"] == few
    assert f"{whole:,}" in said
    assert f"{keras_hub_lora(spec, 3):,}" in " ".join(said.split())


def test_quantised_weights_are_as_many_numbers_in_fewer_bytes(tmp_path):
    found, _ = planned(tmp_path, "--quantize", "int4")
    before, after = found["parameters"]["before"], found["parameters"]["after"]
    assert after["non_trainable"]["numbers"] == before["total"]["numbers"]
    assert after["non_trainable"]["bytes"] < 0.75 * before["total"]["bytes"]
