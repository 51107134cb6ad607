"""Training models that are passed loaded: in any precision, in few bits, with adapters, altered by hand."""

import json
from dataclasses import replace

import keras
import ml_dtypes
import numpy as np
import pytest
from backbones import make
from commands import run as command
from safetensors.numpy import load_file

import mmtune
from mmtune import api
from mmtune.demos.shelf import Shelf
from mmtune.errors import MmtuneError, RecipeError, UsageError
from mmtune.files import save_tensors
from mmtune.model import Model
from mmtune.models.peft_files import save_adapter
from mmtune.models.tiny import tiny_tokenizer
from mmtune.recipe import Dense, Recipe, read_recipe
from mmtune.training.model import Trainer
from mmtune.training.optimizer import make_optimizer

pytestmark = pytest.mark.usefixtures("quick_compiles")

PICTURE = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
ADAPTER = {"lora": mmtune.LoRA(rank=2, vision=True), "optimizer": {"learning_rate": 5e-2}}
FULL = {"full": True, "optimizer": {"learning_rate": 1e-5}}  # the default of any model but the smallest


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Hugging Face folder, whose weights are loaded in any dtype."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    Model(
        make("paligemma", vocabulary_size=2176, num_layers=1, vit_num_layers=1), tiny_tokenizer(), name="small"
    ).export(folder)
    return folder


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:train?n=4&max_objects=1", task="detection")


def train(model, out, data, **settings):
    settings = {"steps": 3, "batch_size": 2, "buckets": 1, "verbose": False, "task": "detection", **settings}
    return mmtune.train(model, data=data, out=out, **settings)


def told(model):
    return np.array(model.score([PICTURE], ["detect star"], ["<loc0001><loc0002><loc0003><loc0004> star"])[0].logprobs)


def numbers(model):
    return np.concatenate([np.asarray(variable, np.float32).ravel() for variable in model.backbone.weights])


def test_weights_in_bfloat16_train_in_full_as_those_in_float32(tmp_path, checkpoint, scenes):
    """All numbers move, nearly as those of a model that was in float32 from the beginning."""
    model = mmtune.load(checkpoint, precision="bfloat16")
    before = numbers(model)
    done = train(model, tmp_path / "narrow", scenes, **FULL)
    assert done.model is model
    assert model.precision == "bfloat16"
    assert {str(variable.dtype) for variable in model.backbone.weights} == {"float32"}
    moved = numbers(model) - before
    assert np.mean(moved != 0) > 0.97
    wide = mmtune.load(checkpoint)
    start = numbers(wide)
    train(wide, tmp_path / "wide", scenes, **FULL)
    assert np.corrcoef(moved, numbers(wide) - start)[0, 1] > 0.8
    np.testing.assert_allclose(np.linalg.norm(moved), np.linalg.norm(numbers(wide) - start), rtol=0.1)


def test_the_same_values_train_the_same_whatever_they_were_held_in(tmp_path, checkpoint, scenes):
    narrow, wide = mmtune.load(checkpoint, precision="bfloat16"), mmtune.load(checkpoint)
    for variable in wide.backbone.weights:
        variable.assign(np.asarray(variable).astype(ml_dtypes.bfloat16).astype(np.float32))
    for name, model in (("narrow", narrow), ("wide", wide)):
        train(model, tmp_path / name, scenes, precision="float32", **FULL)
    np.testing.assert_array_equal(numbers(narrow), numbers(wide))


OBJECTS = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16 weights": {"weights": "bfloat16"},
    "int8": {"quantize": "int8", "precision": "bfloat16"},
    "int4": {"quantize": "int4"},
}


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        *((given, ADAPTER) for given in OBJECTS.values()),
        ({"precision": "bfloat16"}, FULL),
        ({"precision": "bfloat16"}, FULL | {"freeze_vision": True}),
    ],
    ids=[*OBJECTS, "in full", "in full, its tower frozen"],
)
def test_a_run_loads_as_the_model_that_it_left(tmp_path, checkpoint, scenes, given, settings):
    model = mmtune.load(checkpoint, **given)
    before = told(model)
    done = train(model, tmp_path / "run", scenes, **settings)
    assert model.precision == given.get("precision", "float32")
    assert model.quantized == given.get("quantize")
    again = mmtune.load(tmp_path / "run")
    assert (again.precision, again.quantized, again.dtype) == (model.precision, model.quantized, model.dtype)
    np.testing.assert_array_equal(told(again), told(done.model))
    if not settings.get("full"):
        assert np.abs(told(again) - before).max() > 1e-2


@pytest.mark.parametrize("given", [{"precision": "bfloat16"}, {"quantize": "int4"}], ids=["bfloat16", "int4"])
def test_a_run_on_a_run_loads_as_the_model_that_it_left(tmp_path, checkpoint, scenes, given):
    train(mmtune.load(checkpoint, **given), tmp_path / "first", scenes, steps=1, **ADAPTER)
    again = mmtune.load(tmp_path / "first")
    second = train(again, tmp_path / "second", scenes, steps=1, **ADAPTER)
    np.testing.assert_array_equal(told(mmtune.load(tmp_path / "second")), told(second.model))


