"""What a run records of its base: the same for one model in every file form and precision, another for any other."""

import json
import logging

import gguf
import numpy as np
import pytest
from backbones import make, randomise
from commands import run
from small_adapters import randomise as random_adapter
from test_gguf import write as write_gguf
from vocabularies import chat_tokenizer, with_pieces

import mmtune
from mmtune.errors import ModelError, UsageError
from mmtune.model import Model
from mmtune.models.fingerprint import FILE, differences, read_fingerprint
from mmtune.models.gguf_files import GgufFile
from mmtune.models.hf_export import write_checkpoint
from mmtune.models.hf_load import load_checkpoint, load_gguf
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.lora_config import LoRA
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables

PACKED = gguf.GGMLQuantizationType
SIZES = {"vocabulary_size": 2176, "num_layers": 2}


def model_of(backbone, **options):
    return Model(backbone, tiny_tokenizer(), name="made", **options)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """One model of each family in many forms: {family: {form: model}}."""
    found = {}
    for family in ("paligemma2", "gemma2", "llama3"):
        # Widths that blocks of 32 divide, so that GGUF packs every matrix.
        sizes = {"hidden_dim": 64, "vocabulary_size": 600} if family == "gemma2" else SIZES
        backbone = make(family, **sizes)
        spec, variables = read_spec(backbone), model_variables(backbone)
        kinds = {"made": model_of(backbone)}
        for dtype in ("float32", "bfloat16", "float16"):
            folder = tmp_path_factory.mktemp(family)
            write_checkpoint(folder, spec, variables, dtype, largest=100_000)
            assert len(list(folder.glob("model-*.safetensors"))) > 1
            kinds[f"{dtype} shards"] = model_of(**load_checkpoint(folder, "float32")._asdict())
            if dtype == "float32":
                kinds["held in bfloat16"] = model_of(**load_checkpoint(folder, "bfloat16")._asdict())
                for scheme in ("int8", "int4"):
                    kinds[scheme] = model_of(**load_checkpoint(folder, "float32", scheme)._asdict())
        preset = tmp_path_factory.mktemp(family)
        backbone.save_to_preset(str(preset))
        kinds["preset"] = model_of(type(backbone).from_preset(str(preset)))
        if not family.startswith("pali"):
            for packed in (None, PACKED.F16, PACKED.Q8_0, PACKED.Q5_1, PACKED.Q4_1, PACKED.Q4_0):
                file = tmp_path_factory.mktemp(family) / "m.gguf"
                loaded, _ = load_gguf(write_gguf(file, family, backbone, packed=packed), "float32")
                name = "gguf" if packed is None else f"gguf {packed.name}"
                kinds[name] = model_of(**loaded._asdict(), bits=GgufFile(file).bits)
            kinds["gguf Q8_0, int4"] = model_of(**load_gguf(file, "float32", "int4")[0]._asdict(), bits=4.5)
        found[family] = {name: model.fingerprint() for name, model in kinds.items()}
    return found


@pytest.mark.parametrize("family", ["paligemma2", "gemma2", "llama3"])
def test_one_model_in_every_form_is_one_model(forms, family):
    for one, first in forms[family].items():
        for other, second in forms[family].items():
            assert differences(first, second) == [], (one, other)


@pytest.mark.parametrize("family", ["paligemma2", "gemma2", "llama3"])
def test_another_model_is_another_in_every_form(forms, family):
    sizes = {"hidden_dim": 64, "vocabulary_size": 600} if family == "gemma2" else SIZES
    other = model_of(randomise(make(family, **sizes), seed=1)).fingerprint()
    for form, found in forms[family].items():
        apart = differences(found, other)
        assert len(apart) == 1, form
        assert "sampled weights differ" in apart[0]
        assert differences(other, found), form


def nudged(path):
    def change(backbone):
        weight = next(variable for variable in backbone.weights if variable.path == path)
        weight.assign(np.asarray(weight) + 0.01 * np.asarray(weight).std())

    return change


