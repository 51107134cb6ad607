"""Answers watched while they are written are the answers of `generate`, token by token."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.codecs.grammar import Automaton
from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.sampling import Sampler
from mmtune.decoding.stream import stream
from mmtune.errors import UsageError
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables, values

PAD, EOS = 0, 1


@functools.cache
def model(family="paligemma2", stops=()):
    backbone = make(family)
    return Weights(values(model_variables(backbone)), read_spec(backbone), NO_ADAPTER, jnp.float32, EOS, PAD, stops)


def pairs():
    """Two or four tokens, the ninth ending them."""
    token_class = np.zeros(256, np.int32)
    token_class[10:200], token_class[EOS] = 1, 2
    table = np.array([[-1, 1, -1], [-1, 2, -1], [-1, 3, 4], [-1, 2, -1], [-1, -1, -1]], np.int32)
    return Automaton(token_class, table, 0, np.array([3, 2, 1, 2, 0], np.int32))


def requests(count=11, grammar=None):
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (28, 28, 3), np.uint8) for _ in range(3)]
    return [
        Request(rng.integers(2, 256, rng.integers(1, 30)).tolist(), images[i % 3], grammar, row=i) for i in range(count)
    ]


def watched(asked, max_tokens, **settings):
    """Returns the last answer to each request, after checking that none ever took a token back."""
    last = {}
    for grown in stream(model(), asked, max_tokens=max_tokens, **settings):
        for place, answer in grown.items():
            before = last.get(place)
            assert before is None or answer.ids[: len(before.ids)] == before.ids
            last[place] = answer
    return [last[place] for place in range(len(asked))]


def assert_same(one, other):
    assert [answer.ids for answer in one] == [answer.ids for answer in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.mark.parametrize("every", [1, 5, 64])
def test_watching_changes_nothing(every):
    whole = generate(model(), requests(), max_tokens=13)
    assert_same(watched(requests(), [13] * 11, every=every), whole)
    assert len({answer.ids for answer in whole}) > 5


def test_nor_does_it_with_a_sampler():
    sampler = Sampler(temperature=1.0, seed=4)
    whole = generate(model(), requests(), max_tokens=9, sampler=sampler)
    assert_same(watched(requests(), [9] * 11, every=4, sampler=sampler), whole)


def test_nor_under_a_grammar():
    asked = requests(grammar=pairs())
    whole = generate(model(), asked, max_tokens=11)
    assert_same(watched(asked, [11] * 11, every=2), whole)
    assert {len(answer.ids) % 2 for answer in whole} == {1}


@pytest.mark.parametrize("grammar", [None, pairs()])
def test_each_request_has_a_limit_of_its_own(grammar):
    """In one batch, as each would be answered under its limit alone."""
    asked = requests(8, grammar)
    limits = [3, 5, 7, 13, 4, 9, 3, 20]
    alone = [generate(model(), [one], max_tokens=limit)[0] for one, limit in zip(asked, limits, strict=True)]
    assert_same(watched(asked, limits, every=6), alone)
    assert any(len(answer.ids) == limit for answer, limit in zip(alone, limits, strict=True))


def test_it_ends_when_all_have_ended():
    free = generate(model(), requests(), max_tokens=12)
    stops = tuple({answer.ids[2] for answer in free})
    looks = list(stream(model(stops=stops), requests(1), max_tokens=[200], every=3))
    assert len(looks) <= 3
    assert looks[-1][0].ids[-1] in (EOS, *stops)


def test_tokens_come_as_they_are_written():
    lengths = [len(grown[0].ids) for grown in stream(model(), requests(1), max_tokens=[10], every=4)]
    assert lengths[:2] == [4, 8]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampler": Sampler(beams=2)}, "beams"),
        ({"every": 0}, "every"),
        ({"max_tokens": [0]}, "max_tokens"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_watched_is_said(settings, said):
    with pytest.raises(UsageError, match=said):
        list(stream(model(), requests(1), **({"max_tokens": [4]} | settings)))


def test_an_answer_too_short_for_its_grammar_is_refused():
    with pytest.raises(UsageError, match="shortest allowed answer has 3"):
        list(stream(model(), requests(2, pairs()), max_tokens=[5, 2]))