def test_precision_can_be_chosen_for_a_loaded_model(tmp_path, checkpoint, scenes):
    model = mmtune.load(checkpoint)
    train(model, tmp_path / "run", scenes, precision="bfloat16", **ADAPTER)
    again = mmtune.load(tmp_path / "run")
    for one in (model, again):
        assert (one.precision, one.dtype) == ("bfloat16", "float32")
    np.testing.assert_array_equal(told(again), told(model))
    assert mmtune.load(tmp_path / "run", precision="float32").precision == "float32"


def test_a_run_that_fails_leaves_precision_and_pictures_as_they_were(tmp_path, checkpoint, scenes):
    model = mmtune.load(checkpoint)
    spec = model.spec
    broken = {"learning_rate": 1e30, "clip": 0.0, "warmup": 0.0, "schedule": "constant"}
    more = {"precision": "bfloat16", "pictures": {"resample": "bicubic"}, "optimizer": broken, "steps": 6}
    with pytest.raises(MmtuneError, match="became"):
        train(model, tmp_path / "run", scenes, log_every=1, **more)
    assert (model.precision, model.spec, model.altered) == ("float32", spec, "")


def test_weights_in_few_bits_do_not_train_in_full(tmp_path, checkpoint, scenes, capsys):
    """As an object, an exported folder, a run and on the command line; nothing is written."""
    mmtune.load(checkpoint).export(tmp_path / "packed", "int4")
    packed = mmtune.load(tmp_path / "packed")
    train(mmtune.load(checkpoint, quantize="int8"), tmp_path / "adapter", scenes, steps=1, **ADAPTER)
    for model, scheme in ((packed, "int4"), (str(tmp_path / "packed"), "int4"), (str(tmp_path / "adapter"), "int8")):
        with pytest.raises(RecipeError, match=f"are in {scheme}, which cannot be trained: leave out full"):
            train(model, tmp_path / "run", scenes, **FULL)
    words = ["train", "--task", "detection", "--data", "shapes:train?n=4", "--full", "--out", tmp_path / "run"]
    code, _, err = command(capsys, *words, "--model", tmp_path / "packed")
    assert code == 2
    assert "are in int4, which cannot be trained" in err
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_on_other_weights(tmp_path, checkpoint, scenes):
    settings = {"save_every": 1, **ADAPTER}
    train(mmtune.load(checkpoint), tmp_path / "wide", scenes, **settings)
    train(mmtune.load(checkpoint, quantize="int8"), tmp_path / "packed", scenes, **settings)
    for folder, given, words in (
        ("wide", {"precision": "bfloat16"}, "weights: the run is of weights in float32, the given model has bfloat16"),
        ("wide", {"quantize": "int8"}, "quantize: the run is of weights that are not quantised, .* has int8"),
        ("packed", {"quantize": "int4"}, "quantize: the run is of weights in int8, the given model has int4"),
    ):
        with pytest.raises(RecipeError, match=words):
            train(mmtune.load(checkpoint, **given), tmp_path / folder, scenes, resume=True, **settings)
    resumed = train(mmtune.load(checkpoint), tmp_path / "packed", scenes, resume=True, **settings)
    assert resumed.model.quantized == "int8"


def in_bfloat16(folder, checkpoint):
    """Returns the folder of an adapter that lies on the disk in bfloat16."""
    lora = mmtune.load(checkpoint).add_lora(ADAPTER["lora"])
    file = folder / "adapter_model.safetensors"
    save_adapter(lora, file, str(checkpoint))
    save_tensors({name: array.astype(ml_dtypes.bfloat16) for name, array in load_file(file).items()}, file)
    return folder


@pytest.mark.parametrize("kind", ["full", "frozen tower", "fresh adapter", "loaded adapter", "dense head"])
def test_what_trains_is_float32_and_so_is_its_optimizer(tmp_path, checkpoint, kind):
    """Whatever the model was loaded in, and whatever Keras makes variables in."""
    model = mmtune.load(checkpoint, precision="bfloat16")
    recipe = Recipe(task="detection", data="x", precision="bfloat16", full=kind != "fresh adapter")
    if kind == "frozen tower":
        recipe = replace(recipe, freeze_vision=True)
    if kind == "dense head":
        recipe = replace(recipe, dense=Dense(weight=1.0))
    if kind == "loaded adapter":
        model = mmtune.load(in_bfloat16(tmp_path, checkpoint), precision="bfloat16")
        recipe = replace(recipe, full=False)
        assert model.dtype == "bfloat16"
    elif recipe.full:
        model.cast("float32")
    else:
        model.add_lora(recipe.lora)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        trainer = Trainer(model, recipe, 3 if recipe.dense.on else 0)
        optimizer = make_optimizer(replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=1e-3)), 4)
        optimizer.build(trainer.trainable_variables)
    finally:
        keras.config.set_dtype_policy(policy)
    assert trainer.trainable_variables
    dtypes = {str(variable.dtype) for variable in (*trainer.trainable_variables, *optimizer.variables)}
    assert dtypes - {"int32"} == {"float32"}