def scaled(backbone):
    """As a fine-tune of it might be: every weight moved by one in a hundred of the typical weight."""
    for variable in backbone.weights:
        nudged(variable.path)(backbone)


def last_layer(backbone):
    nudged("transformer_layer_1/feedforward_output_dense/kernel")(backbone)


@pytest.mark.parametrize(("change", "least"), [(scaled, 40), (last_layer, 1)])
def test_a_fine_tune_of_the_base_is_another_model(change, least):
    was = model_of(make("llama3", **SIZES)).fingerprint()
    tuned = make("llama3", **SIZES)
    change(tuned)
    (said,) = differences(was, model_of(tuned).fingerprint())
    assert int(said.split(" of ")[0]) >= least


def test_quantized_weights_are_read_as_they_are_multiplied():
    """Every sample is an element of the matrix that the quantized weights mean."""
    from mmtune.models.hf_names import links
    from mmtune.models.quantized import wide_array

    for family in ("gemma2", "llama3"):
        wide = model_of(make(family, **SIZES))
        exact = wide.fingerprint()
        for scheme in ("int8", "int4"):
            model = model_of(make(family, **SIZES))
            model.quantize(scheme)
            found = model.fingerprint()
            held = {link.name.removesuffix(".weight"): link for link in links(model.spec, model.variables)}
            compared = 0
            for path, (values, errors) in found.weights.items():
                matrix = wide_array(held[path.removeprefix("model.")].leaf)
                for value, error, before in zip(values, errors, exact.weights[path][0], strict=True):
                    assert np.isclose(matrix, value, rtol=1e-6).any(), (path, value)
                    assert abs(value - before) <= error
                    compared += value != before
            assert compared > 20


def test_embeddings_may_have_rows_for_more_tokens():
    small, large = make("llama3", **SIZES), make("llama3", **SIZES | {"vocabulary_size": 2240})
    for one, other in zip(small.weights, large.weights, strict=True):
        more = [(0, to - size) for size, to in zip(one.shape, other.shape, strict=True)]
        other.assign(np.pad(np.asarray(one), more))
    assert differences(model_of(small).fingerprint(), model_of(large).fingerprint()) == []


