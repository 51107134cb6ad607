"""Loading by name and by folder, on small checkpoints made in their real forms."""

import json

import numpy as np
import pytest
from backbones import make
from broken_models import write_paligemma
from PIL import Image
from test_json_tokenizer import MADE, NAMES

from mmtune.errors import ModelError
from mmtune.files import write_json
from mmtune.model import Model
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.models.peft_files import save_adapter
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables

PROMPT = "detect circle"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A Keras preset of a small PaliGemma with the embedded vocabulary, and the model that it was saved from."""
    from keras_hub.models import PaliGemmaTokenizer

    folder = tmp_path_factory.mktemp("preset")
    backbone = make("paligemma2", vocabulary_size=2176)
    backbone.save_to_preset(str(folder))
    PaliGemmaTokenizer(tiny_tokenizer().proto).save_to_preset(str(folder))
    return folder, Model(backbone, tiny_tokenizer(), name="small")


def picture():
    return Image.effect_noise((50, 40), 80).convert("RGB")


def answers(model):
    image = np.random.default_rng(0).integers(0, 256, (model.image_size, model.image_size, 3), np.uint8)
    return [(answer.text, answer.logprobs) for answer in model.generate([image], [PROMPT], max_tokens=6)]


def test_a_keras_preset_folder(preset):
    folder, model = preset
    loaded = load(folder)
    assert loaded.tokenizer.encode("two red circles") == tiny_tokenizer().encode("two red circles")
    assert loaded.spec == model.spec
    assert answers(loaded) == answers(model)


def checkpoint(folder, vocabulary_size):
    """Writes a small random Llama in Hugging Face's form, without a vocabulary, and returns its backbone."""
    backbone = make("llama3", vocabulary_size=vocabulary_size)
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32")
    return backbone


def test_a_hugging_face_folder(tmp_path):
    backbone = checkpoint(tmp_path, tiny_tokenizer().vocabulary_size)
    with pytest.raises(ModelError, match=r"expected tokenizer.json or tokenizer.model, found neither"):
        load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    loaded, made = load(str(tmp_path)), Model(backbone, tiny_tokenizer(), name="made")
    assert loaded.spec == made.spec
    expected = made.generate(None, ["a star ", "no"], max_tokens=8)
    assert loaded.generate(None, ["a star ", "no"], max_tokens=8) == expected
    assert {str(v.dtype) for v in load(tmp_path, precision="bfloat16").backbone.weights} == {"bfloat16"}
    assert {str(v.dtype) for v in load(tmp_path, precision="bfloat16", weights="float32").backbone.weights} == {
        "float32"
    }


def test_prompts_of_paligemma_start_with_bos_whatever_its_vocabulary_says(tmp_path):
    write_paligemma(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.model").unlink()
    (tmp_path / "model" / "tokenizer.json").write_text(MADE["spaced"].to_str(), encoding="utf-8")
    write_json(tmp_path / "model" / "tokenizer_config.json", NAMES | {"add_bos_token": False})
    tokenizer = load(tmp_path / "model").tokenizer
    assert tokenizer.prompt("a cat")[0] == tokenizer.bos


@pytest.mark.parametrize("said", [{}, {"3": {"content": "<x>"}}], ids=["not said", "said"])
def test_an_export_names_the_image_token_beside_those_that_a_vocabulary_adds(tmp_path, said):
    content = json.loads(MADE["spaced"].to_str())
    tokenizer = JsonTokenizer(json.dumps(content), json.dumps(NAMES | ({"added_tokens_decoder": said} if said else {})))
    model = Model(make("paligemma", vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="small")
    folder = model.export(tmp_path / "out")
    named = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    expected = {str(entry["id"]): entry["content"] for entry in content["added_tokens"]}
    expected |= {token: entry["content"] for token, entry in said.items()}
    image = str(tokenizer.vocabulary_size)
    assert {token: entry["content"] for token, entry in named.items()} == expected | {image: "<image>"}
    assert named[image]["special"] is True
    assert json.loads((folder / "config.json").read_text())["image_token_index"] == tokenizer.vocabulary_size
    assert load(folder).tokenizer.vocabulary_size == tokenizer.vocabulary_size


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path):
    checkpoint(tmp_path, 256)
    (tmp_path / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    with pytest.raises(ModelError, match=r"the tokenizer has 2176 tokens, the model embeddings for 256"):
        load(tmp_path)


def test_a_peft_folder_names_its_base(preset, tmp_path):
    folder, _ = preset
    model = load(folder)
    lora = model.add_lora(LoRA(rank=3, dora=True, targets=("q_proj", "up_proj")))
    rng = np.random.default_rng(1)
    for weights in lora.table.values():
        weights["b"].assign(rng.normal(0, 0.3, weights["b"].shape))
    save_adapter(lora, tmp_path / "adapter_model.safetensors", str(folder))
    loaded = load(tmp_path)
    assert loaded.name == str(tmp_path)
    assert answers(loaded) == answers(model)
    assert answers(loaded) != answers(load(folder))
    loaded.merge()
    merged = answers(loaded)
    assert merged[0][0] == answers(model)[0][0]
    np.testing.assert_allclose(merged[0][1], answers(model)[0][1], atol=1e-4)


def test_a_peft_folder_without_a_base(tmp_path):
    model = load("tiny")
    save_adapter(model.add_lora(LoRA(rank=1, targets=("q_proj",))), tmp_path / "adapter_model.safetensors", "")
    with pytest.raises(ModelError, match="base_model_name_or_path does not say which model"):
        load(tmp_path)


def test_the_embedded_model_is_the_same_every_time():
    first, second = load("tiny"), load("tiny")
    for one, two in zip(first.backbone.weights, second.backbone.weights, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
    assert first.setup is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", "unknown model 'tinny': did you mean 'tiny'?"),
        ("pali_gemma_3b_mix_225", "did you mean 'pali_gemma_3b_mix_224'?"),
        (".", "expected a run folder"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as error:
        load(name)
    assert message in str(error.value)


def test_a_preset_of_another_family_is_refused(tmp_path):
    from keras_hub.models import BertBackbone

    backbone = BertBackbone(
        vocabulary_size=30, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8, max_sequence_length=8
    )
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ModelError, match="BertBackbone is not supported"):
        load(tmp_path)


def test_another_keras_backend_is_said(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ModelError, match="set KERAS_BACKEND=jax"):
        load("tiny")