def with_values(model):
    for weights in model.add_lora(mmtune.LoRA(rank=2)).table.values():
        weights["b"].assign(np.full(weights["b"].shape, 0.1))


def with_pictures(model):
    model.spec = replace(model.spec, vision=replace(model.spec.vision, resample="bicubic"))


def with_caps(model):
    model.spec = replace(model.spec, text=replace(model.spec.text, final_softcap=3.0))


def baked_and_packed(model):
    with_values(model)
    model.known_as("elsewhere")
    model.bake()
    model.quantize("int8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_values, "values of its adapter were set by hand"),
        (lambda model: (with_values(model), model.bake()), "values of its adapter were set by hand"),
        (with_pictures, "its description"),
        (with_caps, "its description"),
        (lambda model: setattr(model, "tokenizer", tiny_tokenizer()), "its tokenizer was replaced"),
        (lambda model: (model.quantize("int8"), model.widen()), "quantised weights were made wide"),
        (lambda model: model.cast("bfloat16"), "cast from float32 to bfloat16"),
        (baked_and_packed, "baked into its weights before"),
    ],
    ids=["adapter", "baked", "pictures", "caps", "tokenizer", "wide", "cast", "baked and packed"],
)
def test_what_no_recipe_could_say_is_refused(tmp_path, checkpoint, scenes, change, words):
    """Else the run would load as another model."""
    model = mmtune.load(checkpoint)
    change(model)
    with pytest.raises(UsageError, match=rf"{words}.*load it anew, or write it by model.export"):
        train(model, tmp_path / "run", scenes, **ADAPTER)
    assert not (tmp_path / "run").exists()
    assert model.copy().altered == model.altered


def test_what_changes_nothing_is_no_change(tmp_path, checkpoint, scenes):
    model = mmtune.load(checkpoint)
    model.add_lora(mmtune.LoRA(rank=3))  # fresh
    for name in ("a", "b"):
        train(model, tmp_path / name, scenes, steps=1, **ADAPTER)
        assert read_recipe(tmp_path / name / "recipe.toml", {}, []).model == str(checkpoint)
        model.drop_lora()
        assert (model.name, model.altered) == (str(checkpoint), "")


def test_a_run_in_full_that_was_cut_is_not_taken_for_its_beginning(tmp_path, checkpoint, scenes):
    model = mmtune.load(checkpoint)
    broken = {"learning_rate": 1e30, "clip": 0.0, "warmup": 0.0, "schedule": "constant"}
    with pytest.raises(MmtuneError, match="became"):
        train(model, tmp_path / "run", scenes, steps=6, log_every=1, full=True, optimizer=broken)
    with pytest.raises(UsageError, match="a run that did not end changed its weights"):
        train(model, tmp_path / "other", scenes, **ADAPTER)


def test_an_adapter_names_the_weights_that_it_lies_on(tmp_path, checkpoint, scenes):
    model = mmtune.load(checkpoint)
    train(model, tmp_path / "full", scenes, steps=1, **FULL)
    train(model, tmp_path / "first", scenes, steps=1, **ADAPTER)
    train(model, tmp_path / "second", scenes, steps=1, **ADAPTER)
    for name, base in (("first", "full"), ("second", "first")):
        for one in (model, mmtune.load(tmp_path / "second")) if name == "second" else (mmtune.load(tmp_path / name),):
            folder = one.export(tmp_path / f"{name} {id(one)}", "peft")
            assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
                tmp_path / base
            )


def test_a_server_shares_the_weights_that_adapters_were_trained_on(tmp_path, checkpoint, scenes):
    for name, precision in (("a", "bfloat16"), ("b", "bfloat16"), ("c", "float32")):
        train(mmtune.load(checkpoint, precision=precision), tmp_path / name, scenes, steps=1, **ADAPTER)
    shelf = Shelf([str(tmp_path / name) for name in "abc"])
    a, b, c = (shelf.get("", name) for name in shelf.names)
    assert a.backbone is b.backbone
    assert a.backbone is not c.backbone
    for model in (a, b, c):
        np.testing.assert_array_equal(told(model), told(mmtune.load(model.name)))


def test_a_recipe_names_no_address_for_records_that_it_does_not_read(tmp_path, checkpoint, scenes, capsys):
    for name, data, stands in (
        ("whole", scenes[:], scenes.name),
        ("part", scenes[:3], f"records of {scenes.name}"),
        ("turned", scenes[::-1], f"records of {scenes.name}"),
        ("bare", list(scenes), "records"),
    ):
        assert api._address(data) == stands, name
    train(str(checkpoint), tmp_path / "run", scenes[:3], steps=2, save_every=1, **ADAPTER)
    code, _, err = command(capsys, "train", "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert f"records of {scenes.name}: the run was trained on records that were passed to mmtune.train" in err
