"""The Python interface on small models: shapes of answers, prompts, classes, errors."""

import json

import numpy as np
import pytest
from backbones import make
from PIL import Image

import mmtune
from mmtune.errors import DataError, UsageError
from mmtune.model import Model, Setup
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict, task_for
from mmtune.prediction_files import prediction_json
from mmtune.records import Query, Record


@pytest.fixture(scope="module")
def model():
    return Model(make("paligemma", vocabulary_size=2176), tiny_tokenizer(), name="small")


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:val?n=5&max_objects=2", task="detection")


def photo(width=64, height=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_every_way_to_give_a_picture_gives_the_same_answer(model, tmp_path):
    image = photo()
    image.save(tmp_path / "a.png")
    held = Record("a", picture=mmtune.data.images.FilePicture(tmp_path / "a.png")).picture
    ways = [image, np.asarray(image), tmp_path / "a.png", str(tmp_path / "a.png"), held]
    answers = [model.generate([way], ["detect circle"], max_tokens=6)[0] for way in ways]
    assert len({answer.text for answer in answers}) == 1
    assert len(set(answers)) == 1


def test_an_output_is_its_tokens(model):
    for answer in model.generate([photo(seed=s) for s in range(4)], ["ocr"] * 4, max_tokens=20):
        assert "".join(answer.tokens) == answer.text
        assert len(answer.tokens) == len(answer.logprobs)
        assert all(logprob <= 0 for logprob in answer.logprobs)


def test_generated_text_scores_as_it_was_generated(model):
    """Where tokenising the text gives the ids back, the scoring pass must agree with decoding."""
    (answer,) = model.score([photo()], ["detect circle"], ["<loc0001><loc0002><loc0003><loc0004> circle"])
    assert answer.text == "<loc0001><loc0002><loc0003><loc0004> circle"
    # Location tokens alone tokenise back to themselves, so decoding under a grammar of them can be compared.
    grammar = task_for(model, "detection", ("circle",)).grammar(Query("detect circle", ("circle",)), model.tokenizer)
    (written,) = model.generate([photo()], ["detect circle"], max_tokens=24, grammars=[grammar])
    (again,) = model.score([photo()], ["detect circle"], [written.text])
    assert again.tokens == written.tokens
    np.testing.assert_allclose(again.logprobs, written.logprobs, atol=1e-5)


def test_numbers_of_pictures_and_prompts_must_agree(model):
    with pytest.raises(UsageError, match="got 2 images and 3 prompts"):
        model.generate([photo(), photo()], ["a", "b", "c"])


def test_one_picture_for_several_prompts(model):
    image = photo()
    together = model.generate(image, ["detect circle", "ocr"], max_tokens=5)
    alone = [model.generate([image], [prompt], max_tokens=5)[0] for prompt in ("detect circle", "ocr")]
    assert [a.text for a in together] == [a.text for a in alone]


@pytest.mark.parametrize("family", ["gemma2", "llama3"])
def test_text_models_need_no_picture(family):
    model = Model(make(family, vocabulary_size=2176), tiny_tokenizer(), name=family)
    assert model.image_size is None
    one, two = model.generate(None, ["a red circle", "how many blue stars are there"], max_tokens=8)
    alone = model.generate(None, "a red circle", max_tokens=8)[0]
    assert one.text == alone.text
    assert one.text != two.text


def test_predict_answers_in_the_form_of_the_contract(model):
    answer = model.predict(photo(), task="detection", prompt="detect circle ; star")
    item = answer.as_json()
    assert set(item) == {"image", "task", "prompt", "text", "invalid", "boxes", "tokens"}
    assert (item["task"], item["prompt"], item["invalid"]) == ("detection", "detect circle ; star", 0)
    json.dumps(item)
    for box in item["boxes"]:
        assert box["label"] in ("circle", "star")
        assert 0 <= box["score"] <= 1
        x0, y0, x1, y1 = box["box"]
        assert 0 <= x0 <= x1 <= 64
        assert 0 <= y0 <= y1 <= 48
    assert answer.draw().size == (64, 48)


def test_a_model_is_asked_as_it_was_taught(model):
    model.setup = Setup("detection", ("star", "circle"), {"noise_boxes": 3})
    try:
        task = task_for(model, "detection", ("circle",))
        assert task.classes == ("star", "circle")
        assert task.options.noise_boxes == 3
        assert task_for(model, "detection", ("circle", "square")).classes == ("circle", "square")
        (answer,) = predict(model, [photo()], task="detection")
        assert answer.prediction.prompt == "detect star ; circle"
        assert len(answer.boxes) >= 3
    finally:
        model.setup = None


def test_evaluation_counts_and_names(model, scenes):
    found = mmtune.evaluate(model, task="detection", data=scenes, limit=3, verbose=False)
    assert found.as_json()["n"] == 3
    assert set(found.metrics) > {"AP", "AP50", "AR100", "per_class"}
    assert [p.record for p in found.predictions] == [record.id for record in scenes[:3]]
    task = task_for(model, "detection", scenes.classes)
    item = prediction_json(task, found.records[0], found.predictions[0])
    assert item["record"] == scenes[0].id


def test_bare_records_bring_their_classes(model, scenes):
    found = mmtune.evaluate(model, task="detection", data=list(scenes), verbose=False)
    assert set(found.metrics["per_class"]) == {box.label for record in scenes for box in record.boxes}
    assert found.predictions[0].prompt.startswith("detect ")


def test_scoring_needs_a_picture_too(model):
    with pytest.raises(UsageError, match="give it one"):
        model.score(None, ["ocr"], ["CAT"])


def test_merging_keeps_the_answers_and_undoing_the_bytes():
    model = Model(make("paligemma2", vocabulary_size=2176), tiny_tokenizer(), name="small")
    before = [np.asarray(variable).tobytes() for variable in model.backbone.weights]
    lora = model.add_lora(mmtune.LoRA(rank=4))
    rng = np.random.default_rng(0)
    for weights in lora.table.values():
        weights["b"].assign(rng.normal(0, 0.2, weights["b"].shape))
    apart = model.score([photo()], ["ocr"], ["CAT"])[0].logprobs
    model.merge()
    merged = model.score([photo()], ["ocr"], ["CAT"])[0].logprobs
    np.testing.assert_allclose(merged, apart, atol=1e-4)
    model.unmerge()
    assert [np.asarray(variable).tobytes() for variable in model.backbone.weights] == before
    assert model.score([photo()], ["ocr"], ["CAT"])[0].logprobs == apart


def test_unreadable_pictures_of_predict(model, tmp_path):
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(DataError, match=r"no\.png"):
        model.predict(tmp_path / "no.png", task="detection", prompt="detect circle")


def test_names_resolve_lazily():
    assert set(mmtune.__all__) <= set(dir(mmtune))
    for name in mmtune.__all__:
        assert getattr(mmtune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        _ = mmtune.trane
