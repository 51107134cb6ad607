"""Loading by name and by folder, on small checkpoints made in their real forms."""

import json

import numpy as np
import pytest
from backbones import make
from broken_models import write_paligemma
from PIL import Image
from safetensors.numpy import load_file, save_file
from test_json_tokenizer import MADE, NAMES

from mmtune.errors import ModelError, UsageError
from mmtune.files import write_json
from mmtune.model import Model
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.models.peft_files import base_name, save_adapter
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
    with pytest.raises(ModelError, match=r"base_model_name_or_path does not say which model .*--base MODEL"):
        load(tmp_path)
    assert load(tmp_path, base="tiny").base == "tiny"


@pytest.mark.parametrize(
    ("base", "full"),
    [
        ("unsloth/gemma-2-2b-bnb-4bit", "hf://unsloth/gemma-2-2b"),
        ("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit", "hf://unsloth/Llama-3.2-1B-Instruct"),
        ("somebody/model-BNB-8bit", "hf://somebody/model"),
    ],
)
def test_a_packed_copy_is_said_to_stand_for_its_model(tmp_path, base, full):
    model = load("tiny")
    save_adapter(model.add_lora(LoRA(rank=1, targets=("q_proj",))), tmp_path / "adapter_model.safetensors", base)
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    said = str(error.value)
    assert f"hf://{base} holds weights packed by bitsandbytes, which cannot be read here" in said
    assert f"by its name it stands for {full} (a guess): name the full model by base= (--base MODEL)" in said
    assert load(tmp_path, base="tiny").lora is not None


def test_packed_weights_are_refused_by_name(tmp_path):
    folder = tmp_path / "small-bnb-4bit"
    folder.mkdir()
    checkpoint(folder, tiny_tokenizer().vocabulary_size)
    (folder / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    file = folder / "config.json"
    content = json.loads(file.read_text())
    for config, method in (({"load_in_4bit": True}, "bitsandbytes"), ({"quant_method": "gptq", "bits": 4}, "gptq")):
        file.write_text(json.dumps(content | {"quantization_config": config}))
        with pytest.raises(ModelError, match=f"holds weights packed by {method}, which cannot be read here") as error:
            load(folder)
        assert f"it stands for {tmp_path / 'small'} (a guess): load the full model" in str(error.value)


def test_a_base_that_is_gone_can_be_named(tmp_path):
    model = load("tiny")
    gone = str(tmp_path / "gone")
    save_adapter(model.add_lora(LoRA(rank=1, targets=("q_proj",))), tmp_path / "adapter_model.safetensors", gone)
    with pytest.raises(ModelError, match=r"its base cannot be loaded: unknown model .*; name another base by base= "):
        load(tmp_path)
    assert load(tmp_path, base="tiny").base == "tiny"


def test_the_revision_of_a_base_counts(tmp_path):
    model = load("tiny")
    save_adapter(model.add_lora(LoRA(rank=1, targets=("q_proj",))), tmp_path / "adapter_model.safetensors", "a/b")
    file = tmp_path / "adapter_config.json"
    assert base_name(tmp_path) == "hf://a/b"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": "float16"}))
    assert base_name(tmp_path) == "hf://a/b@float16"


@pytest.mark.parametrize(
    ("base", "named"),
    [("hf://a/b@float16", ("a/b", "float16")), ("hf://a/b", ("a/b", None)), ("/x@y/z", ("/x@y/z", None))],
)
def test_an_export_names_its_base_and_the_revision(tmp_path, base, named):
    model = load("tiny")
    model.add_lora(LoRA(rank=1, targets=("q_proj",)))
    model.base = base
    model.export(tmp_path / "out", "peft")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config.get("revision")) == named
    assert base_name(tmp_path / "out") == base


def saved_modules(folder, base, tensors, modules):
    """Writes an adapter that brings whole weights too."""
    model = load(base)
    save_adapter(model.add_lora(LoRA(rank=2, targets=("q_proj",))), folder / "adapter_model.safetensors", str(base))
    file, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    save_file(load_file(file) | {f"base_model.model.{name}": value for name, value in tensors.items()}, file)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"modules_to_save": modules}))
    return model


def test_whole_weights_of_an_adapter(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    checkpoint(base, tiny_tokenizer().vocabulary_size)
    (base / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    head = np.random.default_rng(0).normal(0, 0.1, (2176, 64)).astype("float32")
    folder = tmp_path / "adapter"
    saved_modules(folder, base, {"lm_head.weight": head}, ["lm_head"])
    model = load(folder)
    assert model.replaced == ("lm_head.weight",)
    np.testing.assert_array_equal(np.asarray(model.variables["text"]["head"]), head.T)
    for act in (model.drop_lora, lambda: model.add_lora(LoRA(rank=1)), lambda: model.export(tmp_path / "out", "peft")):
        with pytest.raises(UsageError, match="replaced"):
            act()
    model.export(tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert [a.text for a in again.generate(None, ["a star"], 6)] == [
        a.text for a in model.generate(None, ["a star"], 6)
    ]
    model.bake()
    assert (model.replaced, model.base) == ((), str(folder))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"model.embed_tokens.weight": np.zeros((2180, 64), "float32")},
            r"has shape \[2180, 64\], the base's \[2176, 64\]",
        ),
        ({"score.weight": np.zeros((2, 64), "float32")}, "score.weight belongs to no weight of this model"),
    ],
    ids=["more tokens", "another module"],
)
def test_whole_weights_that_do_not_fit(tmp_path, tensors, words):
    base = tmp_path / "base"
    base.mkdir()
    checkpoint(base, tiny_tokenizer().vocabulary_size)
    (base / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    saved_modules(tmp_path / "adapter", base, tensors, ["embed_tokens"])
    with pytest.raises(ModelError, match=rf"{words}.*merge_and_unload\(\)"):
        load(tmp_path / "adapter")


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
