"""Rows that are given to further requests, against one batch of all; that equals each alone, by test_generate.py."""

import functools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.codecs.choices import choice_grammar
from mmtune.decoding import continuous
from mmtune.decoding import generate as module
from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.sampling import Sampler
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables, values

PAD, EOS = 0, 1
MOST = 21  # tokens of an answer: slots of the new tokens are 32, so that the loop goes around them


class Letters:
    """A vocabulary of single characters."""

    pad, eos, vocabulary_size = PAD, EOS, 200

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(chr(token) for token in ids)


@functools.cache
def model(family="paligemma2"):
    """A thirteenth of the vocabulary ends an answer, so that lengths differ widely."""
    backbone = make(family)
    stops = tuple(range(2, 256, 13))
    return Weights(values(model_variables(backbone)), read_spec(backbone), NO_ADAPTER, jnp.float32, EOS, PAD, stops)


def requests(count=40, pictures=40, seed=3):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (28, 28, 3), np.uint8) for _ in range(pictures)]
    return [
        Request(rng.integers(2, 256, rng.integers(1, 16)).tolist(), images[row * pictures // count], row=row)
        for row in range(count)
    ]


def together(weights, asked, **how):
    return generate(weights, asked, max_tokens=MOST, batch_size=len(asked), **how)


def same(found, expected):
    assert [answer.ids for answer in found] == [answer.ids for answer in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "sampler"),
    [
        ("paligemma2", Sampler()),
        ("gemma2", Sampler()),
        ("llama3", Sampler()),
        ("paligemma2", Sampler(temperature=1.0, seed=5)),
    ],
)
def test_in_turn_as_together(family, sampler):
    weights, asked = model(family), requests()
    done = []
    found = generate(weights, asked, max_tokens=MOST, sampler=sampler, batch_size=4, on_done=done.append)
    expected = together(weights, asked, sampler=sampler)
    same(found, expected)
    assert done == list(range(1, 41))
    lengths = {len(answer.ids) for answer in expected}
    assert len(lengths) > 6
    assert MOST in lengths


def test_fewer_steps_than_batches_take(monkeypatch):
    """The turns of the loop, against the longest answer of each batch of requests in their order."""
    weights, asked = model(), requests()
    turns = []
    go_on = continuous.go_on
    monkeypatch.setattr(continuous, "go_on", lambda *given, **more: turns.append(go_on(*given, **more)) or turns[-1])
    # The count is read before the state is used up by the next call.
    monkeypatch.setattr(
        continuous,
        "decoded",
        lambda written, read=continuous.decoded: counts.append(int(turns[-1].turn)) or read(written),
    )
    counts = []
    lengths = [len(answer.ids) for answer in generate(weights, asked, max_tokens=MOST, batch_size=8)]
    in_batches = sum(max(lengths[start : start + 8]) for start in range(0, len(lengths), 8))
    assert counts[-1] < 0.8 * in_batches
    assert counts[-1] >= sum(lengths) / 8


def test_a_picture_is_encoded_once(monkeypatch):
    weights, asked = model(), requests(count=40, pictures=3)
    encoded = []
    monkeypatch.setattr(
        continuous,
        "encoded",
        lambda weights, images, run=continuous.encoded: encoded.append(len(images)) or run(weights, images),
    )
    found = generate(weights, asked, max_tokens=MOST, batch_size=4)
    assert sum(encoded) == 3
    same(found, together(weights, asked))


def test_each_with_its_own_choices():
    rng = np.random.default_rng(7)
    sets = [["".join(rng.choice(list("abcdef"), rng.integers(1, 9))) for _ in range(5)] for _ in range(6)]
    grammars = [choice_grammar(Letters(), words) for words in sets]  # pyright: ignore[reportArgumentType]
    asked = [replace(one, grammar=grammars[one.row % 6]) for one in requests()]
    weights = replace(model(), stops=())
    found = generate(weights, asked, max_tokens=MOST, batch_size=8)
    same(found, together(weights, asked))
    for one, answer in zip(asked, found, strict=True):
        assert Letters().decode(answer.ids[:-1]) in sets[one.row % 6]


def test_beams_and_many_grammars_stay_in_batches(monkeypatch):
    monkeypatch.setattr(module, "Pool", None)
    grammars = [choice_grammar(Letters(), [letter]) for letter in "abcdefghijklmnopqrst"]  # pyright: ignore[reportArgumentType]
    asked = [replace(one, grammar=grammars[one.row % 20]) for one in requests()]
    weights = model()
    answers = generate(weights, asked, max_tokens=MOST, batch_size=8)
    assert [Letters().decode(answer.ids[:1]) for answer in answers] == [
        "abcdefghijklmnopqrst"[n % 20] for n in range(40)
    ]
    assert len(generate(weights, requests(10), max_tokens=3, batch_size=2, sampler=Sampler(beams=2))) == 10
