"""The tokenizer against tokens that the Java program gave (tests/golden/make_ptb_tokens.py); tests/peers has more."""
# ruff: noqa: RUF001 - quotes of all kinds

import json
from pathlib import Path

import pytest

from mmtune.metrics.ptb import PUNCTUATION, ptb_tokens, tokenize
from mmtune.metrics.ptb_chars import DIGIT, LETTER, MARK, NOTHING, SIGN, shape_of
from mmtune.metrics.ptb_rules import longest

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ptb_tokens.json").read_text())


@pytest.mark.parametrize(("caption", "tokens"), GOLDEN, ids=[f"{n} {row[0][:30]!a}" for n, row in enumerate(GOLDEN)])
def test_tokens_of_the_java_program(caption, tokens):
    assert list(tokenize([caption, "zz"])[0]) == tokens


def test_all_at_once_is_the_same():
    captions = [text for caption, _ in GOLDEN for text in (caption, "zz")]
    assert [list(tokens) for tokens in tokenize(captions)[::2]] == [tokens for _, tokens in GOLDEN]


@pytest.mark.parametrize("caption", [caption for caption, _ in GOLDEN[::7]], ids=ascii)
def test_the_quick_way_for_plain_words_changes_nothing(caption):
    text, start, slow = f"{caption}\nzz", 0, []
    while start < len(caption):
        end, rewrite = longest(shape_of(text), start)
        slow += [token.replace(" ", "\xa0").lower() for token in rewrite(text[start:end])]
        start = end
    assert [token for token in slow if token and token not in PUNCTUATION] == list(tokenize([caption, "zz"])[0])


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([""], [()], id="an empty one"),
        pytest.param(["", "a", ""], [(), ("a",), ()], id="empty ones around"),
        pytest.param(["  \t "], [()], id="white space"),
        pytest.param(["a\nb\rc\u2028d"], [("a", "b", "c", "d")], id="line ends within a caption"),
        pytest.param(["gate B.", "A man"], [("gate", "b"), ("a", "man")], id="a sentence begins behind the letter"),
        pytest.param(["gate B.", "a man"], [("gate", "b."), ("a", "man")], id="no sentence begins"),
        pytest.param(["room no.", "5 men"], [("room", "no."), ("5", "men")], id="a number behind the abbreviation"),
        pytest.param(["room no.", "a man"], [("room", "no"), ("a", "man")], id="no number"),
        pytest.param(["a dog's"], [("a", "dog", "'s")], id="the end of the file is the end of a word"),
        pytest.param(["\ud83d\ude00 \ud800 x"], [("x",)], id="half of a surrogate pair"),
    ],
)
def test_several_captions(captions, expected):
    assert tokenize(captions) == expected


def test_one_text():
    assert ptb_tokens("The dog's \u201cball\u201d.") == ("the", "dog", "'s", "ball")
    assert ptb_tokens("") == ()


def test_a_hard_space_joins_the_parts_of_one_token():
    assert ptb_tokens("1 1/2 cups") == ("1\xa01/2", "cups")


@pytest.mark.parametrize(
    ("char", "shape"),
    [
        ("a", "a"), ("é", LETTER), ("日", LETTER), ("\u0301", MARK), ("٣", DIGIT), ("☕", SIGN), ("😀", NOTHING),
        ("\u200b", NOTHING), ("\x01", NOTHING), ("&", "&"), ("’", "\u2019"), ("‛", "\u2018"), ("—", "\u2013"),
    ],
)  # fmt: skip
def test_shapes(char, shape):
    assert shape_of(char) == shape


def test_an_entity_of_html_is_one_shape_of_the_same_length():
    assert shape_of("caf&eacute;s") == f"caf{MARK * 8}s"
