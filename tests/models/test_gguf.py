"""GGUF files as llama.cpp's converter writes them, read back: weights, description, vocabulary; and broken ones."""

import json

import gguf
import numpy as np
import pytest
from backbones import make
from test_json_tokenizer import MADE, TEXTS
from vocabularies import LINES, LLAMA_3_CONTROLS, llama_3_library

from mmtune.errors import DataError, ModelError
from mmtune.model import Model
from mmtune.models.gguf_files import GgufFile, _stretched
from mmtune.models.hf_load import load_gguf
from mmtune.models.hf_names import links
from mmtune.models.load import load
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
SECOND = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
TOP = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
FAMILIES = {"llama3": "llama", "gemma": "gemma", "gemma2": "gemma2"}


def paired(array, heads):
    """Rows of queries and keys as llama.cpp turns them: first and second half of each head in turn."""
    return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def write(path, family, backbone, vocabulary=None, packed=None, add=None):
    """Writes a file of a backbone, its vocabulary by `add`."""
    text, architecture = read_spec(backbone).text, FAMILIES[family]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(text.num_layers)
    writer.add_embedding_length(text.hidden_dim)
    writer.add_feed_forward_length(text.mlp_dim)
    writer.add_head_count(text.num_heads)
    writer.add_head_count_kv(text.num_kv_heads)
    writer.add_key_length(text.head_dim)
    writer.add_layer_norm_rms_eps(text.norm_epsilon)
    writer.add_rope_freq_base(text.rope.theta)
    if text.rope.linear_factor != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(text.rope.linear_factor)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(text.attention_softcap)
        writer.add_final_logit_softcapping(text.final_softcap)
        writer.add_sliding_window(max(width or 0 for width in text.windows))
    if add is None:
        add_vocabulary(writer, *(vocabulary or ("bytewise", MADE["bytewise"])))
    else:
        add(writer)
    for link in links(read_spec(backbone), model_variables(backbone)):
        array = np.ascontiguousarray(link.write(np.asarray(link.leaf)))
        parts = link.name.split(".")
        name = TOP.get(parts[0]) or f"blk.{parts[1]}.{(NAMES | (SECOND if family == 'gemma2' else {}))[parts[-2]]}"
        if architecture == "llama" and parts[-2] in ("q_proj", "k_proj"):
            array = paired(array, text.num_heads if parts[-2] == "q_proj" else text.num_kv_heads)
        if architecture != "llama" and "norm" in link.name:
            array = array + 1
        if packed is not None and array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(f"{name}.weight", gguf.quantize(array, packed), raw_dtype=packed)
        else:
            writer.add_tensor(f"{name}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer, kind, built):
    content = json.loads(built.to_str())
    vocabulary = built.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.get)
    added = {token["content"]: token["special"] for token in content["added_tokens"]}
    kinds = [1 if t not in added else 3 if added[t] else 4 for t in tokens]
    kinds = [6 if t.startswith("<0x") else k for t, k in zip(tokens, kinds, strict=True)]
    writer.add_tokenizer_model("gpt2" if kind == "bytewise" else "llama")
    writer.add_tokenizer_pre("default" if kind != "bytewise" else "llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    if kind == "bytewise":
        writer.add_token_merges(merges)
    else:  # the earlier a pair is joined, the likelier is its piece
        ranks = {pair.replace(" ", ""): rank for rank, pair in enumerate(merges)}
        writer.add_token_scores([-float(ranks.get(token, 10**6)) for token in tokens])
        writer.add_add_space_prefix(False)
    for name in ("bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(vocabulary[{"bos": "<s>", "eos": "</s>", "pad": "<pad>"}[name]])
    writer.add_add_bos_token(True)


def backbone_of(family):
    return make(family, vocabulary_size=600)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_description_are_those_that_were_written(tmp_path, family):
    backbone = backbone_of(family)
    (again, spec, _), _ = load_gguf(write(tmp_path / "m.gguf", family, backbone), "float32")
    assert spec == read_spec(backbone)
    for ours, theirs in zip(backbone.weights, again.weights, strict=True):
        np.testing.assert_allclose(np.asarray(theirs), np.asarray(ours), atol=1e-6, err_msg=ours.path)


def test_packed_weights_are_near(tmp_path):
    backbone = backbone_of("llama3")
    packed = gguf.GGMLQuantizationType.Q8_0
    (again, _, _), _ = load_gguf(write(tmp_path / "m.gguf", "llama3", backbone, packed=packed), "float32")
    apart = [np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(backbone.weights, again.weights, strict=True)]
    assert 1e-5 < max(apart) < 0.05


@pytest.mark.parametrize("name", MADE)
def test_the_vocabulary_is_the_one_that_was_written(tmp_path, name):
    _, tokenizer = load_gguf(write(tmp_path / "m.gguf", "llama3", backbone_of("llama3"), (name, MADE[name])), "float32")
    for text in TEXTS:
        assert tokenizer.encode(text) == MADE[name].encode(text, add_special_tokens=False).ids, text
    assert tokenizer.start == [MADE[name].token_to_id("<s>")]
    assert tokenizer.eos == MADE[name].token_to_id("</s>")


def llama_3(pre):
    """Adds a vocabulary as Llama 3's, without saying whether bos begins texts."""
    library = llama_3_library()
    ids = library.get_vocab(with_added_tokens=True)
    tokens = sorted(ids, key=lambda token: ids[token])

    def add(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in LLAMA_3_CONTROLS else 1 for token in tokens])
        merges = json.loads(library.to_str())["model"]["merges"]
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
        writer.add_bos_token_id(ids["<|begin_of_text|>"])
        writer.add_eos_token_id(ids["<|end_of_text|>"])

    return add


def test_llama_3_takes_a_part_that_is_a_token_as_it_is(tmp_path):
    path = write(tmp_path / "m.gguf", "llama3", backbone_of("llama3"), add=llama_3("llama-bpe"))
    _, tokenizer = load_gguf(path, "float32")
    for text in [*LINES, *TEXTS]:
        assert tokenizer.encode(text) == llama_3_library().encode(text, add_special_tokens=False).ids, text
    assert tokenizer.start == [tokenizer.bos]


def test_bos_begins_no_text_of_byte_pairs_where_the_file_does_not_say(tmp_path):
    """As in llama.cpp, Llama 3's aside."""
    path = write(tmp_path / "m.gguf", "llama3", backbone_of("llama3"), add=llama_3("smollm"))
    assert load_gguf(path, "float32")[1].start == []


@pytest.mark.parametrize("packed", [None, gguf.GGMLQuantizationType.Q8_0])
def test_rows_are_those_of_the_whole(tmp_path, packed):
    file = GgufFile(write(tmp_path / "m.gguf", "llama3", backbone_of("llama3"), packed=packed))
    for name in file:
        np.testing.assert_array_equal(file.read(name, slice(3, 9)), file.read(name)[3:9], err_msg=name)


def test_it_loads_by_its_name_and_answers(tmp_path):
    backbone = backbone_of("llama3")
    path = write(tmp_path / "m.gguf", "llama3", backbone)
    model = load(path)
    assert model.name == str(path)
    expected = Model(backbone, model.tokenizer, name="made").generate(None, ["the cat"], 8)
    found = model.generate(None, ["the cat"], 8)
    assert [answer.text for answer in found] == [answer.text for answer in expected]


def test_added_tokens_without_an_embedding_are_for_no_text(tmp_path):
    """A file whose list of tokens is longer than its table."""
    made = MADE["spaced"].get_vocab_size()
    backbone = make("llama3", vocabulary_size=made - 1)
    model = load(write(tmp_path / "m.gguf", "llama3", backbone, ("spaced", MADE["spaced"])))
    assert (model.tokenizer.vocabulary_size, model.tokenizer.find("<box>")) == (made - 1, None)
    assert model.generate(None, ["the cat"], 2)
    with pytest.raises(DataError, match="uses the token <box>"):
        model.generate(None, ["the cat <box>"], 2)


def config_of(path, family="llama", rope_freqs=None, **fields):
    """Returns what a file of little more than a header says. "a__b" stands for the field FAMILY.a.b."""
    writer = gguf.GGUFWriter(path, family)
    for key, value in (("block_count", 1), ("embedding_length", 64), ("feed_forward_length", 128), ("head_count", 1)):
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e5)
    for key, value in fields.items():
        add = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}
        getattr(writer, add[type(value)])(f"{family}.{key.replace('__', '.')}", value)
    if rope_freqs is not None:
        writer.add_tensor("rope_freqs.weight", rope_freqs.astype(np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((8, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path).config()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_1_stretches_its_waves(tmp_path, factor):
    config = config_of(tmp_path / "m.gguf", rope_freqs=_stretched(64, 5e5, factor))
    assert config["rope_scaling"]["factor"] == factor
    assert config["rms_norm_eps"] == 1e-5


# Fields of the header, and by what positions are divided as llama.cpp reads them.
LINEAR = {
    "nothing": ({}, None),
    "linear": ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, 4.0),
    "no type": ({"rope__scaling__factor": 2.5}, 2.5),
    "former name": ({"rope__scale_linear": 8.0}, 8.0),
    "both names": ({"rope__scale_linear": 8.0, "rope__scaling__factor": 4.0}, 4.0),
    "type none": ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, None),
    "factor 0": ({"rope__scaling__type": "linear", "rope__scaling__factor": 0.0}, None),
    "factor 1": ({"rope__scaling__type": "linear", "rope__scaling__factor": 1.0}, None),
}


@pytest.mark.parametrize("family", ["llama", "gemma", "gemma2"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_scaling(tmp_path, family, name):
    fields, factor = LINEAR[name]
    expected = None if factor is None else {"rope_type": "linear", "factor": factor}
    assert config_of(tmp_path / "m.gguf", family, **fields)["rope_scaling"] == expected


def test_linear_scaling_is_computed(tmp_path):
    backbone = make("llama3", vocabulary_size=600, rope_position_scaling_factor=4.0)
    (_, spec, _), _ = load_gguf(write(tmp_path / "m.gguf", "llama3", backbone), "float32")
    assert spec == read_spec(backbone)


def test_fields_that_change_nothing(tmp_path):
    fields = {
        "context_length": 8192,
        "vocab_size": 8,
        "rope__dimension_count": 64,
        "attention__value_length": 64,
        "attention__scale": 0.125,
        "attention__causal": True,
        "rope__scaling__finetuned": True,
        "rope__scaling__original_context_length": 4096,
        "expert_count": 0,
        "tensor_data_layout": "Meta AI original pth",
    }
    assert config_of(tmp_path / "m.gguf", **fields) == config_of(tmp_path / "n.gguf")


YARN = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
# Family, fields of its header, what the message says.
REFUSED = {
    "yarn": ("llama", YARN, "llama.rope.scaling.type = yarn with llama.rope.scaling.factor = 4.0 is not supported"),
    "yarn of Gemma": ("gemma2", YARN, "gemma2.rope.scaling.type = yarn"),
    "longrope": ("llama", {"rope__scaling__type": "longrope"}, "llama.rope.scaling.type = longrope is not supported"),
    "a factor below 0": ("llama", {"rope__scaling__factor": -2.0}, "expected a number from 0, found -2.0"),
    "attention factor": ("llama", {"rope__scaling__attn_factor": 1.5}, "attn_factor = 1.5 is not supported"),
    "a part of a head": ("llama", {"rope__dimension_count": 32}, "dimension_count = 32 is not supported: expected 64"),
    "attention scale": ("llama", {"attention__scale": 0.5}, "llama.attention.scale = 0.5 is not supported"),
    "window": ("llama", {"attention__sliding_window": 512}, "sliding_window = 512 is not supported"),
    "window of Gemma": ("gemma", {"attention__sliding_window": 512}, "gemma.attention.sliding_window = 512"),
    "another pattern": ("gemma2", {"attention__sliding_window_pattern": 6}, "pattern = 6 is not supported: expected 2"),
    "soft cap": ("gemma", {"final_logit_softcapping": 30.0}, "gemma.final_logit_softcapping = 30.0 is not supported"),
    "experts": ("llama", {"expert_count": 8, "expert_used_count": 2}, "expert_count = 8 .*expert_used_count = 2"),
    "logit scale": ("llama", {"logit_scale": 8.0}, "llama.logit_scale = 8.0 is not supported"),
    "both ways": ("llama", {"attention__causal": False}, "llama.attention.causal = False is not supported"),
    "unknown": ("llama", {"attention__temperature_length": 9}, "temperature_length = 9 is not known here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_are_not_computed_are_refused_by_name(tmp_path, name):
    family, fields, words = REFUSED[name]
    with pytest.raises(ModelError, match=words) as error:
        config_of(tmp_path / "m.gguf", family, **fields)
    assert "m.gguf: " in str(error.value)


def test_two_kinds_of_scaling_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"scaling.factor = 4 is not supported with the tensor rope_freqs"):
        config_of(tmp_path / "m.gguf", rope_freqs=_stretched(64, 5e5, 8.0), rope__scaling__factor=4.0)
    with pytest.raises(ModelError, match=r"the tensor rope_freqs.weight is that of no known Llama 3"):
        config_of(tmp_path / "n.gguf", rope_freqs=_stretched(64, 5e5, 16.0))


@pytest.mark.parametrize("keep", [0, 3, 10, 200, 0.5, 0.99])
def test_cut_files_are_one_sentence(tmp_path, keep):
    path = write(tmp_path / "m.gguf", "llama3", backbone_of("llama3"))
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ModelError, match=r"m\.gguf: ") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_what_is_no_gguf(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"not at all a model" * 9)
    with pytest.raises(ModelError, match="no GGUF file: it does not begin as one"):
        load(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match="there is no such file"):
        load(tmp_path / "b.gguf")
    writer = gguf.GGUFWriter(tmp_path / "c.gguf", "qwen3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="unknown architecture 'qwen3'"):
        load(tmp_path / "c.gguf")