def as_json(tokenizer, extra=(), **names):
    """The vocabulary of a SentencePiece model as tokenizer.json holds it."""
    pieces = tokenizer.pieces()
    from tokenizers import AddedToken, Tokenizer, decoders, models

    built = Tokenizer(models.BPE({piece: token for token, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    built.decoder = decoders.Replace("▁", " ")
    built.add_special_tokens([AddedToken(piece, special=True) for piece in extra])
    settings = {f"{name}_token": names.get(name, pieces[getattr(tokenizer, name)]) for name in ("bos", "eos", "pad")}
    return JsonTokenizer(built.to_str(), json.dumps(settings))


VOCABULARIES = {
    "the same file": (tiny_tokenizer(), True),
    "tokenizer.json": (as_json(tiny_tokenizer()), True),
    "with a token for images": (as_json(tiny_tokenizer(), ["<image>"]), True),
    "padded with the end": (as_json(tiny_tokenizer(), pad="</s>"), True),
    "another end": (as_json(tiny_tokenizer(), eos="<pad>"), False),
    "another word": (with_pieces(["hedgehog"]), False),
    "control tokens of chats": (chat_tokenizer("gemma"), True),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabularies(name):
    tokenizer, same = VOCABULARIES[name]
    backbone = make("llama3", **SIZES)
    apart = differences(model_of(backbone).fingerprint(), Model(backbone, tokenizer, name="other").fingerprint())
    assert (apart == []) == same
    if not same:
        assert all(line.startswith("tokenizer ") for line in apart)


def test_a_broken_file_is_said(tmp_path):
    (tmp_path / FILE).write_text('{"model": "tiny"}')
    with pytest.raises(ModelError, match=r"base.json: expected the fingerprint of a base model"):
        read_fingerprint(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ModelError, match=r"base.json"):
        read_fingerprint(tmp_path)
    assert read_fingerprint(tmp_path / "elsewhere") is None


def base_folder(folder, seed):
    """Writes a small language model in Hugging Face's form."""
    folder.mkdir()
    backbone = randomise(make("llama3", **SIZES), seed)
    write_checkpoint(folder, read_spec(backbone), model_variables(backbone), "float32")
    (folder / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    return str(folder)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two bases of one architecture, and what stands on the first: a run, and a PEFT adapter that was exported."""
    top = tmp_path_factory.mktemp("bases")
    right, wrong = base_folder(top / "right", 1), base_folder(top / "wrong", 2)
    data = top / "chat.jsonl"
    data.write_text('{"prompt": "a", "answer": "b"}\n' * 2)
    settings = {"steps": 1, "batch_size": 2, "verbose": False, "lora": LoRA(rank=2, targets=("q_proj",))}
    done = mmtune.train(right, task="instruct", data=str(data), out=top / "run", **settings)
    done.model.export(top / "peft", "peft")
    mmtune.train(right, task="instruct", data=str(data), out=top / "full", **settings | {"lora": None, "full": True})
    return top, right, wrong, data


def moved(places, name, tmp_path):
    """Copies a run or an adapter, which then names the wrong base."""
    import shutil

    top, right, wrong, _ = places
    folder = shutil.copytree(top / name, tmp_path / name)
    for file in ("recipe.toml", "adapter_config.json"):
        if (folder / file).is_file():
            text = (folder / file).read_text()
            (folder / file).write_text(text.replace(right, wrong))
    return folder


def answer(model):
    return model.generate(None, ["a star"], 6)


def test_a_run_records_what_it_was_trained_on(places):
    top, right, _, _ = places
    for name in ("run", "peft", "full"):
        assert read_fingerprint(top / name) == mmtune.load(right).fingerprint(), name


@pytest.mark.parametrize("name", ["run", "peft", "full"])
def test_another_base_is_refused_unless_it_is_forced(places, tmp_path, caplog, name):
    top, right, wrong, _ = places
    folder = moved(places, name, tmp_path)
    with pytest.raises(ModelError) as error:
        mmtune.load(folder)
    said = str(error.value)
    assert said.startswith(f"{folder} was trained on {right} (llama, 2 layers of width 64, ")
    assert f"this is another model: {wrong} (llama, 2 layers" in said
    assert "sampled weights differ" in said
    assert "base= (--base MODEL)" in said
    assert "force_base=True (--force-base)" in said
    with pytest.raises(ModelError, match="was trained on"):
        mmtune.load(top / name, base=wrong)
    assert answer(mmtune.load(folder, base=right)) == answer(mmtune.load(top / name))
    assert not caplog.records
    forced = mmtune.load(folder, force_base=True)
    assert "used all the same" in caplog.text
    if name != "full":
        assert answer(forced) != answer(mmtune.load(top / name))
        wide = np.asarray(mmtune.load(wrong).variables["text"]["layers"][0]["q_proj"])
        np.testing.assert_array_equal(np.asarray(forced.variables["text"]["layers"][0]["q_proj"]), wide)


def test_models_that_are_loaded_already_are_compared_too(places):
    top, right, wrong, _ = places
    bases = {right: mmtune.load(wrong)}
    with pytest.raises(ModelError, match="was trained on"):
        mmtune.load(top / "run", bases=bases)
    assert mmtune.load(top / "run", bases=bases, force_base=True).backbone is bases[right].backbone
    assert mmtune.load(top / "run", bases={"x": mmtune.load(right)}, base="x").lora is not None


def test_an_adapter_without_a_record_is_a_notice(places, tmp_path, caplog):
    folder = moved(places, "run", tmp_path)
    (folder / FILE).unlink()
    with caplog.at_level(logging.WARNING):
        mmtune.load(folder)
    assert "does not record a fingerprint of its base" in caplog.text
    assert str(places[2]) in caplog.text


@pytest.mark.parametrize("words", [["predict", "--task", "instruct", "--prompt", "a"], ["export", "OUT"], ["models"]])
def test_commands(places, tmp_path, capsys, words):
    _, right, _, _ = places
    folder = moved(places, "run", tmp_path)
    command, *rest = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    code, _, said = run(capsys, command, folder, *rest)
    assert (code, "was trained on" in said, "Traceback" in said) == (2, True, False)
    assert run(capsys, command, folder, *rest, "--base", right)[0] == 0
    if command != "export":
        assert run(capsys, command, folder, *rest, "--force-base")[0] == 0


def test_the_demo_puts_adapters_alone_on_the_base(places, tmp_path):
    from mmtune.demos.shelf import Shelf

    _, right, wrong, _ = places
    names = [str(moved(places, "run", tmp_path)), wrong]

    def first_of(shelf):
        return shelf.get("", shelf.names[0])

    with pytest.raises(ModelError, match="was trained on"):
        first_of(Shelf(names))
    shelf = Shelf(names, base=right)
    assert [shelf.get("", name).base for name in shelf.names] == [right, wrong]
    assert first_of(Shelf(names, force_base=True)).base == wrong


def test_training_and_scoring_commands(places, tmp_path, capsys):
    _, right, _, data = places
    folder = moved(places, "run", tmp_path)
    more = ["--task", "instruct", "--data", data]
    train = ["train", *more, "--model", folder, "--steps", "1", "--batch-size", "2", "--out"]
    code, _, said = run(capsys, *train, tmp_path / "a")
    assert (code, "was trained on" in said) == (2, True)
    assert run(capsys, *train, tmp_path / "a", "--base", right)[0] == 0
    again = mmtune.load(tmp_path / "a")  # the recipe has the base of its model
    assert (again.name, again.base) == (str(tmp_path / "a"), str(folder))
    assert run(capsys, "eval", folder, *more)[0] == 2
    assert run(capsys, "eval", folder, *more, "--base", right)[0] == 0


def test_a_run_goes_on_only_with_the_model_that_it_was_begun_on(places, tmp_path):
    _, _, wrong, data = places
    folder = moved(places, "run", tmp_path)
    with pytest.raises(ModelError, match="was trained on"):
        mmtune.train(wrong, task="instruct", data=str(data), out=folder, resume=True, verbose=False)


def test_a_model_of_its_own_takes_no_base(places):
    with pytest.raises(UsageError, match="a model of its own, neither a run nor an adapter"):
        mmtune.load(places[1], base="tiny")
    with pytest.raises(UsageError, match="tiny is a model of its own"):
        mmtune.load("tiny", base=places[1])


def test_a_run_on_a_run_is_exported_with_its_true_base(places, tmp_path):
    """Its adapter belongs on the first run, adapter included, not on what that one stood on."""
    top, _, _, data = places
    settings = {"steps": 1, "batch_size": 2, "verbose": False, "lora": LoRA(rank=2, targets=("v_proj",))}
    done = mmtune.train(str(top / "run"), task="instruct", data=str(data), out=tmp_path / "second", **settings)
    random_adapter(done.model.lora)
    for model in (done.model, mmtune.load(tmp_path / "second")):
        assert model.base == str(top / "run")
    assert read_fingerprint(tmp_path / "second").model == str(top / "run")
    done.model.export(tmp_path / "peft", "peft")
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        top / "run"
    )
    assert answer(mmtune.load(tmp_path / "peft")) == answer(done.model)


def test_weights_of_a_model_object_are_recorded_not_its_name(places, tmp_path):
    """A model that was changed by hand is no longer what its name says."""
    _, right, _, data = places
    model = mmtune.load(right)
    scaled(model.backbone)
    mmtune.train(model, task="instruct", data=str(data), out=tmp_path / "run", steps=1, batch_size=2, verbose=False)
    with pytest.raises(ModelError, match="sampled weights differ"):
        mmtune.load(tmp_path / "run")
