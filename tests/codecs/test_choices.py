import itertools

import pytest

from mmtune.codecs.choices import choice_grammar
from mmtune.errors import DataError, UsageError
from mmtune.models.tiny import tiny_tokenizer

CHOICES = ("red", "red circle", "blue", "12", "¿qué?")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def ids(tokenizer, text):
    return [*tokenizer.encode(text), tokenizer.eos]


def sentences(automaton, tokenizer, budget):
    """Every sequence that decoding within the budget may write, found by following what is allowed."""
    found, open_ = [], [((), automaton.start)]
    while open_:
        written, state = open_.pop()
        for token in automaton.allowed(state, budget - len(written)).nonzero()[0].tolist():
            following = (*written, token)
            if token == tokenizer.eos:
                found.append(following)
            elif token != tokenizer.pad:
                open_.append((following, automaton.advance(state, token)))
    return found


def test_exactly_the_choices_can_be_written(tokenizer):
    automaton = choice_grammar(tokenizer, CHOICES)
    wanted = {choice: ids(tokenizer, choice) for choice in CHOICES}
    assert all(automaton.accepts(sequence) for sequence in wanted.values())
    assert automaton.accepts([*wanted["blue"], tokenizer.pad, tokenizer.pad])
    assert sorted(sentences(automaton, tokenizer, 40)) == sorted(tuple(sequence) for sequence in wanted.values())
    for text in ("", "circle", "red ", "red circle red", "reds", "blue12"):
        assert not automaton.accepts(ids(tokenizer, text))
    assert not automaton.accepts(tokenizer.encode("red"))
    assert not automaton.accepts([*wanted["blue"], *wanted["blue"]])


def test_the_end_stays_within_reach(tokenizer):
    automaton = choice_grammar(tokenizer, CHOICES)
    lengths = {choice: len(ids(tokenizer, choice)) for choice in CHOICES}
    assert automaton.distance[automaton.start] == min(lengths.values())
    for budget in range(1, max(lengths.values()) + 2):
        written = {tokenizer.decode(list(sequence[:-1])) for sequence in sentences(automaton, tokenizer, budget)}
        assert written == {choice for choice, length in lengths.items() if length <= budget}


@pytest.mark.parametrize("choices", [("blue",), ("blue", "blue"), ("b", "bl", "blu")])
def test_single_repeated_and_nested_choices(tokenizer, choices):
    automaton = choice_grammar(tokenizer, choices)
    wanted = {tuple(ids(tokenizer, choice)) for choice in choices}
    assert sorted(sentences(automaton, tokenizer, 20)) == sorted(wanted)


def test_random_texts_agree_with_a_plain_comparison(tokenizer):
    choices = ("a b", "a", "b a", "ab")
    automaton = choice_grammar(tokenizer, choices)
    for length in range(5):
        for chars in itertools.product("ab ", repeat=length):
            text = "".join(chars)
            assert automaton.accepts(ids(tokenizer, text)) == (text in choices)


@pytest.mark.parametrize(
    ("choices", "error", "words"),
    [
        pytest.param((), UsageError, "at least one choice", id="none"),
        pytest.param(("a", ""), DataError, "choice '' cannot be written", id="empty"),
    ],
)
def test_refused(tokenizer, choices, error, words):
    with pytest.raises(error, match=words):
        choice_grammar(tokenizer, choices)
