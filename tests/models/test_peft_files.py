"""Adapter files: round trips, PEFT's names, and one sentence for each file that does not fit."""

import json

import ml_dtypes
import numpy as np
import pytest
from backbones import make
from safetensors.numpy import load_file, save_file

from mmtune.errors import ModelError
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import LoRA
from mmtune.models.peft_files import adapter_file, load_adapter, read_config, save_adapter
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

TARGETS = ("q_proj", "down_proj", "fc1", "linear")
OPTIONS = {"rank": 3, "alpha": 5.0, "targets": TARGETS, "vision": True}
NAME = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
# Module -> (inputs, outputs); one decoder layer, one vision layer.
SHAPES = {
    "model.language_model.layers.0.self_attn.q_proj": (48, 64),
    "model.language_model.layers.0.mlp.down_proj": (64, 48),
    "model.vision_tower.encoder.layers.0.self_attn.q_proj": (32, 32),
    "model.vision_tower.encoder.layers.0.mlp.fc1": (32, 64),
    "model.multi_modal_projector.linear": (32, 48),
}

CHANGING = [
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "lora_bias", "monteclora_config"),
    *("target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora", "velora_config"),
]


@pytest.fixture(scope="module")
def backbone():
    return make("paligemma", num_layers=1, vit_num_layers=1)


def make_lora(backbone, seed=0, **options):
    lora = LoraWeights(LoRA(**(OPTIONS | options)), read_spec(backbone), model_variables(backbone), seed)
    rng = np.random.default_rng(seed)
    for variable in lora.weights:
        variable.assign(rng.normal(size=variable.shape))
    return lora


def bytes_of(lora):
    return {(path, name): np.asarray(v).tobytes() for path, w in lora.table.items() for name, v in w.items()}


@pytest.mark.parametrize("dora", [False, True])
def test_round_trip_is_byte_equal(backbone, tmp_path, dora):
    lora = make_lora(backbone, 1, dora=dora)
    file = tmp_path / "deep" / "adapter.safetensors"
    save_adapter(lora, file, "tiny")
    other = make_lora(backbone, 2, dora=dora)
    assert not set(bytes_of(other).values()) & set(bytes_of(lora).values())
    load_adapter(other, file)
    assert bytes_of(other) == bytes_of(lora)
    save_adapter(other, tmp_path / "again.safetensors", "tiny")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert sorted(f.name for f in file.parent.iterdir()) == ["adapter.safetensors", "adapter_config.json"]


@pytest.mark.parametrize("dora", [False, True])
def test_names_shapes_and_orientation(backbone, tmp_path, dora):
    lora = make_lora(backbone, dora=dora)
    save_adapter(lora, tmp_path / "adapter.safetensors", "tiny")
    tensors = load_file(tmp_path / "adapter.safetensors")
    expected = {}
    for path, (inputs, outputs) in SHAPES.items():
        expected[f"base_model.model.{path}.lora_A.weight"] = (3, inputs)
        expected[f"base_model.model.{path}.lora_B.weight"] = (outputs, 3)
        if dora:
            expected[f"base_model.model.{path}.lora_magnitude_vector"] = (outputs,)
    assert {name: value.shape for name, value in tensors.items()} == expected
    assert {value.dtype for value in tensors.values()} == {np.dtype("float32")}
    path = "model.vision_tower.encoder.layers.0.self_attn.q_proj"
    np.testing.assert_array_equal(tensors[f"base_model.model.{path}.lora_A.weight"].T, lora.table[path]["a"])
    np.testing.assert_array_equal(tensors[f"base_model.model.{path}.lora_B.weight"].T, lora.table[path]["b"])


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"r": 3, "lora_alpha": 5.0, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False}),
        (
            {"rank": 2, "alpha": None, "dropout": 0.25, "rslora": True, "dora": True},
            {"r": 2, "lora_alpha": 4.0, "lora_dropout": 0.25, "use_rslora": True, "use_dora": True},
        ),
    ],
    ids=["plain", "all options"],
)
def test_config_fields(backbone, tmp_path, options, fields):
    lora = make_lora(backbone, **options)
    save_adapter(lora, tmp_path / "adapter.safetensors", "hf://google/paligemma")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config == fields | {
        "peft_type": "LORA",
        "base_model_name_or_path": "hf://google/paligemma",
        "target_modules": list(SHAPES),
        "rank_pattern": {},
        "alpha_pattern": {},
        "bias": "none",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
    }
    read = read_config(tmp_path)
    assert (read.rank, read.effective_alpha, read.dropout) == (
        lora.config.rank,
        fields["lora_alpha"],
        fields["lora_dropout"],
    )
    assert (read.rslora, read.dora, read.scale) == (lora.config.rslora, lora.config.dora, lora.config.scale)
    again = LoraWeights(read, read_spec(backbone), model_variables(backbone))
    assert list(again.table) == list(SHAPES)
    load_adapter(again, adapter_file(tmp_path))
    assert bytes_of(again) == bytes_of(lora)


