"""Checkpoints that transformers writes, read by us: the same logits, family by family, in every spelling."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from peer_logits import difference, images, our_logits, segments, their_logits, token_ids
from peer_models import LLAMA_3_1_ROPE, build, randomise
from safetensors.torch import load_file, save_file

from mmtune.models.hf_export import write_checkpoint
from mmtune.models.hf_load import load_checkpoint
from mmtune.models.weights import model_variables

pytestmark = pytest.mark.peers

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
# family, changes to the text configuration of transformers
CASES = {
    "gemma, one KV head": ("gemma", {"num_key_value_heads": 1}),
    "codegemma": ("gemma", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}),
    "gemma2": ("gemma2", {}),
    "gemma2, a scale of its own": ("gemma2", {"query_pre_attn_scalar": 7}),
    "gemma2, other layers with windows": ("gemma2", {"layer_types": ["full_attention", "sliding_attention"]}),
    "llama3": ("llama3", {"tie_word_embeddings": False}),
    "llama 3.1, tied": ("llama3", {"tie_word_embeddings": True, "rope_parameters": LLAMA_3_1_ROPE}),
    "llama 2 long": ("llama3", {"rope_parameters": LINEAR}),
    "gemma2 long": ("gemma2", {"rope_parameters": LINEAR}),
    "paligemma": ("paligemma", {}),
    "paligemma2": ("paligemma2", {"sliding_window": 99}),
}


def same(theirs, folder, dtype="float32"):
    """Returns the largest difference of logits as a share of the largest logit."""
    backbone, spec, _ = load_checkpoint(folder, dtype)
    ids, segment_ids = token_ids(), segments()
    pictures = images() if spec.vision else None
    ours = our_logits(backbone, ids, segment_ids, pictures, spec=spec)
    return difference(ours, their_logits(theirs, ids, segment_ids, pictures), segment_ids)


def model(case, **more):
    family, changes = CASES[case]
    if "layer_types" in changes:
        layers = build(family, {}).config.num_hidden_layers
        changes = {"layer_types": (changes["layer_types"] * layers)[:layers]}
    torch.manual_seed(0)
    return randomise(build(family, changes | more)).eval()


@pytest.mark.parametrize("case", CASES)
def test_one_file(case, tmp_path):
    theirs = model(case)
    theirs.save_pretrained(tmp_path)
    assert same(theirs, tmp_path) <= 1e-5


def test_each_weight_matters(tmp_path):
    """Guards the test above: a change to any tensor of the file shows."""
    theirs = model("paligemma2")
    theirs.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    for name in sorted(whole)[:: max(1, len(whole) // 12)]:
        other = whole[name] + 0.3 * torch.randn(whole[name].shape)  # no shift: norms would take it away again
        save_file(whole | {name: other}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert same(theirs, tmp_path) > 1e-5, name


@pytest.mark.parametrize("case", ["gemma2", "paligemma"])
def test_shards(case, tmp_path):
    theirs = model(case)
    theirs.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert same(theirs, tmp_path) <= 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_numbers_on_disk(dtype, tmp_path):
    theirs = model("gemma2").to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    # Loaded anew: the narrow model's rotary frequencies and embedding scale are narrow for good.
    wide = type(theirs).from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    assert same(wide, tmp_path) <= 1e-5


@pytest.mark.parametrize("case", ["paligemma", "paligemma2"])
def test_former_names_of_paligemma(case, tmp_path):
    """Up to version 4: the decoder under language_model.model, the tower under vision_tower.vision_model."""
    theirs = model(case)
    theirs.save_pretrained(tmp_path)
    former = {}
    for name, value in load_file(tmp_path / "model.safetensors").items():
        plain = name.removeprefix("model.")
        for now, then in (
            ("language_model.", "language_model.model."),
            ("vision_tower.", "vision_tower.vision_model."),
        ):
            if plain.startswith(now) and not plain.startswith(then):
                plain = then + plain.removeprefix(now)
        former[plain] = value
    assert any(name.startswith("language_model.model.layers") for name in former)
    save_file(former, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert same(theirs, tmp_path) <= 1e-5


def test_a_larger_picture(tmp_path):
    """Twice the side: four times the image tokens, which must not be mistaken for the width of a head."""
    torch.manual_seed(0)
    theirs = randomise(build("paligemma", {}, {"image_size": 56})).eval()
    theirs.save_pretrained(tmp_path)
    backbone, spec, _ = load_checkpoint(tmp_path, "float32")
    pictures = np.random.default_rng(3).uniform(-1, 1, (2, 56, 56, 3)).astype("float32")
    ids, segment_ids = token_ids(), segments()
    theirs.config.text_config.num_image_tokens = spec.image_tokens
    ours = our_logits(backbone, ids, segment_ids, pictures, spec=spec)
    assert difference(ours, their_logits(theirs, ids, segment_ids, pictures), segment_ids) <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_what_we_write_is_the_same_model_there(case, tmp_path):
    """Read by us and written again, transformers finds every weight and setting: the very same logits."""
    theirs = model(case)
    theirs.save_pretrained(tmp_path / "theirs")
    backbone, spec, _ = load_checkpoint(tmp_path / "theirs", "float32")
    (tmp_path / "ours").mkdir()
    tokens = {"image_token_index": theirs.config.image_token_id} if spec.vision else {}
    write_checkpoint(tmp_path / "ours", spec, model_variables(backbone), "float32", tokens=tokens, largest=100_000)
    again, told = type(theirs).from_pretrained(
        tmp_path / "ours", dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, segment_ids = token_ids(), segments()
    pictures = images() if spec.vision else None
    expected = their_logits(theirs, ids, segment_ids, pictures)
    np.testing.assert_array_equal(their_logits(again.eval(), ids, segment_ids, pictures), expected)
