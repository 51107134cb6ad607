import pytest
from PIL import ImageFont

from mmtune.reports import glyphs
from mmtune.reports.captioned import draw_text
from mmtune.reports.glyphs import shown, text_font


def test_plain_text_is_shown_in_the_font_that_comes_with_pillow():
    font = text_font("plain: text!", 20)
    assert font.getname() == ImageFont.load_default(20).getname()
    assert shown("plain: text!", font) == "plain: text!"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ab ܠܐ ܡ. 1", "ab [3 SYRIAC characters, no font]. 1", id="syriac"),
        pytest.param("日", "[1 CJK character, no font]", id="one"),
        pytest.param(
            "日 ܠ a ܠ ", "[2 CJK/SYRIAC characters, no font] a [1 SYRIAC character, no font] ", id="two scripts"
        ),
        pytest.param("", "", id="empty"),
        pytest.param(" \n", " \n", id="white space"),
    ],
)
def test_what_no_font_has_is_named(text, expected, monkeypatch):
    monkeypatch.setattr(glyphs, "_FONTS", ())
    assert shown(text, text_font(text, 20)) == expected


def test_a_font_of_the_system_is_taken_where_it_has_more(monkeypatch):
    monkeypatch.setattr(glyphs, "_system_font", lambda _name, _points: None)
    assert text_font("é", 20).getname() == ImageFont.load_default(20).getname()
    asked = []

    def found(name, points):
        asked.append(name)
        return ImageFont.load_default(points + 1)

    monkeypatch.setattr(glyphs, "_system_font", found)
    text_font("e", 20)
    assert asked == []
    text_font("é", 20)
    assert asked == list(glyphs._FONTS)


def test_without_raqm_right_to_left_text_is_named(monkeypatch):
    monkeypatch.setattr(glyphs, "_has_raqm", lambda: False)
    assert shown("ab עם", ImageFont.load_default(20)) == "ab [2 HEBREW characters, no font]"


def test_captions_name_what_they_cannot_show(monkeypatch):
    monkeypatch.setattr(glyphs, "_FONTS", ())
    from PIL import Image

    image = Image.new("RGB", (300, 40), "pink")
    same = draw_text(image, ["[2 SYRIAC characters, no font]"])
    assert draw_text(image, ["ܠܐ"]).tobytes() == same.tobytes()