def rewrite(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, shape):
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(NAME), f"1 tensors of the adapter are missing, the first is {NAME}"),
        (
            lambda tensors: tensors.clear(),
            "10 tensors of the adapter are missing, the first is base_model.model.model.",
        ),
        (put("more", (1,)), "1 tensors belong to no module of this adapter, the first is more"),
        (put(NAME.replace("q_proj", "k_proj"), (3, 48)), "1 tensors belong to no module of this adapter, the first is"),
        (put(NAME, (4, 48)), r"lora_A.weight has shape (4, 48), expected (3, 48)"),
        (put(NAME, (48, 3)), r"lora_A.weight has shape (48, 3), expected (3, 48)"),
        (put(NAME.replace("lora_A", "lora_B"), (64,)), r"lora_B.weight has shape (64,), expected (64, 3)"),
    ],
    ids=["missing", "empty", "unknown", "other module", "other rank", "transposed", "other axes"],
)
def test_tensors_that_do_not_fit(backbone, tmp_path, change, message):
    file = tmp_path / "adapter.safetensors"
    save_adapter(make_lora(backbone, 1), file, "tiny")
    rewrite(file, change)
    lora = make_lora(backbone, 2)
    before = bytes_of(lora)
    with pytest.raises(ModelError) as error:
        load_adapter(lora, file)
    text = str(error.value)
    assert text.startswith(f"{file}: ")
    assert message in text
    assert "\n" not in text
    assert bytes_of(lora) == before, "a file that does not fit must leave the adapter as it was"


def test_dora_and_plain_files_are_told_apart(backbone, tmp_path):
    save_adapter(make_lora(backbone), tmp_path / "plain.safetensors", "tiny")
    save_adapter(make_lora(backbone, dora=True), tmp_path / "dora.safetensors", "tiny")
    with pytest.raises(ModelError, match=r"5 tensors of the adapter are missing.*lora_magnitude_vector"):
        load_adapter(make_lora(backbone, dora=True), tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match=r"5 tensors belong to no module.*lora_magnitude_vector"):
        load_adapter(make_lora(backbone), tmp_path / "dora.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no safetensors file"), (b"no safetensors", "no safetensors file"), (None, "the file ends before")],
    ids=["empty", "text", "cut off"],
)
def test_broken_file(backbone, tmp_path, content, words):
    file = tmp_path / "adapter.safetensors"
    save_adapter(make_lora(backbone), file, "tiny")
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    for read in (lambda: load_adapter(make_lora(backbone), file), lambda: read_config(tmp_path)):
        with pytest.raises(ModelError, match=rf"adapter.safetensors: {words}") as error:
            read()
        assert "\n" not in str(error.value)


def test_missing_file(backbone, tmp_path):
    with pytest.raises(ModelError) as error:
        load_adapter(make_lora(backbone), tmp_path / "adapter.safetensors")
    assert str(error.value) == f"{tmp_path / 'adapter.safetensors'}: no such adapter file"
    with pytest.raises(ModelError) as error:
        adapter_file(tmp_path)
    expected = "expected an adapter in adapter.safetensors or adapter_model.safetensors, found neither"
    assert str(error.value) == f"{tmp_path}: {expected}"


