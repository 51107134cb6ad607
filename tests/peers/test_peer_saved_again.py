"""An export of the embedded model, loaded and saved by transformers: model and processor come back and answer alike."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from mmtune.codecs.boxes import NOISE_LABEL
from mmtune.codecs.grammar import object_grammar
from mmtune.data.scene_drawing import draw_scene
from mmtune.data.scenes import make_scene
from mmtune.models.load import load

pytestmark = pytest.mark.peers

PROMPTS = ("detect circle ; square", "segment star", "how many shapes are there?", "caption en", "ocr")
BOX = "<loc0010><loc0020><loc0500><loc0600>"
TEXTS = (
    *PROMPTS,
    f"{BOX} red circle ; {BOX}<seg001><seg127> don't",
    f"{BOX} {NOISE_LABEL}",
    "déjà vu 日本語\n 🐈  x",
    "<mask>",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The embedded model; and what transformers made of its export."""
    out, again = (tmp_path_factory.mktemp("saved") / name for name in ("out", "again"))
    model = load("tiny")
    model.export(out)
    transformers.AutoProcessor.from_pretrained(out).save_pretrained(again)
    transformers.AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32).save_pretrained(again)
    return model, again


def test_it_is_saved_in_the_form_of_transformers(models):
    """What is special about it: a vocabulary in another form with more tokens, and no bos before texts."""
    model, again = models
    assert not (again / "tokenizer.model").exists()
    added = json.loads((again / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert {"<image>", "<loc0000>"} <= {token["content"] for token in added}
    assert max(token["id"] for token in added) >= model.spec.text.vocabulary_size
    assert transformers.AutoTokenizer.from_pretrained(again)("cat").input_ids[0] != model.tokenizer.bos


def test_its_texts_have_the_same_ids(models):
    model, again = models
    theirs = load(again).tokenizer
    ours = model.tokenizer
    assert [theirs.bos, theirs.eos, theirs.pad, theirs.loc, theirs.seg] == [
        ours.bos,
        ours.eos,
        ours.pad,
        ours.loc,
        ours.seg,
    ]
    assert theirs.vocabulary_size == ours.vocabulary_size
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text), text
        assert theirs.prompt(text) == ours.prompt(text), text


def test_its_answers_are_equal(models):
    model, again = models
    theirs = load(again)
    pictures = [draw_scene(make_scene(0, index, 120)) for index in range(20)]
    prompts = [PROMPTS[index % len(PROMPTS)] for index in range(20)]
    found, wanted = (one.generate(pictures, prompts, max_tokens=40) for one in (theirs, model))
    assert [answer.tokens for answer in found] == [answer.tokens for answer in wanted]
    assert len({answer.text for answer in wanted}) > 10
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
    grammars = [object_grammar(one.tokenizer, ["circle", "square"]) for one in (theirs, model)]
    boxed = [
        one.generate(pictures[:4], [PROMPTS[0]] * 4, max_tokens=64, grammars=[grammar] * 4)
        for one, grammar in zip((theirs, model), grammars, strict=True)
    ]
    assert [answer.tokens for answer in boxed[0]] == [answer.tokens for answer in boxed[1]]
    assert any(answer.text.count(";") for answer in boxed[1])
