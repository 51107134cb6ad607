"""Checkpoints that we write, read back: the same description, the same bytes."""

import json

import numpy as np
import pytest
from backbones import make
from test_hf_config import ALL, read

from mmtune.models.hf_export import config_of, write_checkpoint
from mmtune.models.hf_load import load_checkpoint
from mmtune.models.safetensor_files import TensorFiles
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

FAMILIES = {
    "paligemma": {},
    "paligemma2": {},
    "gemma": {"num_key_value_heads": 1},
    "gemma2": {"query_head_dim_normalize": False},
    "llama3": {"tie_word_embeddings": False},
    "llama 3.1": {
        "rope_frequency_adjustment_factor": 8.0,
        "rope_low_freq_factor": 1.0,
        "rope_high_freq_factor": 4.0,
        "rope_pretraining_sequence_length": 64,
    },
}


def backbone_of(name):
    return make("llama3" if name.startswith("llama") else name, **FAMILIES[name])


@pytest.mark.parametrize("name", ALL)
def test_published_configurations_say_the_same_when_written_again(tmp_path, name):
    spec = read(tmp_path, ALL[name], has_head=True)
    assert read(tmp_path, config_of(spec, "bfloat16")) == spec


@pytest.mark.parametrize("largest", [10**9, 20_000], ids=["one file", "shards"])
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_and_description_come_back(tmp_path, name, largest):
    backbone = backbone_of(name)
    spec = read_spec(backbone)
    write_checkpoint(tmp_path, spec, model_variables(backbone), "float32", largest=largest)
    again, found, _ = load_checkpoint(tmp_path, "float32")
    assert found == spec
    for ours, theirs in zip(backbone.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=ours.path)
    files = sorted(tmp_path.glob("*.safetensors"))
    if largest == 10**9:
        assert [file.name for file in files] == ["model.safetensors"]
        return
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(files) > 3
    assert set(index["weight_map"].values()) == {file.name for file in files}
    places = TensorFiles(tmp_path)
    assert index["metadata"]["total_size"] == sum(place.size for place in places.values())
    for file in files:
        held = [place.size for place in places.values() if place.file == file]
        assert sum(held) <= largest or len(held) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights(tmp_path, dtype):
    backbone = backbone_of("gemma2")
    write_checkpoint(tmp_path, read_spec(backbone), model_variables(backbone), dtype)
    assert TensorFiles(tmp_path).dtypes == {dtype}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
    again, _, _ = load_checkpoint(tmp_path, "float32")
    for ours, theirs in zip(backbone.weights, again.weights, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2**-8, atol=1e-6)
