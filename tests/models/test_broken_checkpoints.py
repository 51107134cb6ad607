"""Broken models through the command line: exit code 2, and one message that names the file and what in it is wrong."""

import os
import pickle
import shutil

import ml_dtypes
import numpy as np
import pytest
from broken_models import WRITERS, config, content, cut, gguf_with, gone, header, index, into_folder, tensors
from commands import run
from PIL import Image
from safetensors.numpy import load_file, save_file

from mmtune.files import write_json
from mmtune.models.folder_files import INDEX, SINGLE

EMBEDDING = "language_model.model.embed_tokens.weight"
GATE = "language_model.model.layers.0.mlp.gate_proj.weight"
FIRST, SECOND, THIRD = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
ADAPTER, LORA = "adapter_model.safetensors", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
BACKBONE, WEIGHTS = "config.json", "model.weights.h5"


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["MMTUNE_TEST_MARK"],)


def put(name, value):
    return lambda held: held.update({name: value})


def spoil(name, number):
    def change(held):
        held[name] = held[name].copy()
        held[name].flat[-1] = number

    return tensors(change)


def cast(name, dtype):
    return tensors(lambda held: held.update({name: held[name].astype(dtype)}))


def entry(name, **changes):
    return header(lambda held: held[name].update(changes))


def overlap(held):
    held["w"] = held[GATE]


def both_shards(_, folder):
    held = load_file(folder / SECOND)
    save_file(held | {"model.embed_tokens.weight": np.zeros((450, 16), np.float32)}, folder / SECOND)


def trapped(*files):
    """Puts pickles in the place of a folder's safetensors files."""

    def change(folder):
        for old in [*folder.glob("*.safetensors"), *folder.glob(INDEX)]:
            old.unlink()
        for file in files:
            (folder / file).write_bytes(pickle.dumps(Trap()))

    return change


def link(file, target):
    def change(folder):
        (folder / file).unlink()
        (folder / file).symlink_to(target)

    return change


def own_base(folder):
    config({"base_model_name_or_path": str(folder.parent / "other")}, "adapter_config.json")(folder)
    shutil.copytree(folder, folder.parent / "other")
    config({"base_model_name_or_path": str(folder)}, "adapter_config.json")(folder.parent / "other")


PEFT = "adapter_config.json"
PROCESSOR, TOKENS, SETTINGS, PIECES = (
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
)
VOCABULARY = "assets/tokenizer/vocabulary.spm"
NOT_JSON = b'{"a": 1,'

