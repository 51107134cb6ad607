"""How a checkpoint wants pictures prepared reaches the pixels: of decoding, of evaluation, of training."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make
from PIL import Image

import mmtune
from mmtune.data.augment import Augment
from mmtune.data.dataset import FaultLog
from mmtune.data.images import FilePicture, open_small
from mmtune.data.pixels import to_square
from mmtune.errors import RecipeError
from mmtune.model import Model
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.vision import encode_images
from mmtune.models.weights import model_variables, values
from mmtune.recipe import Pictures, Recipe
from mmtune.records import Record
from mmtune.registry import task_class
from mmtune.training.examples import RowMaker, list_examples

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)


def test_colours_are_normalised_by_mean_and_deviation():
    backbone = make("paligemma")
    vision = read_spec(backbone).vision
    assert vision is not None
    odd = replace(vision, mean=(0.4, 0.5, 0.6), std=(0.25, 0.5, 0.2))
    weights = values(model_variables(backbone))["vision"]
    images = np.random.default_rng(1).integers(0, 256, (2, vision.image_size, vision.image_size, 3), np.uint8)
    by_hand = (images / 255 - np.array(odd.mean)) / np.array(odd.std)
    expected = np.asarray(encode_images(weights, vision, jnp.asarray(by_hand, jnp.float32)))
    np.testing.assert_allclose(encode_images(weights, odd, jnp.asarray(images)), expected, atol=1e-4)
    assert np.abs(encode_images(weights, vision, jnp.asarray(images)) - expected).max() > 0.01


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_pictures_are_resampled_as_the_checkpoint_says(tmp_path, resample):
    backbone = make("paligemma", vocabulary_size=tiny_tokenizer().vocabulary_size)
    spec = read_spec(backbone)
    assert spec.vision is not None
    spec = replace(spec, vision=replace(spec.vision, resample=resample))
    model = Model(backbone, tiny_tokenizer(), name="small", spec=spec)
    side = spec.vision.image_size
    expected = np.asarray(Image.fromarray(PIXELS).resize((side, side), getattr(Image.Resampling, resample.upper())))
    np.testing.assert_array_equal(model.pixels(PIXELS), expected)
    task = task_class("captioning")()
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    record = Record("r", picture=FilePicture(tmp_path / "a.png"), size=(40, 50), texts=("a cat",))
    examples = list_examples([record], task, model.tokenizer, FaultLog())
    rows = RowMaker(examples, task, model.tokenizer, side, Augment(), seed=0, resample=resample)
    np.testing.assert_array_equal(rows(0, 0).image, expected)


def test_a_recipe_goes_before_the_checkpoint_and_stays_with_the_run(tmp_path):
    given = {"resample": "bicubic", "mean": (0.4, 0.5, 0.6)}
    done = mmtune.train(
        "tiny",
        task="captioning",
        data="shapes:train?n=2",
        out=tmp_path / "run",
        steps=1,
        pictures=given,
        verbose=False,
    )
    side = done.model.spec.vision.image_size
    bicubic = np.asarray(Image.fromarray(PIXELS).resize((side, side), Image.Resampling.BICUBIC))
    for model in (done.model, mmtune.load(tmp_path / "run")):
        assert model.spec.vision == replace(mmtune.load("tiny").spec.vision, **given)
        np.testing.assert_array_equal(model.pixels(PIXELS), bicubic)


def test_odd_settings_are_refused():
    for given, words in (({"std": (0.5, 0.0, 0.5)}, "pictures.std"), ({"mean": (0.5, 2, 0)}, "pictures.mean")):
        with pytest.raises(RecipeError, match=words):
            Recipe(task="captioning", data="shapes", pictures=Pictures(**given))
    with pytest.raises(RecipeError, match="text alone"):
        Pictures(resample="bicubic").applied(read_spec(make("gemma")))


def test_drafts_are_small_upright_and_nearly_the_whole_picture(tmp_path):
    y, x = np.mgrid[0:1200, 0:1600]
    waves = np.stack([128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), (x + y) % 256], -1).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter
    Image.fromarray(waves).save(tmp_path / "a.jpg", quality=95, exif=turned)
    picture = FilePicture(tmp_path / "a.jpg")
    assert picture.open().size == (1200, 1600)
    assert open_small(picture, 224).size == (300, 400)
    assert open_small(picture, 301).size == (600, 800)
    whole, draft = (to_square(picture, 224, draft=draft).astype(int) for draft in (False, True))
    assert 0 < np.abs(whole - draft).mean() < 2
    np.testing.assert_array_equal(to_square(tmp_path / "a.jpg", 224, draft=True), draft)
    Image.fromarray(waves).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        to_square(tmp_path / "a.png", 224), to_square(FilePicture(tmp_path / "a.png"), 224, draft=True)
    )


def test_drafts_reach_training_and_answers(tmp_path):
    Image.fromarray(np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))).save(tmp_path / "a.jpg")
    picture = FilePicture(tmp_path / "a.jpg")
    record = Record("r", picture, size=(640, 800), texts=("a cat",))
    model = mmtune.load("tiny")
    model.spec = Pictures(draft=True).applied(model.spec)
    side = model.image_size
    expected = to_square(picture, side, draft=True)
    assert (expected != to_square(picture, side)).any()
    np.testing.assert_array_equal(model.pixels(picture), expected)
    task = task_class("captioning")()
    examples = list_examples([record], task, model.tokenizer, FaultLog())
    rows = RowMaker(examples, task, model.tokenizer, side, Augment(), seed=0, draft=True)
    np.testing.assert_array_equal(rows(0, 0).image, expected)
    whole = RowMaker(examples, task, model.tokenizer, side, Augment(flip=1.0), seed=0, draft=True)
    np.testing.assert_array_equal(whole(0, 0).image, to_square(picture.open().transpose(0), side))
