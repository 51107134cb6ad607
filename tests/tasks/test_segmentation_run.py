"""A run of segmentation from training to prediction: the codec travels with it."""

import json

import pytest
from mask_networks import NARROW, random_arrays

from mmtune.api import evaluate, load, read, train
from mmtune.codecs.mask_files import load_codec, save_codec
from mmtune.errors import ModelError
from mmtune.recipe import read_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = read("shapes?n=3&size=64&max_objects=1", task="segmentation")
    folder = tmp_path_factory.mktemp("runs") / "run"
    train("tiny", task="segmentation", data=data, steps=1, batch_size=2, out=folder, verbose=False)
    return folder, data


def test_the_run_records_its_codec_and_keeps_to_it(run, tmp_path):
    folder, data = run
    recipe = read_recipe(folder / "recipe.toml", {}, [])
    assert recipe.options["codec_id"] == f"small {load_codec().fingerprint}"
    model = load(folder)
    found = evaluate(model, task="segmentation", data=data[:1], options={"codec": "small"}, verbose=False)
    assert set(found.metrics) >= {"AP", "mIoU", "boxacc50", "boxacc75", "per_class"}
    save_codec(random_arrays(NARROW), tmp_path / "other.npz")
    with pytest.raises(ModelError, match="was taught the codes of the mask codec small"):
        evaluate(model, task="segmentation", data=data[:1], options={"codec": str(tmp_path / "other.npz")})


def test_prediction_is_drawn_and_written(run):
    folder, data = run
    answer = load(folder).predict(data[0].picture, task="segmentation", max_tokens=24)
    item = json.loads(json.dumps(answer.as_json()))
    assert item["prompt"].startswith("segment circle ; square")
    assert len(item["masks"]) == len(item["boxes"])
    assert len(item["masks"]) + item["invalid"] >= 1
    assert answer.draw().size == (64, 64)