def test_file_of_a_run_comes_before_pefts(tmp_path):
    for name in ("adapter_model.safetensors", "adapter.safetensors"):
        (tmp_path / name).touch()
        assert adapter_file(tmp_path).name == name


FORMER = {
    "before 4.52": {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    },
    "before 5": {"model.vision_tower.": "model.vision_tower.vision_model."},
}


@pytest.mark.parametrize("version", FORMER)
def test_module_names_of_former_transformers(backbone, tmp_path, version):
    lora = make_lora(backbone, 1, dora=True)
    file = tmp_path / "adapter_model.safetensors"
    save_adapter(lora, file, "tiny")

    def rename(tensors):
        for name in list(tensors):
            for now, former in FORMER[version].items():
                if name.startswith(f"base_model.model.{now}"):
                    tensors[name.replace(now, former, 1)] = tensors.pop(name)

    names = set(load_file(file))
    rewrite(file, rename)
    assert set(load_file(file)) != names
    other = LoraWeights(read_config(tmp_path), read_spec(backbone), model_variables(backbone))
    load_adapter(other, file)
    assert bytes_of(other) == bytes_of(lora)


def test_bfloat16_file(backbone, tmp_path):
    lora = make_lora(backbone, 1)
    file = tmp_path / "adapter.safetensors"
    save_adapter(lora, file, "tiny")
    rewrite(file, lambda tensors: tensors.update({k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}))
    other = make_lora(backbone, 2)
    load_adapter(other, file)
    path = "model.multi_modal_projector.linear"
    np.testing.assert_array_equal(other.table[path]["a"], np.asarray(lora.table[path]["a"]).astype(ml_dtypes.bfloat16))
    assert other.table[path]["a"].dtype == "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "ADALORA"}, "expected peft_type LORA, got ADALORA"),
        ({"bias": "some"}, "expected bias none, all or lora_only, got bias = some"),
        (
            {"use_qalora": True, "lora_bias": True},
            "expected plain LoRA, rsLoRA or DoRA; lora_bias, use_qalora cannot be used: merge it in PEFT, where",
        ),
        ({"rank_pattern": [1]}, "rank_pattern: expected an object of patterns and numbers, got [1]"),
        ({"rank_pattern": {"q_proj": 2.5}}, "lora.rank_pattern.q_proj: expected a whole number from 1, got 2.5"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "lora.alpha_pattern.q_proj: expected a number above 0, got nan"),
        ({"alpha_pattern": {"(": 1}}, "lora.alpha_pattern.(: is no regular expression: "),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = pissa_niter_4 changes the base weights"),
        ({"r": None}, "expected a PEFT configuration of a LoRA adapter: no 'r'"),
        ({"r": 0}, "lora.rank: expected a whole number from 1, got 0"),
        (
            {"lora_alpha": -1, "lora_dropout": 2},
            "lora.alpha: expected a number above 0, got -1.0; lora.dropout: expected a rate",
        ),
    ],
)
def test_configs_that_cannot_be_used(backbone, tmp_path, change, message):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    config = json.loads(file.read_text()) | change
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ModelError) as error:
        read_config(tmp_path)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "\udc80"], ids=["missing", "empty", "cut off", "list", "no text"]
)
def test_broken_config(backbone, tmp_path, content):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        ModelError, match=r"adapter_config.json: expected a PEFT configuration of a LoRA adapter: "
    ) as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_defaults_of_peft_are_no_fault(backbone, tmp_path):
    """PEFT writes every field it has; unset ones must not count."""
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    unset = {
        **dict.fromkeys(CHANGING),
        "rank_pattern": {},
        "modules_to_save": None,
        "lora_bias": False,
        "use_qalora": False,
        "qalora_group_size": 16,
    }
    file.write_text(
        json.dumps(json.loads(file.read_text()) | unset | {"init_lora_weights": True, "target_modules": "all-linear"})
    )
    assert set(read_config(tmp_path).targets) == set(SHAPES)