# Name: (model, how it is broken, what the message must say).
CASES = {
    # Shards and their index
    "shard missing": ("llama", gone(SECOND), (INDEX, f"names the shard {SECOND}", "not there")),
    "shard cut": ("llama", cut(FIRST), (FIRST, "cut off", "model.embed_tokens.weight")),
    "shard empty": ("llama", content(FIRST, b""), (FIRST, "it has 0 bytes")),
    "shard a folder": ("llama", into_folder(FIRST), (INDEX, FIRST)),
    "shard a dead link": ("llama", link(FIRST, "nowhere"), (INDEX, FIRST)),
    "shard a link to what is no shard": ("llama", link(FIRST, "/etc/passwd"), (FIRST, "no safetensors file")),
    "shard a link to a device": ("llama", link(FIRST, "/dev/zero"), (INDEX, FIRST)),
    "index leaves the folder": (
        "llama",
        index(lambda names, _: names.update({"model.norm.weight": "../x.safetensors"})),
        (INDEX, "files in the same folder", "'../x.safetensors'"),
    ),
    "index names an absolute path": (
        "llama",
        index(lambda names, _: names.update({"model.norm.weight": "/etc/passwd"})),
        (INDEX, "files in the same folder", "'/etc/passwd'"),
    ),
    "index names what the shard lacks": (
        "llama",
        index(lambda names, _: names.update({"model.norm.weight": FIRST})),
        (FIRST, "model.norm.weight", "found none"),
    ),
    "tensor in two shards": ("llama", index(both_shards), (SECOND, "model.embed_tokens.weight", FIRST)),
    "index no JSON": ("llama", content(INDEX, NOT_JSON), (INDEX, "expected JSON")),
    "index a list": ("llama", content(INDEX, b"[]"), (INDEX, "weight_map")),
    "index empty": ("llama", content(INDEX, b"{}"), (INDEX, "weight_map")),
    "no weights": ("llama", gone(FIRST, SECOND, THIRD, INDEX), ("llama: expected", SINGLE, INDEX, "found neither")),
    # Tensors
    "tensor missing": ("paligemma", tensors(lambda held: held.pop(GATE)), ("expected the tensor", "gate_proj")),
    "tensor too many": ("paligemma", tensors(put("x.weight", np.zeros(2, np.float32))), (SINGLE, "x.weight")),
    "adapter not merged": (
        "paligemma",
        tensors(put(GATE.replace("weight", "lora_A.weight"), np.zeros((2, 16), np.float32))),
        (SINGLE, "lora_A.weight", "not merged"),
    ),
    "layer too many": (
        "paligemma",
        tensors(lambda held: held.update({GATE.replace("layers.0", "layers.1"): held[GATE]})),
        (SINGLE, "layers.1.mlp.gate_proj"),
    ),
    "same weight under two names": (
        "paligemma",
        tensors(lambda held: held.update({f"model.{EMBEDDING}".replace(".model.", ".", 1): held[EMBEDDING]})),
        ("embed_tokens", "under two names"),
    ),
    "shape": (
        "paligemma",
        tensors(lambda held: held.update({GATE: held[GATE].T})),
        (SINGLE, GATE, "[16, 24]", "[24, 16]"),
    ),
    "embeddings of another width": (
        "paligemma",
        tensors(put(EMBEDDING, np.zeros((2176, 8), np.float32))),
        (SINGLE, EMBEDDING, "[2176, 8]", "[2176, 16]"),
    ),
    "whole numbers": ("paligemma", cast(GATE, np.int64), (SINGLE, GATE, "dtype I64", "F32")),
    "eight bits": ("paligemma", cast(GATE, ml_dtypes.float8_e4m3fn), (SINGLE, GATE, "dtype F8_E4M3")),
    "unknown dtype": ("paligemma", entry(GATE, dtype="F3"), (SINGLE, GATE, "dtype F3")),
    "NaN": ("paligemma", spoil(GATE, np.nan), (SINGLE, GATE, "NaN")),
    "infinity": ("paligemma", spoil(EMBEDDING, np.inf), (SINGLE, EMBEDDING, "infinite")),
    # The file of the tensors
    "file cut in the numbers": ("paligemma", cut(SINGLE, 0.9), (SINGLE, "cut off")),
    "file cut in the header": ("paligemma", cut(SINGLE, 0.003), (SINGLE, "header")),
    "file empty": ("paligemma", content(SINGLE, b""), (SINGLE, "it has 0 bytes")),
    "file a folder": ("paligemma", into_folder(SINGLE), (SINGLE, "expected a file")),
    "header of terabytes": ("paligemma", content(SINGLE, b"\0\0\0\0\0\1\0\0{}"), (SINGLE, "header", str(2**40))),
    "header no JSON": ("paligemma", header(lambda _: b"\x80 none"), (SINGLE, "expected JSON")),
    "header with a tensor twice": (
        "paligemma",
        header(lambda _: b'{"w": {"dtype": "F32"}, "w": {"dtype": "F32"}}'),
        (SINGLE, "'w' stands twice"),
    ),
    "offsets over each other": ("paligemma", header(overlap), (SINGLE, "over those of another")),
    "offsets with a hole": (
        "paligemma",
        header(lambda held: held.pop(GATE) and None),
        (SINGLE, "a gap of 1536 bytes"),
    ),
    "offsets negative": ("paligemma", entry(GATE, data_offsets=[-1536, 0]), (SINGLE, GATE, "no readable entry")),
    "offsets behind the end": (
        "paligemma",
        entry(GATE, data_offsets=[10**9, 10**9 + 1536]),
        (SINGLE, GATE, "the file ends before"),
    ),
    "bytes behind the end": (
        "paligemma",
        header(lambda _: None, data=b"more"),
        (SINGLE, "4 bytes behind the last tensor"),
    ),
    # config.json
    "config no JSON": ("llama", content("config.json", NOT_JSON), ("config.json", "expected JSON")),
    "config a list": ("llama", content("config.json", b"[1]"), ("config.json", "expected an object")),
    "config empty": ("llama", content("config.json", b""), ("config.json", "expected JSON")),
    "config without a type": ("llama", config({"model_type": None}), ("config.json", "model_type")),
    "config of another architecture": ("llama", config({"model_type": "mamba"}), ("config.json", "'mamba'")),
    "config missing": ("llama", gone("config.json"), ("llama", "config.json")),
    "config a folder": ("llama", into_folder("config.json"), ("config.json",)),
    "head count a text": (
        "llama",
        config({"num_attention_heads": "2"}),
        ("config.json", "num_attention_heads: expected a whole number from 1, got '2'"),
    ),
    "sizes negative": ("llama", config({"hidden_size": -16}), ("config.json", "hidden_size: expected", "got -16")),
    "no layers": ("llama", config({"num_hidden_layers": 0}), ("config.json", "num_hidden_layers", "got 0")),
    "heads that do not divide": (
        "llama",
        config({"num_attention_heads": 3, "head_dim": None}),
        ("config.json", "hidden_size: 16 cannot be divided by num_attention_heads, 3"),
    ),
    "sizes of another model": ("llama", config({"intermediate_size": 64}), (".safetensors", "gate_proj", "[64, 16]")),
    "layers that are not there": ("llama", config({"num_hidden_layers": 1000}), ("layers.1.self_attn.q_proj",)),
    "no vision": ("paligemma", config({"vision_config": None}), ("config.json", "vision_config")),
    "pictures too large to be": (
        "paligemma",
        lambda folder: [
            gone(PROCESSOR)(folder),
            config({"image_size": 2**30}, inner="vision_config")(folder),
        ],
        (SINGLE, "position_embedding", "[4, 32]"),
    ),
    # The vocabulary
    "vocabulary missing": ("llama", gone(TOKENS), ("llama", TOKENS, PIECES, "found neither")),
    "tokenizer.json cut": ("llama", cut(TOKENS), (TOKENS, "no tokenizer.json")),
    "tokenizer.json of another kind": ("llama", content(TOKENS, b'{"version": "1.0"}'), (TOKENS,)),
    "tokenizer.json no text": ("llama", content(TOKENS, b"\xff\xfe{}"), (TOKENS, "UTF-8")),
    "names of tokens missing": ("llama", gone(SETTINGS), (TOKENS, "bos_token", SETTINGS)),
    "names of tokens unknown": ("llama", config({"eos_token": "<x>"}, SETTINGS), (TOKENS, "<x>", "eos_token")),
    "names of tokens no JSON": ("llama", content(SETTINGS, NOT_JSON), (SETTINGS, "expected JSON")),
    "tokenizer.model garbage": ("paligemma", content(PIECES, b"garbage"), (PIECES, "no SentencePiece model")),
    "tokenizer.model empty": ("paligemma", content(PIECES, b""), (PIECES, "empty")),
    "tokenizer.model cut": ("paligemma", cut(PIECES), (PIECES, "no SentencePiece model")),
    "more tokens than embeddings": (
        "paligemma",
        lambda folder: [
            config({"vocab_size": 256}, inner="text_config")(folder),
            tensors(put(EMBEDDING, np.zeros((256, 16), np.float32)))(folder),
        ],
        (PIECES, "2176 tokens", "256"),
    ),
    # Pictures
    "processor no JSON": ("paligemma", content(PROCESSOR, NOT_JSON), (PROCESSOR, "expected JSON")),
    "processor of another size": (
        "paligemma",
        config({"size": {"height": 29, "width": 29}}, PROCESSOR),
        (PROCESSOR, "size: expected 28 x 28"),
    ),
    "processor with two means": (
        "paligemma",
        config({"image_mean": [0.5, 0.5]}, PROCESSOR),
        (PROCESSOR, "image_mean: expected three numbers"),
    ),
    # Adapters
    "adapter without a base": ("adapter", config({"base_model_name_or_path": None}, PEFT), (PEFT, "base_model_name")),
    "base no name": ("adapter", config({"base_model_name_or_path": 3}, PEFT), (PEFT, "base_model_name_or_path")),
    "base not there": ("adapter", config({"base_model_name_or_path": "no"}, PEFT), (PEFT, "unknown model 'no'")),
    "base of itself": ("adapter", own_base, (PEFT, "based on itself")),
    "base broken": ("adapter", content("base/config.json", NOT_JSON), (PEFT, "base/config.json", "expected JSON")),
    "rank a text": ("adapter", config({"r": "3"}, PEFT), (PEFT, "lora.rank: expected a whole number, got '3'")),
    "rank of another adapter": ("adapter", config({"r": 10**9}, PEFT), (ADAPTER, LORA, "expected (1000000000, ...)")),
    "one tensor of another rank": (
        "adapter",
        tensors(put(LORA.replace("_A", "_B"), np.zeros((16, 4), np.float32)), ADAPTER),
        (ADAPTER, "lora_B", "(16, 4)"),
    ),
    "unknown target": (
        "adapter",
        tensors(put(LORA.replace("q_proj", "qkv"), np.zeros((3, 16), np.float32)), ADAPTER),
        (ADAPTER, "qkv", "no linear module"),
    ),
    "adapter config no JSON": ("adapter", content(PEFT, NOT_JSON), (PEFT, "expected a PEFT configuration")),
    "adapter config deep": ("adapter", content(PEFT, b"[" * 10**5), (PEFT, "expected a PEFT configuration")),
    "adapter of another kind": ("adapter", config({"peft_type": "IA3"}, PEFT), (PEFT, "peft_type LORA", "IA3")),
    "adapter missing": ("adapter", gone(ADAPTER), ("adapter.safetensors or adapter_model.safetensors",)),
    "adapter cut": ("adapter", cut(ADAPTER), (ADAPTER, "cut off")),
    "adapter with NaN": (
        "adapter",
        tensors(put(LORA, np.full((3, 16), np.nan, np.float32)), ADAPTER),
        (ADAPTER, LORA, "NaN"),
    ),
    # GGUF
    "gguf cut": ("gguf", cut("m.gguf", 0.5), ("m.gguf", "cut off")),
    "gguf cut in the header": ("gguf", cut("m.gguf", 0.02), ("m.gguf", "cut off", "tokenizer.ggml.tokens")),
    "gguf of another magic": ("gguf", content("m.gguf", b"GGML" + bytes(40)), ("m.gguf", "no GGUF file")),
    "gguf of another version": ("gguf", content("m.gguf", b"GGUF\x09" + bytes(40)), ("m.gguf", "found 9")),
    "gguf with countless fields": (
        "gguf",
        content("m.gguf", b"GGUF\3\0\0\0" + bytes(8) + b"\xff" * 8 + bytes(99)),
        ("m.gguf", "twice"),
    ),
    "gguf with countless tensors": (
        "gguf",
        content("m.gguf", b"GGUF\3\0\0\0" + b"\xff" * 8 + bytes(8 + 99)),
        ("m.gguf", "axes"),
    ),
    "gguf with an endless list": (
        "gguf",
        content(
            "m.gguf",
            b"GGUF\3\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"a\x09\0\0\0\4\0\0\0\xff\xff"
            b"\xff\xff\xff\0\0\0" + bytes(99),
        ),
        ("m.gguf", "cut off", "the field a"),
    ),
    "gguf of another architecture": ("gguf", gguf_with("qwen3"), ("m.gguf", "'qwen3'")),
    "gguf without a field": ("gguf", gguf_with(block_count=None), ("m.gguf", "llama.block_count")),
    "gguf without heads": ("gguf", gguf_with(head_count=0), ("m.gguf", "llama.attention.head_count", "found 0")),
    "gguf empty": ("gguf", content("m.gguf", b""), ("m.gguf", "cut off")),
    "gguf not there": ("gguf", gone("m.gguf"), ("m.gguf", "no such file")),
    # Presets
    "preset config no JSON": ("preset", content(BACKBONE, NOT_JSON), (BACKBONE, "expected JSON")),
    "preset config a list": ("preset", content(BACKBONE, b"[]"), (BACKBONE, "expected an object")),
    "preset of no class": ("preset", config({"registered_name": "keras_hub>Nothing"}), (BACKBONE, "Nothing")),
    "preset without a class": ("preset", config({"registered_name": None}), (BACKBONE, "registered_name")),
    "preset without weights": ("preset", gone(WEIGHTS), ("preset", WEIGHTS)),
    "preset with cut weights": ("preset", cut(WEIGHTS), (WEIGHTS,)),
    "preset with weights of another model": ("preset", config({"num_layers": 2}, inner="config"), ("preset",)),
    "preset without a vocabulary": ("preset", gone(VOCABULARY), (VOCABULARY,)),
    "preset with a broken vocabulary": ("preset", content(VOCABULARY, b"x"), (VOCABULARY, "no SentencePiece model")),
    # Pickles
    "pickle": ("llama", trapped("pytorch_model.bin"), ("pytorch_model.bin", "never opened", "weights_only=True")),
    "pickles": (
        "llama",
        trapped("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
        ("pytorch_model-00001-of-00002.bin", "never opened", "save_file"),
    ),
    "pickle of an adapter": (
        "adapter",
        trapped("adapter_model.bin"),
        ("adapter_model.bin", "never opened", "adapter_model.safetensors"),
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a whole model of each form."""
    root = tmp_path_factory.mktemp("whole")
    for name, write in WRITERS.items():
        write(root / name)
    return root


@pytest.fixture
def copy(whole, tmp_path):
    def make(form):
        folder = tmp_path / form
        shutil.copytree(whole / form, folder)
        if form == "adapter":
            config({"base_model_name_or_path": str(folder / "base")}, PEFT)(folder)
        return folder

    return make


def name_of(folder):
    return folder / "m.gguf" if folder.name == "gguf" else folder


def question(folder, tmp_path):
    if folder.name in ("paligemma", "preset"):
        Image.new("RGB", (30, 30), "grey").save(tmp_path / "a.png")
        return [
            "predict",
            name_of(folder),
            "--task",
            "detection",
            "--prompt",
            "detect a",
            "--image",
            tmp_path / "a.png",
        ]
    return ["predict", name_of(folder), "--task", "instruct", "--prompt", "hi", "--max-tokens", "2"]


@pytest.mark.parametrize("form", WRITERS)
def test_whole_models_answer(form, copy, capsys, tmp_path):
    """Or else what is broken below would not be what is told."""
    folder = copy(form)
    assert run(capsys, "models", name_of(folder))[0] == 0
    assert run(capsys, *question(folder, tmp_path))[0] == 0


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_exit_code_2(name, copy, capsys, monkeypatch, tmp_path):
    form, break_it, words = CASES[name]
    mark = tmp_path / "unpickled"
    monkeypatch.setenv("MMTUNE_TEST_MARK", str(mark))
    folder = copy(form)
    break_it(folder)
    code, _, said = run(capsys, "models", name_of(folder))
    told = [line for line in said.splitlines() if "Warning" not in line]
    assert code == 2, said
    assert len(told) == 1, said
    assert told[0].startswith("mmtune: ")
    for word in (*words, str(folder)):
        assert word in told[0]
    assert len(told[0]) < 1200
    assert not mark.exists(), "a pickle was opened"


@pytest.mark.parametrize("name", ["NaN", "config no JSON", "adapter cut", "gguf cut", "preset without weights"])
def test_asking_a_broken_model_says_the_same(name, copy, capsys, tmp_path):
    form, break_it, words = CASES[name]
    folder = copy(form)
    break_it(folder)
    code, _, said = run(capsys, *question(folder, tmp_path))
    assert code == 2
    assert all(word in said for word in words)
    assert "Traceback" not in said


def test_the_trap_would_have_sprung(monkeypatch, tmp_path):
    monkeypatch.setenv("MMTUNE_TEST_MARK", str(tmp_path / "unpickled"))
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "unpickled").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("file", ["config.json", FIRST, "tokenizer.json", INDEX])
def test_files_that_may_not_be_read(file, copy, capsys):
    folder = copy("llama")
    (folder / file).chmod(0)
    code, _, said = run(capsys, "models", folder)
    assert code == 2
    assert file in said
    assert "Traceback" not in said


def test_a_run_whose_base_is_itself(copy, capsys):
    folder = copy("llama")
    (folder / "recipe.toml").write_text(f'task = "instruct"\ndata = "x"\nmodel = "{folder}"\n')
    code, _, said = run(capsys, "models", folder)
    assert code == 2
    assert "recipe.toml: its base cannot be loaded" in said


def test_a_file_in_place_of_its_folder(copy, capsys):
    code, _, said = run(capsys, "models", copy("paligemma") / SINGLE)
    assert code == 2
    assert "name its folder" in said


def test_an_empty_folder(tmp_path, capsys):
    write_json(tmp_path / "other.json", {})
    code, _, said = run(capsys, "models", tmp_path)
    assert code == 2
    assert str(tmp_path) in said
