"""`config.json` of the supported families: published ones, both spellings of rotary positions, and faults."""

import json
from dataclasses import replace

import pytest

from mmtune.errors import ModelError
from mmtune.models.build import build_backbone
from mmtune.models.folder_files import CONFIG, PREPROCESSOR, PROCESSOR
from mmtune.models.hf_config import read_config
from mmtune.models.hf_export import config_of
from mmtune.models.spec import RopeSpec, read_spec

GEMMA = {
    "model_type": "gemma",
    "hidden_act": "gelu",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 256000,
}
GEMMA2_27B = {
    "model_type": "gemma2",
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "num_hidden_layers": 46,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "query_pre_attn_scalar": 144,
    "vocab_size": 256000,
}
LLAMA31 = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": False,
}
PALIGEMMA = {
    "model_type": "paligemma",
    "text_config": {
        "model_type": "gemma",
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
        "vocab_size": 257216,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "image_size": 448,
        "patch_size": 14,
    },
}
ALL = {"gemma": GEMMA, "gemma2 27b": GEMMA2_27B, "llama 3.1": LLAMA31, "paligemma": PALIGEMMA}


def write(folder, config) -> None:
    (folder / CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))


def read(folder, config, has_head=False):
    write(folder, config)
    return read_config(folder, has_head)


@pytest.mark.parametrize("name", ALL)
def test_a_backbone_of_the_description_has_the_same_description(tmp_path, name):
    spec = read(tmp_path, ALL[name])
    assert read_spec(build_backbone(spec, "bfloat16")) == spec


def test_gemma_2_27b(tmp_path):
    text = read(tmp_path, GEMMA2_27B).text
    assert text.query_scale == pytest.approx(1 / 12)
    assert text.windows == (4096, None) * 23
    assert (text.attention_softcap, text.final_softcap, text.post_norms) == (50.0, 30.0, True)


def test_paligemma_448(tmp_path):
    spec = read(tmp_path, PALIGEMMA)
    assert (spec.image_tokens, spec.text.head_dim, spec.text.vocabulary_size) == (1024, 256, 257216)


@pytest.mark.parametrize("former", [True, False], ids=["transformers 4", "transformers 5"])
def test_rotary_positions(tmp_path, former):
    config = dict(LLAMA31)
    if not former:
        config["rope_parameters"] = config.pop("rope_scaling") | {"rope_theta": config.pop("rope_theta")}
    assert read(tmp_path, config).text.rope == RopeSpec(500000.0, 1.0, 8.0, 1.0, 4.0, 8192)


def test_the_head_says_whether_embeddings_are_tied_where_the_file_does_not(tmp_path):
    config = {key: value for key, value in LLAMA31.items() if key != "tie_word_embeddings"}
    assert read(tmp_path, config, has_head=False).text.tied
    assert not read(tmp_path, config, has_head=True).text.tied
    assert not read(tmp_path, LLAMA31, has_head=False).text.tied


def test_what_kerashub_cannot_say_is_in_the_description(tmp_path):
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    changes = {"num_hidden_layers": 3, "layer_types": kinds, "rope_theta": 5e4, "query_pre_attn_scalar": 100}
    text = read(tmp_path, GEMMA2_27B | changes).text
    assert (text.windows, text.rope.theta, text.query_scale) == ((None, 4096, None), 5e4, 0.1)
    theirs = read_spec(build_backbone(read(tmp_path, GEMMA2_27B | changes), "bfloat16")).text
    assert replace(theirs, windows=text.windows, rope=text.rope, query_scale=text.query_scale) == text


def rope(**scaling):
    return LLAMA31 | {"rope_scaling": scaling}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_linear_scaling(tmp_path, name, key):
    config = json.loads(json.dumps(ALL[name]))
    text = config.get("text_config", config)
    text.pop("rope_scaling", None)
    text[key] = {"rope_type": "linear", "factor": 4.0}
    spec = read(tmp_path, config)
    assert spec.text.rope.linear_factor == 4.0
    assert read(tmp_path, config_of(spec, "float32")) == spec