@pytest.mark.parametrize("name", CHANGING)
def test_fields_that_change_the_numbers_are_refused_by_name(backbone, tmp_path, name):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: [[0, 1]]}))
    with pytest.raises(ModelError, match=rf"; {name} cannot be used: .*merge_and_unload\(\)"):
        read_config(tmp_path)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "loftq", "corda", "lora_ga"])
def test_first_values_that_change_the_base_are_refused(backbone, tmp_path, start):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": start}))
    with pytest.raises(ModelError, match=f"init_lora_weights = {start} changes the base weights"):
        read_config(tmp_path)


def test_fields_of_a_later_peft_are_a_notice(backbone, tmp_path, caplog):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    read_config(tmp_path)
    assert not caplog.records
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_novelty": True, "use_nothing": None}))
    read_config(tmp_path)
    assert "the fields use_novelty are not known here and are ignored" in caplog.text


PATTERNS = {"rank_pattern": {"layers.0.self_attn.q_proj": 5, "fc1": 1}, "alpha_pattern": {"down_proj": 9.0, "fc1": 4.0}}


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}])
def test_single_modules_have_ranks_and_alphas_of_their_own(backbone, tmp_path, options):
    lora = make_lora(backbone, 1, **PATTERNS, **options)
    ranks = {path: weights["a"].shape[1] for path, weights in lora.table.items()}
    assert ranks == dict(zip(SHAPES, (5, 3, 5, 1, 3), strict=True))
    save_adapter(lora, tmp_path / "adapter.safetensors", "tiny")
    read = read_config(tmp_path)
    again = LoraWeights(read, read_spec(backbone), model_variables(backbone))
    load_adapter(again, tmp_path / "adapter.safetensors")
    assert bytes_of(again) == bytes_of(lora)
    for path, rank in ranks.items():
        alpha = {"down_proj": 9.0, "fc1": 4.0}.get(path.rsplit(".", 1)[-1], 5.0)
        scale = alpha / (rank**0.5 if options.get("rslora") else rank)
        assert again.scales[path] == pytest.approx(scale)
        adapter = again.adapter()
        assert adapter.scales.get(path, adapter.scale) == pytest.approx(scale)


def test_a_rank_that_is_not_the_files_is_said(backbone, tmp_path):
    save_adapter(make_lora(backbone), tmp_path / "adapter.safetensors", "tiny")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rank_pattern": {"q_proj": 4}}))
    with pytest.raises(
        ModelError, match=r"q_proj.lora_A.weight has shape \(3, 48\), expected \(4, ...\) as adapter_con"
    ):
        read_config(tmp_path)


def test_patterns_speak_of_modules_as_the_file_spells_them(backbone, tmp_path):
    """Those of a version that put "vision_model" into the path do not match today's."""
    lora = make_lora(backbone, 1, rank_pattern={"model.vision_tower.encoder.layers.0.mlp.fc1": 1})
    file = tmp_path / "adapter_model.safetensors"
    save_adapter(lora, file, "tiny")

    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace("vision_tower.", "vision_tower.vision_model.")] = tensors.pop(name)

    rewrite(file, rename)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["rank_pattern"] = {"vision_model.encoder.layers.0.mlp.fc1": 1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    other = LoraWeights(read_config(tmp_path), read_spec(backbone), model_variables(backbone))
    load_adapter(other, file)
    assert bytes_of(other) == bytes_of(lora)


def test_foreign_tensors_are_refused(backbone, tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    save_adapter(make_lora(backbone), file, "tiny")
    rewrite(file, put("base_model.model.model.embed_tokens.lora_embedding_A", (3, 9)))
    with pytest.raises(ModelError, match="lora_embedding_A is no part of a LoRA adapter on linear modules"):
        read_config(tmp_path)


def test_failing_save_leaves_the_old_files(backbone, tmp_path, monkeypatch):
    import safetensors.numpy

    file = tmp_path / "adapter.safetensors"
    save_adapter(make_lora(backbone, 1), file, "old")
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def half(tensors, name, metadata=None):
        save_file(dict(list(tensors.items())[:3]), name, metadata)
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", half)
    with pytest.raises(OSError, match="no space left"):
        save_adapter(make_lora(backbone, 2), file, "new")
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
