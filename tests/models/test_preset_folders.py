"""Keras presets of every listed family, written by KerasHub's own `save_to_preset` and loaded; and what is refused."""

import json
import logging
import shutil

import numpy as np
import pytest
from backbones import GEMMA_2, make
from vocabularies import LINES, keras_llama_3, llama_3_library

from mmtune.errors import ModelError
from mmtune.model import Model
from mmtune.models.load import load, preset_metadata
from mmtune.models.preset_tokenizer import read_preset_tokenizer
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer

STRETCHED = {
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "rope_pretraining_sequence_length": 16,
    "layer_norm_epsilon": 1e-5,
}
LLAMA = 420  # rows of the embedding table
# Family: the backbone of `backbones.make`, and what is said about it.
FAMILIES = {
    "paligemma": ("paligemma", {"layer_norm_epsilon": 1e-3}),
    "paligemma2": ("paligemma2", {"query_head_dim_normalize": False}),
    "gemma": ("gemma", {"layer_norm_epsilon": 1e-3}),
    "gemma2": ("gemma2", {"query_head_dim_normalize": False}),
    "vault_gemma": ("gemma", GEMMA_2 | {"use_post_ffw_norm": False, "use_post_attention_norm": False}),
    "llama3": ("llama3", {"layer_norm_epsilon": 1e-5, "rope_max_wavelength": 500_000}),
    "llama3.1": ("llama3", STRETCHED | {"rope_frequency_adjustment_factor": 8.0}),
    "llama3.2": ("llama3", STRETCHED | {"rope_frequency_adjustment_factor": 32.0}),
    "llama3 linear": ("llama3", {"rope_position_scaling_factor": 4.0}),
    "llama3 tied": ("llama3", {"tie_word_embeddings": True}),
}
# The beginning of a listed name: which family it is.
LISTED = {
    "pali_gemma2": "paligemma2",
    "pali_gemma_2": "paligemma2",
    "pali_gemma_3b": "paligemma",
    "gemma2": "gemma2",
    "shieldgemma": "gemma2",
    "c2s_scale_gemma_2": "gemma2",
    "gemma_": "gemma",
    "code_gemma": "gemma",
    "vault_gemma": "vault_gemma",
    "llama3_": "llama3",
    "llama3.1": "llama3.1",
    "llama3.2": "llama3.2",
}


def test_every_listed_preset_is_of_a_family_that_is_tried():
    for name in preset_metadata():
        assert [family for start, family in LISTED.items() if name.startswith(start)], name
    assert set(LISTED.values()) <= set(FAMILIES)


def parts(family):
    """Returns a small random backbone of a family, KerasHub's tokenizer for it and ours."""
    import keras_hub

    kind, changes = FAMILIES[family]
    if kind == "llama3":
        library = llama_3_library()
        return make(kind, vocabulary_size=LLAMA, **changes), keras_llama_3(json.loads(library.to_str()))
    cls = keras_hub.models.PaliGemmaTokenizer if kind.startswith("pali") else keras_hub.models.GemmaTokenizer
    return make(kind, vocabulary_size=2176, **changes), cls(tiny_tokenizer().proto)


def save(folder, backbone, tokenizer, *, task=True, **preprocessor):
    """Writes a preset as KerasHub does: the whole task with its preprocessor, or backbone and tokenizer."""
    import keras_hub

    if not task:
        backbone.save_to_preset(str(folder))
        tokenizer.save_to_preset(str(folder))
        return folder
    front = type(backbone).__name__.removesuffix("Backbone")
    if front == "PaliGemma":
        converter = keras_hub.layers.PaliGemmaImageConverter
        preprocessor.setdefault("image_converter", converter((28, 28), 1 / 127.5, -1, False, antialias=True))
    preprocessor = getattr(keras_hub.models, f"{front}CausalLMPreprocessor")(tokenizer, **preprocessor)
    getattr(keras_hub.models, f"{front}CausalLM")(backbone=backbone, preprocessor=preprocessor).save_to_preset(
        str(folder)
    )
    return folder