def test_the_same_scaling_twice(tmp_path):
    both = LLAMA31["rope_scaling"]
    assert read(tmp_path, LLAMA31 | {"rope_parameters": both | {"rope_theta": 5e5}}) == read(tmp_path, LLAMA31)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param("{", "expected JSON", id="no json"),
        pytest.param("[]", "expected an object", id="list"),
        pytest.param({"model_type": "gemma3"}, "unknown model_type 'gemma3'", id="another family"),
        pytest.param({}, "unknown model_type 'None'", id="no family"),
        pytest.param({"model_type": "paligemma"}, "expected text_config and vision_config", id="no parts"),
        pytest.param(GEMMA | {"hidden_size": "2048"}, "hidden_size: expected a whole number from 1", id="text"),
        pytest.param(GEMMA | {"num_hidden_layers": 10**6}, "expected at most 1000, got 1000000", id="layers"),
        pytest.param(GEMMA | {"num_key_value_heads": 3}, "8 cannot be divided by num_key_value_heads, 3", id="heads"),
        pytest.param(GEMMA | {"attention_bias": True}, "attention_bias: True is not supported", id="bias"),
        pytest.param(GEMMA | {"hidden_activation": "relu"}, "hidden_activation: expected", id="activation"),
        pytest.param(GEMMA | {"tie_word_embeddings": False}, "tie_word_embeddings: false", id="untied"),
        pytest.param(GEMMA2_27B | {"layer_types": ["full_attention"]}, "layer_types: expected 46", id="layer types"),
        pytest.param(LLAMA31 | {"head_dim": 64}, "head_dim: expected hidden_size / .*, 128, got 64", id="head_dim"),
        pytest.param(LLAMA31 | {"rope_scaling": {"rope_type": "yarn"}}, "expected the type default", id="rope"),
        pytest.param(rope(rope_type="yarn", factor=4.0), "rope_scaling.rope_type: expected .* got 'yarn'", id="yarn"),
        pytest.param(rope(rope_type="dynamic", factor=4.0), "rope_type: expected .* got 'dynamic'", id="dynamic"),
        pytest.param(rope(rope_type="longrope"), "rope_type: expected .* got 'longrope'", id="longrope"),
        pytest.param(rope(type="su"), "rope_type: expected .* got 'su'", id="former name of the type"),
        pytest.param(rope(rope_type="linear"), "rope_scaling.factor: expected a number", id="linear without a factor"),
        pytest.param(
            rope(rope_type="llama3", factor=8.0),
            "low_freq_factor: .*high_freq_factor: .*original_max_position_embeddings: expected a number with",
            id="llama3 by halves",
        ),
        pytest.param(
            rope(**LLAMA31["rope_scaling"] | {"high_freq_factor": 1.0}),
            "more than low_freq_factor, 1, got 1",
            id="turn",
        ),
        pytest.param(
            rope(rope_type="linear", factor=2.0, attention_factor=1.2), "attention_factor: 1.2 is not", id="more"
        ),
        pytest.param(rope(factor=4.0), "rope_scaling.factor: 4.0 is not supported with the type default", id="no type"),
        pytest.param(
            rope(rope_type="linear", factor=2.0, partial_rotary_factor=0.5),
            "rope_scaling.partial_rotary_factor: 0.5 is not supported",
            id="a part of a head",
        ),
        pytest.param(GEMMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5", id="a part of Gemma's head"),
        pytest.param(
            LLAMA31 | {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "rope_scaling and rope_parameters differ",
            id="two that differ",
        ),
        pytest.param(
            LLAMA31 | {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "rope_parameters.rope_theta and rope_theta differ: 10000.0 and 500000.0",
            id="two bases",
        ),
        pytest.param(
            LLAMA31 | {"rope_scaling": None, "rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "rope_parameters.full_attention: .* is not supported",
            id="by the kind of layer",
        ),
        pytest.param(
            GEMMA | {"use_bidirectional_attention": True}, "use_bidirectional_attention: True is", id="both directions"
        ),
        pytest.param(LLAMA31 | {"rms_norm_eps": -1}, "rms_norm_eps: expected a number above 0", id="epsilon"),
    ],
)
def test_what_is_refused(tmp_path, config, words):
    with pytest.raises(ModelError, match=words) as error:
        read(tmp_path, config)
    assert str(tmp_path / CONFIG) in str(error.value)


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(ModelError) as error:
        read(tmp_path, GEMMA | {"hidden_size": 0, "intermediate_size": True, "vocab_size": "x"})
    problems = str(error.value).removeprefix(f"{tmp_path / CONFIG}: ").split("; ")
    assert [problem.split(":")[0] for problem in problems] == ["vocab_size", "hidden_size", "intermediate_size"]


PROCESSOR_FIELDS = {
    "do_resize": True,
    "size": {"height": 448, "width": 448},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.5],
    "image_std": [0.5, 0.5, 0.25],
}


def read_with(folder, changes):
    (folder / PREPROCESSOR).write_text(json.dumps(PROCESSOR_FIELDS | changes))
    return read(folder, PALIGEMMA).vision


def test_how_pictures_are_prepared(tmp_path):
    usual = read(tmp_path, PALIGEMMA).vision
    assert (usual.resample, usual.mean, usual.std) == ("bilinear", (0.5,) * 3, (0.5,) * 3)
    found = read_with(tmp_path, {})
    assert (found.resample, found.mean, found.std) == ("bicubic", (0.5, 0.4, 0.5), (0.5, 0.5, 0.25))
    assert replace(found, resample="bilinear", mean=usual.mean, std=usual.std) == usual
    assert read_with(tmp_path, {"resample": 2}).resample == "bilinear"


def test_what_the_file_leaves_out_is_as_in_transformers(tmp_path):
    (tmp_path / PREPROCESSOR).write_text(json.dumps({"image_processor_type": "SiglipImageProcessorFast"}))
    found = read(tmp_path, PALIGEMMA).vision
    assert (found.resample, found.mean, found.std) == ("bicubic", (0.5,) * 3, (0.5,) * 3)


def write_nested(folder, changes):
    content = {"processor_class": "PaliGemmaProcessor", "image_processor": PROCESSOR_FIELDS | changes}
    (folder / PROCESSOR).write_text(json.dumps(content))


@pytest.mark.parametrize("former", [None, {}])
def test_the_newer_file_says_it_alone(tmp_path, caplog, former):
    """Without the older one, and beside one that says the same."""
    write_nested(tmp_path, {"do_convert_rgb": True, "do_pad": False})
    if former is not None:
        (tmp_path / PREPROCESSOR).write_text(json.dumps(PROCESSOR_FIELDS | {"do_center_crop": False}))
    found = read(tmp_path, PALIGEMMA).vision
    assert (found.resample, found.mean, found.std) == ("bicubic", (0.5, 0.4, 0.5), (0.5, 0.5, 0.25))
    assert caplog.messages == []


def test_of_two_files_that_differ_the_newer_one_wins_and_it_is_said_once(tmp_path, caplog):
    (tmp_path / PREPROCESSOR).write_text(json.dumps({"size": {"height": 224, "width": 224}, "resample": 2}))
    write_nested(tmp_path, {})
    for _ in range(3):
        found = read(tmp_path, PALIGEMMA).vision
    assert (found.resample, found.mean, found.std) == ("bicubic", (0.5, 0.4, 0.5), (0.5, 0.5, 0.25))
    (said,) = caplog.messages
    assert said.startswith(
        f"{tmp_path / PROCESSOR}: differs from {PREPROCESSOR} in size, resample, image_mean, image_std"
    )


def test_a_newer_file_without_image_settings_leaves_them_to_the_older_one(tmp_path):
    (tmp_path / PROCESSOR).write_text(json.dumps({"processor_class": "PaliGemmaProcessor", "image_seq_length": 256}))
    assert read(tmp_path, PALIGEMMA).vision.resample == "bilinear"
    assert read_with(tmp_path, {}).resample == "bicubic"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "expected JSON"),
        ('{"image_processor": [1]}', "image_processor: expected an object, got list"),
        ('{"image_processor": {"do_rescale": false}}', "do_rescale: false is not supported"),
        ('{"image_processor": {"resample": 1}}', r"resample: expected 2 \(bilinear\) or 3 \(bicubic\), got 1"),
    ],
)
def test_the_newer_file_is_named_where_it_is_wrong(tmp_path, content, words):
    (tmp_path / PREPROCESSOR).write_text(json.dumps(PROCESSOR_FIELDS))
    (tmp_path / PROCESSOR).write_text(content)
    with pytest.raises(ModelError, match=rf"[/\\]processor_config\.json: {words}"):
        read(tmp_path, PALIGEMMA)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": {"height": 224, "width": 448}}, "size: expected 448 x 448, as config.json says, got"),
        ({"size": {"shortest_edge": 448}}, "size: expected 448 x 448"),
        ({"size": 448}, "size: expected 448 x 448"),  # of the shorter edge, in transformers
        ({"image_processor_type": "CLIPImageProcessor"}, "expected SiglipImageProcessor, got 'CLIPImageProcessor'"),
        ({"size": [[448]]}, "size: expected 448 x 448"),
        ({"resample": 0}, r"resample: expected 2 \(bilinear\) or 3 \(bicubic\), got 0"),
        ({"resample": [3]}, "resample: expected 2"),
        ({"do_rescale": False}, "do_rescale: false is not supported"),
        ({"do_center_crop": True}, "do_center_crop: True is not supported"),
        ({"rescale_factor": 1.0}, "rescale_factor: expected 1 / 255, got 1.0"),
        ({"rescale_factor": None}, "rescale_factor: expected 1 / 255, got None"),
        ({"image_mean": 0.5}, "image_mean: expected three numbers above 0, got 0.5"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std: expected three numbers above 0"),
        ({"image_std": [0.5, "x", 0.5]}, "image_std: expected three numbers above 0"),
    ],
)
def test_how_pictures_cannot_be_prepared(tmp_path, changes, words):
    with pytest.raises(ModelError, match=words) as error:
        read_with(tmp_path, changes)
    assert "preprocessor_config.json" in str(error.value)
