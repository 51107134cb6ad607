"""Many questions at once, watched while they are answered: each gets the answer that it gets alone."""

import itertools

import numpy as np
import pytest
from backbones import make
from PIL import Image

from mmtune.errors import UsageError
from mmtune.model import Model
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.models.peft_files import save_adapter
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import predict
from mmtune.recipe import Recipe, write_recipe
from mmtune.streaming import ask, stream_answers

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def model():
    return Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")


def photo(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))


QUESTIONS = (
    {"image": photo(0), "task": "detection", "prompt": "detect circle ; star", "max_tokens": 13},
    {"image": photo(1), "task": "detection", "prompt": "detect square", "max_tokens": 20},
    {"image": photo(2), "task": "segmentation", "prompt": "segment circle", "max_tokens": 30},
    {"image": photo(2), "task": "detection", "prompt": "detect star", "max_tokens": 12, "options": {"views": 4}},
    {"image": photo(0), "task": "vqa", "prompt": "what colour is it?", "max_tokens": 5},
    {"image": photo(1), "task": "ocr", "max_tokens": 12},
    {"task": "instruct", "prompt": "the opposite of hot", "max_tokens": 7},
)


def alone(model, image=None, **question):
    return predict(model, [image], **question)[0]


def test_each_question_gets_its_own_answer(model):
    asked = [ask(model, **question) for question in QUESTIONS]
    last = {}
    for grown in stream_answers(model, asked, every=4):
        last.update(grown)
    for place, question in enumerate(QUESTIONS):
        wanted = alone(model, **question).as_json()
        given = last[place].answer.as_json()
        for one, other in zip(given.pop("tokens"), wanted.pop("tokens"), strict=True):
            assert one["text"] == other["text"]
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-5)
        for kind in ("boxes", "masks"):
            for one, other in zip(given.get(kind, ()), wanted.get(kind, ()), strict=True):
                assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
        assert given == wanted
        assert 0 < last[place].tokens <= question["max_tokens"] * len(asked[place].requests)


def test_answers_grow(model):
    asked = [ask(model, photo(3), task="captioning", max_tokens=12)]
    texts = [grown[0].answer.prediction.tokens for grown in stream_answers(model, asked, every=3)]
    assert len(texts) > 1
    assert all(len(early) < len(late) for early, late in itertools.pairwise(texts))


def test_a_models_stream_ends_as_generate_does(model):
    prompts, images = ["ocr", "caption en", "detect circle"], [photo(0), photo(1), photo(0)]
    whole = model.generate(images, prompts, max_tokens=10)
    *_, last = model.stream(images, prompts, max_tokens=10, every=4)
    assert [(answer.text, answer.tokens) for answer in last] == [(answer.text, answer.tokens) for answer in whole]
    for one, other in zip(last, whole, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"task": "vqa", "image": photo(0)}, "question"),
        ({"task": "ocr"}, "picture"),
        ({"task": "detection", "image": photo(0)}, "what to look for"),
        ({"task": "instruct", "image": photo(0), "prompt": "x"}, "text alone"),
        ({"task": "colouring", "image": photo(0)}, "unknown task"),
    ],
)
def test_what_cannot_be_asked_is_said(model, question, said):
    with pytest.raises(UsageError, match=said):
        ask(model, **question)


def test_adapters_of_one_base_share_its_weights(tmp_path):
    """Each answers as if it had been loaded alone, and the base as if there were none."""
    runs = []
    base = load("tiny")
    for seed in (1, 2):
        folder = tmp_path / f"run{seed}"
        recipe = Recipe(task="ocr", data="x", model="tiny", out=str(folder), lora=LoRA(rank=2), seed=seed)
        lora = base.add_lora(recipe.lora, seed)
        rng = np.random.default_rng(seed)
        for weights in lora.table.values():
            weights["b"].assign(rng.normal(0, 0.2, weights["b"].shape))
        write_recipe(recipe, folder / "recipe.toml")
        save_adapter(lora, folder / "adapter.safetensors", "tiny")
        runs.append(folder)
    base.drop_lora()
    before = base.generate([photo(0)], ["ocr"], max_tokens=6)
    shared = [load(run, bases={"tiny": base}) for run in runs]
    texts = set()
    for run, model in zip(runs, shared, strict=True):
        assert model.backbone is base.backbone
        assert model.setup is not None
        assert model.name == str(run)
        texts.add(model.generate([photo(0)], ["ocr"], max_tokens=6)[0].tokens)
        assert model.generate([photo(0)], ["ocr"], max_tokens=6) == load(run).generate(
            [photo(0)], ["ocr"], max_tokens=6
        )
    assert len(texts) == 2
    assert base.generate([photo(0)], ["ocr"], max_tokens=6) == before


def test_a_base_with_an_adapter_of_its_own_is_not_shared(tmp_path):
    base = load("tiny")
    lora = base.add_lora(LoRA(rank=2))
    recipe = Recipe(task="ocr", data="x", model="tiny", out=str(tmp_path), lora=LoRA(rank=2))
    write_recipe(recipe, tmp_path / "recipe.toml")
    save_adapter(lora, tmp_path / "adapter.safetensors", "tiny")
    assert load(tmp_path, bases={"tiny": base}).backbone is not base.backbone
