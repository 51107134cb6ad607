import unicodedata

import pytest

from mmtune.codecs.plain_text import plain_text


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        pytest.param("", {}, "", id="empty"),
        pytest.param("cafe\u0301", {}, "caf\u00e9", id="composed"),
        pytest.param("x\u0303", {}, "x\u0303", id="mark without a composed form"),
        pytest.param("\u212b", {}, "\u00c5", id="angstrom sign"),
        pytest.param("ﬁ½", {}, "ﬁ½", id="compatibility characters stay"),
        pytest.param("a\r\nb\rc\n", {}, "a\nb\nc", id="ends of lines"),
        pytest.param(" \t a  b \n\f", {}, "a  b", id="ends of the text"),
        pytest.param("a \n\n  b", {}, "a \n\n  b", id="white space kept"),
        pytest.param(" a \n\n\u00a0 b\t", {"white_space": "collapse"}, "a b", id="white space collapsed"),
        pytest.param("ÀB", {"lower_case": True}, "àb", id="lower case"),
        pytest.param("\u1e9e", {"lower_case": True}, "ß", id="capital sharp s"),
        pytest.param("T\u0308", {"lower_case": True}, "\u1e97", id="composed in lower case alone"),
        pytest.param("שלום abc", {}, "שלום abc", id="logical order"),
    ],
)
def test_plain_text(text, options, expected):
    assert plain_text(text, **options) == expected


@pytest.mark.parametrize("lower", [False, True])
def test_the_result_is_composed_and_stays_as_it_is(lower):
    for number in range(0x20, 0x3000):
        char = chr(number) + "\u0307"
        once = plain_text(char, lower_case=lower)
        assert unicodedata.is_normalized("NFC", once)
        assert plain_text(once, lower_case=lower) == once
