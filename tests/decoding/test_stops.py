"""Answers end at any of their ends, and models that see answer without a picture as well."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make
from vocabularies import chat_tokenizer

from mmtune.data.batch import NO_PIXELS, Row, collate
from mmtune.decoding.generate import generate
from mmtune.decoding.outputs import as_output
from mmtune.decoding.requests import Decoded, Request, Weights
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.decoding.score import score
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.scorer import target_logits
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables, values

PAD, EOS = 0, 1
BUDGET = 12


def weights(family, stops=()):
    backbone = make(family)
    tree = values(model_variables(backbone))
    return Weights(tree, read_spec(backbone), NO_ADAPTER, jnp.float32, EOS, PAD, stops)


def requests(count=8, image=None):
    rng = np.random.default_rng(3)
    return [Request(rng.integers(2, 256, rng.integers(3, 9)).tolist(), image, row=i) for i in range(count)]


@pytest.mark.parametrize("family", ["gemma2", "llama3"])
def test_an_answer_ends_at_the_first_of_its_ends(family):
    free = generate(weights(family), requests(), max_tokens=BUDGET)
    stops = (free[0].ids[4], free[1].ids[6])
    ended = generate(weights(family, stops), requests(), max_tokens=BUDGET)
    for long, short in zip(free, ended, strict=True):
        met = [place for place, token in enumerate(long.ids) if token in (EOS, *stops)]
        length = met[0] + 1 if met else BUDGET
        assert short.ids == long.ids[:length]
    assert len({len(answer.ids) for answer in ended}) > 2


def test_a_beam_ends_there_too():
    (free,) = generate(weights("gemma2"), requests(1), max_tokens=BUDGET, sampler=Sampler(beams=2))
    stops = tuple(set(free.ids[3:]))
    (ended,) = generate(weights("gemma2", stops), requests(1), max_tokens=BUDGET, sampler=Sampler(beams=2))
    assert len(ended.ids) < BUDGET
    assert ended.ids[-1] in stops
    assert not set(ended.ids[:-1]) & set(stops)


def test_the_token_that_ended_an_answer_is_not_its_text():
    tokenizer = tiny_tokenizer()
    ids = tuple(tokenizer.encode("red circle"))
    logprobs = tuple(-float(place) for place in range(len(ids)))
    stop = tokenizer.find("<unused0>")
    for end in (tokenizer.eos, stop):
        output = as_output(Decoded((*ids, end), (*logprobs, -9.0)), tokenizer, (tokenizer.eos, stop))
        assert (output.text, output.logprobs) == ("red circle", logprobs)
    assert (
        as_output(Decoded((*ids, stop), (*logprobs, -9.0)), tokenizer, (tokenizer.eos,)).text == "red circle<unused0>"
    )
    assert as_output(Decoded((), ()), tokenizer, (1,)).text == ""


def renamed(model, one, other):
    """Returns the model with two tokens' rows of the vocabulary exchanged: it writes the one for the other."""
    table = model.backbone.token_embedding
    order = np.arange(model.tokenizer.vocabulary_size)
    order[[one, other]] = other, one
    table.embeddings.assign(np.asarray(table.embeddings)[order])
    if not table.tie_weights:
        table.reverse_embeddings.assign(np.asarray(table.reverse_embeddings)[:, order])
    return model


@pytest.mark.parametrize(
    ("family", "chat", "end"),
    [
        ("gemma2", "gemma", "<end_of_turn>"),
        ("llama3", "llama3", "<|eot_id|>"),
        ("llama3", "llama3", "<|end_of_text|>"),
        ("gemma2", "plain", None),
    ],
)
def test_plain_generation_ends_with_the_turn(family, chat, end):
    tokenizer = chat_tokenizer(chat)
    model = Model(make(family, vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="small")
    prompts = ["two red circles?", "what is it?"]
    free = generate(
        replace(model.weights(), stops=()),
        [Request(tokenizer.prompt(p), row=i) for i, p in enumerate(prompts)],
        max_tokens=BUDGET,
    )
    if end is None:
        assert model.weights().ends == (tokenizer.eos,)
        assert [output.text for output in model.generate(None, prompts, BUDGET)] == [
            tokenizer.decode(answer.ids) for answer in free
        ]
        return
    ids = free[0].ids
    place = next(place for place in range(2, BUDGET) if ids[place] not in (*ids[:place], *tokenizer.prompt(prompts[0])))
    (answer, _) = renamed(model, ids[place], tokenizer.find(end)).generate(None, prompts, BUDGET)
    assert answer.text == tokenizer.decode(ids[:place])
    assert len(answer.tokens) == place
    np.testing.assert_allclose(answer.logprobs, free[0].logprobs[:place], atol=1e-5)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_a_model_that_sees_answers_without_a_picture(family):
    """Decoding and scoring agree, and what they do is a prefix language model over the text alone."""
    model = weights(family)
    asked = requests(image=NO_PIXELS)
    answers = generate(model, asked, max_tokens=BUDGET)
    again = score(model, asked, [answer.ids for answer in answers])
    for answer, logprobs in zip(answers, again, strict=True):
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-5)

    rows = [
        Row(request.prompt, [answer.ids], [[1.0] * len(answer.ids)], NO_PIXELS)
        for request, answer in zip(asked, answers, strict=True)
    ]
    inputs, _ = collate(rows, model.spec.image_tokens)
    assert inputs["images"].shape == (len(rows), 0, 0, 3)
    assert inputs["positions"][0, 0] == 0
    predicted = target_logits(model.tree, model.spec, jax.tree.map(jnp.asarray, inputs))
    text_spec = replace(model.spec, vision=None)
    text_inputs, _ = collate([replace(row, image=None) for row in rows], 0)
    text_tree = {"text": model.tree["text"], "vision": None}
    expected = target_logits(text_tree, text_spec, jax.tree.map(jnp.asarray, text_inputs))
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_questions_with_and_without_pictures_in_one_call():
    model = weights("paligemma")
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    blind, seeing = requests(2, NO_PIXELS), requests(2, picture)
    mixed = generate(model, [blind[0], seeing[0], seeing[1], blind[1]], max_tokens=6, sampler=GREEDY)
    apart = generate(model, blind, max_tokens=6) + generate(model, seeing, max_tokens=6)
    assert [answer.ids for answer in mixed] == [apart[i].ids for i in (0, 2, 3, 1)]
    assert mixed[0].ids != mixed[1].ids
