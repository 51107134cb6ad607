"""Grammars that share a batch, against each alone."""

import functools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.codecs.choices import choice_grammar
from mmtune.codecs.grammar import object_grammar
from mmtune.decoding import generate as module
from mmtune.decoding.constraint import allowed, on_device
from mmtune.decoding.generate import generate
from mmtune.decoding.joining import Rules, join
from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.sampling import Sampler
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import model_variables, values

PAD, EOS = 0, 1


class Letters:
    """A vocabulary of single characters."""

    pad, eos, vocabulary_size = PAD, EOS, 200

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(chr(i) for i in ids)


@functools.cache
def model():
    backbone = make("paligemma2")
    return Weights(values(model_variables(backbone)), read_spec(backbone), NO_ADAPTER, jnp.float32, EOS, PAD)


def questions(count=13, seed=3):
    """Questions that each have choices of their own, some with many and some with one, all about two pictures."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (28, 28, 3), np.uint8) for _ in range(2)]
    found = []
    for row in range(count):
        words = ["".join(rng.choice(list("abcdef"), rng.integers(1, 6))) for _ in range(rng.integers(1, 9))]
        grammar = choice_grammar(Letters(), words)  # pyright: ignore[reportArgumentType]
        prompt = rng.integers(2, 256, rng.integers(3, 15)).tolist()
        found.append((Request(prompt, images[row % 2], grammar, row), words))
    return [request for request, _ in found], [words for _, words in found]


@pytest.mark.parametrize(
    "sampler", [Sampler(), Sampler(beams=3), Sampler(temperature=1.5, seed=4)], ids=["greedy", "beams", "sampling"]
)
def test_together_as_alone(sampler, monkeypatch):
    requests, choices = questions()
    free = [replace(request, grammar=None) for request in requests[:3]]
    batches = []
    batch = module._batch
    monkeypatch.setattr(module, "_batch", lambda *given: batches.append(len(given[1])) or batch(*given))
    together = generate(model(), [*requests, *free], max_tokens=8, sampler=sampler)
    assert batches == [13, 3]
    alone = [generate(model(), [request], max_tokens=8, sampler=sampler)[0] for request in [*requests, *free]]
    for one, other in zip(together, alone, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
    written = [Letters().decode(answer.ids[:-1]) for answer in together[: len(choices)]]
    assert all(text in words for text, words in zip(written, choices, strict=True))
    assert len(set(written)) > 5


def test_a_beam_finds_the_likeliest_choice():
    """There are fewer choices than beams, and the answer with the highest score is known: score all of them."""
    from mmtune.decoding.score import score

    requests, choices = questions()
    answers = generate(model(), requests, max_tokens=8, sampler=Sampler(beams=10))
    for request, words, answer in zip(requests, choices, answers, strict=True):
        targets = [[*Letters().encode(word), EOS] for word in dict.fromkeys(words)]
        scores = [found.sum() for found in score(model(), [request] * len(targets), targets)]
        assert list(answer.ids) == targets[int(np.argmax(scores))]


def grammars():
    tokenizer = tiny_tokenizer()
    chosen = [choice_grammar(tokenizer, words) for words in (("red", "red circle"), ("two", "12"), ("blue",))]
    return [*chosen, object_grammar(tokenizer, ["cat", "red cat"]), object_grammar(tokenizer, ["dog"], segments=16)]


def test_each_state_allows_what_it_allowed_alone():
    automata = grammars()
    joined, starts = join(automata)
    assert len(joined.next_state) == sum(len(automaton.next_state) for automaton in automata)
    # As many classes as there are different columns of classes, the token that is never allowed included.
    assert joined.next_state.shape[1] == len({tuple(t) for t in zip(*(a.token_class for a in automata), strict=True)})
    device = on_device(joined, len(joined.token_class) + 5, tiny_tokenizer().eos)
    for automaton, start in zip(automata, starts, strict=True):
        first = start - automaton.start
        for state in range(len(automaton.next_state)):
            for remaining in (1, 2, 5, 40):
                expected = automaton.allowed(state, remaining)
                np.testing.assert_array_equal(joined.allowed(first + state, remaining), expected)
                ours = np.asarray(allowed(device, jnp.asarray([first + state]), jnp.int32(remaining)))[0]
                np.testing.assert_array_equal(ours, np.pad(expected, (0, 5)))
            for token in np.flatnonzero(automaton.allowed(state, 40))[::7].tolist():
                assert joined.advance(first + state, token) == first + automaton.advance(state, token)


def test_one_grammar_stays_as_it_is():
    for automaton in grammars():
        joined, (start,) = join([automaton])
        assert start == automaton.start
        np.testing.assert_array_equal(joined.next_state[:, joined.token_class],
                                      automaton.next_state[:, automaton.token_class])  # fmt: skip


def test_a_set_of_grammars_is_uploaded_once():
    one, two, *others = grammars()
    rules = Rules()
    size = tiny_tokenizer().vocabulary_size
    first = rules.constraint([one, two, one], size, EOS)
    again = rules.constraint([two, one, one, two], size, EOS)
    assert again.next_state is first.next_state
    assert again.token_class is first.token_class
    assert first.start[0] == first.start[2] == again.start[1]
    assert first.start[1] == again.start[0] != first.start[0]
    assert rules.constraint([one], size, EOS).next_state is not first.next_state
    for other in others:
        for number in range(1, 8):  # sets of more grammars than are kept
            rules.constraint([other, *[choice_grammar(tiny_tokenizer(), [str(number)])]], size, EOS)
    assert len(rules._known) == 16
    assert rules.constraint([one, two, one], size, EOS).next_state is not first.next_state


def test_batches_of_questions_share_their_shapes():
    """Compiled programs are as many as shapes: batches of sixteen like questions have one or two."""
    tokenizer = tiny_tokenizer()
    rng = np.random.default_rng(0)
    words = ["red", "blue", "a circle", "two stars", "left of it", "yes", "no", "CAT", "the green square", "12"]
    shapes = set()
    for _ in range(12):
        batch = [choice_grammar(tokenizer, rng.choice(words, 4, replace=False).tolist()) for _ in range(16)]
        shapes.add(Rules().constraint(batch, tokenizer.vocabulary_size, EOS).next_state.shape)
    assert len(shapes) <= 2