@pytest.mark.parametrize("task", [True, False], ids=["task", "backbone"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_preset_is_the_model_that_was_saved(family, task, tmp_path):
    """The forward pass is a function of the description and the weights; both are the saved ones."""
    backbone, tokenizer = parts(family)
    for name, value in FAMILIES[family][1].items():
        assert getattr(backbone, name) == value
    loaded = load(save(tmp_path, backbone, tokenizer, task=task))
    assert loaded.spec == read_spec(backbone)
    for theirs, ours in zip(backbone.weights, loaded.backbone.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=ours.path)


TEXTS = [
    *LINES,
    "",
    "    indented\n\tmore   spaces  ",
    "l'amie DIDN'T 1234567 1,000.50",
    "naïve 日本語 😀👩‍👩‍👧\r\n\r\n",
    "sat <|eot_id|> on <|start_header_id|>user",
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save(tmp_path_factory.mktemp("llama"), *parts("llama3"))


def test_the_ids_of_llama_3_are_those_of_its_tokenizer_json(llama):
    library, ours = llama_3_library(), read_preset_tokenizer(str(llama))
    for text in TEXTS:
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ours.encode(text)) == library.decode(ours.encode(text)), text
    assert ours.start == [ours.bos] == [library.token_to_id("<|begin_of_text|>")]
    assert ours.eos == ours.pad == library.token_to_id("<|end_of_text|>")


def test_merges_are_left_out_where_the_vocabulary_has_the_whole_part():
    """Guards the test above: without `ignore_merges` some ids are others."""
    from tokenizers import Tokenizer

    content = json.loads(llama_3_library().to_str())
    content["model"]["ignore_merges"] = False
    other = Tokenizer.from_str(json.dumps(content))
    assert any(other.encode(text).ids != llama_3_library().encode(text).ids for text in TEXTS)


@pytest.mark.parametrize("family", ["gemma", "llama3"])
def test_a_preprocessor_without_a_start_token(family, tmp_path):
    tokenizer = read_preset_tokenizer(str(save(tmp_path, *parts(family), add_start_token=False)))
    assert tokenizer.prompt("cat") == tokenizer.encode("cat") + tokenizer.encode("\n")


def pali(folder, **converter):
    from keras_hub.layers import PaliGemmaImageConverter

    settings = {"image_size": (28, 28), "crop_to_aspect_ratio": False, "antialias": True} | converter
    return save(folder, *parts("paligemma"), image_converter=PaliGemmaImageConverter(**settings))


def test_the_image_converter_is_read(tmp_path, caplog):
    colors = {"scale": [1 / 127.5, 1 / 51, 1 / 255], "offset": [-1.0, -2.0, 0.0]}
    with caplog.at_level(logging.WARNING):
        vision = load(pali(tmp_path / "a", interpolation="bicubic", **colors)).spec.vision
    assert not caplog.records
    assert vision is not None
    assert vision.resample == "bicubic"
    np.testing.assert_allclose(vision.std, [0.5, 0.2, 1.0])
    np.testing.assert_allclose(vision.mean, [0.5, 0.4, 0.0], atol=1e-9)
    with caplog.at_level(logging.WARNING):
        load(pali(tmp_path / "b", scale=1 / 127.5, offset=-1, crop_to_aspect_ratio=True, antialias=False))
    assert "crop_to_aspect_ratio = True, antialias = False is ignored: images are squeezed whole" in caplog.text


def test_the_image_converter_as_it_was_stored_at_first(tmp_path):
    folder = pali(tmp_path / "a", scale=1 / 127.5, offset=-1)
    file = folder / "image_converter.json"
    content = json.loads(file.read_text())
    for name in ("image_size", "offset"):
        del content["config"][name]
    content["config"] |= {"height": 28, "width": 28, "scale": 1 / 255, "mean": [0.5] * 3, "variance": [0.0625] * 3}
    file.write_text(json.dumps(content))
    vision = load(folder).spec.vision
    assert vision is not None
    np.testing.assert_allclose([vision.mean, vision.std], [[0.5] * 3, [0.25] * 3])


def test_weights_in_int8_are_what_they_stand_for(tmp_path):
    backbone, tokenizer = parts("llama3")
    wide = {variable.path: np.array(variable) for variable in backbone.weights}
    backbone.quantize("int8")
    loaded = load(save(tmp_path, backbone, tokenizer))
    again = {variable.path: np.array(variable) for variable in loaded.backbone.weights}
    assert wide.keys() == again.keys()
    for path, values in wide.items():
        if values.ndim == 1:
            np.testing.assert_array_equal(again[path], values)
            continue
        # At most half a step of 127 away, a row of an embedding or an output at a time.
        axis = 1 if path.endswith("/embeddings") else (0, 1) if path.endswith("attention_output/kernel") else 0
        step = np.abs(values).max(axis=axis, keepdims=True) / 127
        assert (np.abs(again[path] - values) <= 0.51 * step + 1e-7).all(), path


def set_in(file, at="config", **changes):
    def change(folder):
        content = json.loads((folder / file).read_text())
        (content[at] if at else content).update(changes)
        (folder / file).write_text(json.dumps(content))

    return change


def write(file, text):
    return lambda folder: (folder / file).write_text(text)


VOCABULARY, MERGES = "assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"
# What is broken, and what the message says.
REFUSED = {
    "no vocabulary": (lambda folder: shutil.rmtree(folder / "assets"), "vocabulary.spm, or .*vocabulary.json with"),
    "no merges": (lambda folder: (folder / MERGES).unlink(), "merges.txt, found neither"),
    "another class": (set_in("tokenizer.json", None, class_name="GPT2Tokenizer"), "Llama3Tokenizer .* got GPT2Token"),
    "no class": (lambda folder: (folder / "tokenizer.json").unlink(), "expected the class Llama3Tokenizer"),
    "prefix space": (set_in("tokenizer.json", add_prefix_space=True), "add_prefix_space: True is not supported"),
    "no JSON": (write(VOCABULARY, "{"), "vocabulary.json: expected JSON"),
    "no ids": (write(VOCABULARY, '{"a": "b"}'), "expected a number for each token, found b for a"),
    "ids twice": (write(VOCABULARY, '{"a": 1, "b": 1}'), "a number of its own for each token"),
    "a merge of nothing": (write(MERGES, "#version: 0.2\na\u2581 b\n"), "merges.txt: line 2: expected two tokens"),
    "no bos": (write(VOCABULARY, '{"a": 0, "b": 1, "ab": 2}'), "vocabulary.json|merges.txt"),
    "too many tokens": (set_in("config.json", vocabulary_size=300), "tokens, the model embeddings for 300"),
    "start token": (set_in("preprocessor.json", add_start_token="no"), "add_start_token: expected true or false"),
    "half of a stretch": (set_in("config.json", rope_low_freq_factor=1.0), "Either all of `low_freq_factor`"),
    "int4": (
        set_in(
            "config.json", dtype={"config": {"policy_map": {"a": {"config": {"mode": "int4", "source_name": None}}}}}
        ),
        "quantized as int4 are not supported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_its_weights_are_read(name, llama, tmp_path):
    folder = tmp_path / "preset"
    shutil.copytree(llama, folder)
    (folder / "model.weights.h5").write_bytes(b"never read")
    break_it, words = REFUSED[name]
    break_it(folder)
    with pytest.raises(ModelError, match=words) as error:
        load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


# Setting of a PaliGemma's file, and what the message says.
SETTINGS = {
    "one norm more": ("config.json", {"use_post_ffw_norm": True}, "use_post_ffw_norm = True is not supported"),
    "activation": ("config.json", {"vit_classifier_activation": "tanh"}, "vit_classifier_activation = tanh is not"),
    "size": ("image_converter.json", {"image_size": [28, 56]}, r"image_size: expected \[28, 28\]"),
    "padded": ("image_converter.json", {"pad_to_aspect_ratio": True}, "pad_to_aspect_ratio: true is not supported"),
    "nearest": ("image_converter.json", {"interpolation": "nearest"}, "interpolation: .* got nearest"),
    "no scale": ("image_converter.json", {"scale": None}, "scale and offset"),
    "two colors": ("image_converter.json", {"scale": [1, 2]}, "scale: expected a number or three"),
    "eos": ("tokenizer.json", {"add_eos": True}, "add_eos: True is not supported"),
}


@pytest.fixture(scope="module")
def paligemma(tmp_path_factory):
    return save(tmp_path_factory.mktemp("paligemma"), *parts("paligemma"))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_not_computed_are_refused(name, paligemma, tmp_path):
    folder = tmp_path / "preset"
    shutil.copytree(paligemma, folder)
    file, changes, words = SETTINGS[name]
    set_in(file, **changes)(folder)
    with pytest.raises(ModelError, match=words):
        load(folder)


@pytest.fixture
def remote(llama, tmp_path, monkeypatch):
    """A preset that is fetched file by file: its folder to change, its address, and the files asked for."""
    from keras_hub.src.utils import preset_utils

    folder, address, asked = tmp_path / "remote", "kaggle://keras/llama3/keras/small", []
    shutil.copytree(llama, folder)

    def get_file(preset, name):
        assert preset == address
        asked.append(name)
        if not (folder / name).is_file():
            raise FileNotFoundError(name)
        return str(folder / name)

    monkeypatch.setattr(preset_utils, "get_file", get_file)
    return folder, address, asked


def test_a_remote_preset_loads_and_answers(remote):
    _, address, asked = remote
    model = load(address)
    made = Model(parts("llama3")[0], model.tokenizer, name="made")
    assert model.generate(None, ["the cat"], max_tokens=6) == made.generate(None, ["the cat"], max_tokens=6)
    assert next(i for i, name in enumerate(asked) if name.endswith(".h5")) > asked.index(MERGES)


def test_no_weight_is_fetched_where_the_vocabulary_cannot_be_read(remote):
    folder, address, asked = remote
    set_in("tokenizer.json", None, class_name="GPT2Tokenizer")(folder)
    with pytest.raises(ModelError, match="got GPT2Tokenizer"):
        load(address)
    (folder / "tokenizer.json").unlink()
    (folder / VOCABULARY).unlink()
    with pytest.raises(ModelError, match="needs its vocabulary"):
        load(address)
    assert asked
    assert not [name for name in asked if name.endswith(".h5")]
