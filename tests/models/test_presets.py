"""The sizes that plans go by against the numbers of parameters that KerasHub publishes with its presets."""

import math

import pytest

from mmtune.models.build import build_backbone
from mmtune.models.load import preset_metadata
from mmtune.models.presets import preset_spec

# Another architecture; weights in eight bits, which are counted with their scales.
OTHER = {"vault_gemma_1b_en", "llama3_8b_en_int8", "llama3_instruct_8b_en_int8"}
# Published with the count of the 224 pixel variant, which has fewer positions.
ROUNDED = {"pali_gemma2_mix_28b_448": 448, "pali_gemma2_pt_28b_448": 448, "pali_gemma2_pt_28b_896": 896}
PRESETS = sorted(set(preset_metadata()) - OTHER)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_published_parameters(name):
    spec = preset_spec(name)
    assert spec is not None
    counted = sum(math.prod(variable.shape) for variable in build_backbone(spec, "bfloat16").weights)
    published = preset_metadata()[name]["params"]
    if name in ROUNDED:
        published += ((ROUNDED[name] // 14) ** 2 - 256) * 1152
    assert counted == published


def test_names_on_the_hub():
    assert preset_spec("google/gemma-2-27b-it") == preset_spec("gemma2_27b_en")
    assert preset_spec("google/paligemma2-10b-pt-448") == preset_spec("pali_gemma2_pt_10b_448")
    assert preset_spec("google/paligemma-3b-mix-224") == preset_spec("pali_gemma_3b_mix_224")
    assert preset_spec("meta-llama/Llama-3.1-8B-Instruct") == preset_spec("llama3.1_8b")
    assert preset_spec("vault_gemma_1b_en") is None
    assert preset_spec("photos") is None
