"""Models written for other libraries and read back; what comes back as another model is told apart."""

import json

import numpy as np
import pytest
from backbones import make
from commands import run
from vocabularies import chat_tokenizer

from mmtune.errors import ModelError, UsageError
from mmtune.model import Model
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quick_compiles")


def tuned(family="paligemma2", **changes):
    """A small model with an adapter that changes its answers."""
    backbone = make(family, vocabulary_size=tiny_tokenizer().vocabulary_size, **changes)
    model = Model(backbone, tiny_tokenizer(), name="small")
    model.add_lora(LoRA(rank=2, dora=True))
    assert model.lora is not None
    rng = np.random.default_rng(1)
    for weights in model.lora.table.values():
        weights["b"].assign(rng.normal(0, 0.3, weights["b"].shape))
    return model


def answers(model):
    side = model.image_size
    picture = None if side is None else np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    found = model.generate([picture, picture], ["a star", "detect ring"], max_tokens=6)
    return [answer.text for answer in found], np.concatenate([answer.logprobs for answer in found])


def assert_same(one, other):
    (texts, logprobs), (expected, right) = answers(one), answers(other)
    assert texts == expected
    np.testing.assert_allclose(logprobs, right, atol=1e-5)


@pytest.mark.parametrize("family", ["paligemma2", "gemma", "llama3"])
def test_a_checkpoint_holds_the_adapter(tmp_path, family):
    model = tuned(family)
    assert model.export(tmp_path / "out") == tmp_path / "out"
    again = load(tmp_path / "out")
    assert again.lora is None
    assert_same(again, model)
    model.drop_lora()
    assert answers(again)[0] != answers(model)[0]
    ids = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert ids == {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    assert (tmp_path / "out" / "preprocessor_config.json").exists() == (family == "paligemma2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["hf", "peft", "keras"])
@pytest.mark.parametrize("merged", [False, True])
def test_an_export_leaves_the_model_as_it_was(tmp_path, form, merged):
    model = tuned()
    if merged:
        model.merge()
    before = [np.array(variable) for variable in model.backbone.weights]
    model.export(tmp_path / "out", form)
    assert model.merged == merged
    for ours, theirs in zip(before, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_answers_end_where_turns_end(tmp_path):
    tokenizer = chat_tokenizer("gemma")
    model = Model(make("gemma2", vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="chat")
    ids = json.loads((model.export(tmp_path / "out") / "generation_config.json").read_text())
    assert ids["eos_token_id"] == [tokenizer.eos, tokenizer.find("<end_of_turn>")]


@pytest.mark.parametrize("family", ["paligemma", "gemma"])
def test_other_libraries_find_the_image_token_where_the_config_has_it(tmp_path, family):
    """And no other token beyond the embeddings: transformers adds `<mask>` unless it is told that there is none."""
    tuned(family).export(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["mask_token"] is None
    added = {token: entry["content"] for token, entry in settings.get("added_tokens_decoder", {}).items()}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert added == ({} if family == "gemma" else {str(config["image_token_index"]): "<image>"})


def test_narrow_weights(tmp_path):
    model = tuned()
    model.export(tmp_path / "out", dtype="bfloat16")
    again = load(tmp_path / "out", weights="bfloat16")
    assert {str(variable.dtype) for variable in again.backbone.weights} == {"bfloat16"}


def test_a_peft_adapter_names_its_base(tmp_path):
    model = tuned()
    model.drop_lora()
    model.export(tmp_path / "base")
    base = load(tmp_path / "base")
    lora = base.add_lora(LoRA(rank=3, targets=("q_proj", "up_proj")))
    for weights in lora.table.values():
        weights["b"].assign(np.random.default_rng(2).normal(0, 0.3, weights["b"].shape))
    base.export(tmp_path / "adapter", "peft")
    assert_same(load(tmp_path / "adapter"), base)
    with pytest.raises(UsageError, match="small: expected a model with an adapter"):
        model.export(tmp_path / "none", "peft")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


@pytest.mark.parametrize("family", ["paligemma2", "gemma2"])
def test_a_keras_preset(tmp_path, family):
    model = tuned(family)
    model.export(tmp_path / "out", "keras")
    assert_same(load(tmp_path / "out"), model)


def test_what_kerashub_cannot_say_is_no_preset(tmp_path):
    model = tuned("gemma2", query_head_dim_normalize=False)
    model.export(tmp_path / "hf")
    config = tmp_path / "hf" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"query_pre_attn_scalar": 7}))
    with pytest.raises(UsageError, match="KerasHub's classes cannot say how this model computes"):
        load(tmp_path / "hf").export(tmp_path / "keras", "keras")
    with pytest.raises(UsageError, match="a preset holds vocabularies of SentencePiece only"):
        tuned("llama3").export(tmp_path / "keras", "keras")


@pytest.mark.parametrize("form", ["hf", "peft", "keras"])
def test_another_model_than_was_written_is_an_error(tmp_path, monkeypatch, form):
    """One weight is spoilt on its way back, whichever file it lies in."""
    model = tuned()
    import mmtune.exporting as exporting

    def spoilt(*arguments, **settings):
        again = load(*arguments, **settings)
        again.backbone.layer_norm.scale.assign(again.backbone.layer_norm.scale + 0.1)
        return again

    def spoilt_adapter(lora, _):
        for weights in lora.table.values():
            weights["b"].assign(weights["b"] + 0.1)

    monkeypatch.setattr(exporting, "load", spoilt)
    monkeypatch.setattr(exporting, "load_adapter", spoilt_adapter)
    with pytest.raises(ModelError, match=r"out\.failed: what was written is not the model: its logits differ by"):
        model.export(tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["out.failed"]


def test_the_command(capsys, tmp_path):
    code, out, err = run(capsys, "export", "tiny", tmp_path / "out", "--dtype", "float16")
    assert (code, out) == (0, "")
    assert "written, read back and found the same" in err
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "PaliGemmaForConditionalGeneration"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "hg"], "unknown format 'hg': Known: hf, int4, int8, keras, peft"),
        (["--dtype", "int8"], "dtype: expected one of float32, bfloat16, float16"),
        (["--format", "keras", "--dtype", "float16"], "with the format hf; got 'float16' with keras"),
        ([], "expected a name that is free"),
    ],
)
def test_wrong_usage(capsys, tmp_path, words, message):
    out = tmp_path if not words else tmp_path / "out"
    code, _, err = run(capsys, "export", "tiny", out, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
