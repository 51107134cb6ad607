import unicodedata

import pytest
from PIL import Image, ImageChops

from mmtune.data.read import read
from mmtune.errors import RecipeError
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Output, Prediction, Query, Record
from mmtune.registry import task_class
from mmtune.tasks.ocr import OCR, OCROptions

SYRIAC = "ܠܐ ܡܕܡ"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def record(*texts, **more):
    return Record("r", texts=texts, **more)


def text_of(target):
    return "".join(span.text for span in target)


def targets(*texts, **options):
    task = OCR(options=OCROptions(**options))
    (query,) = task.queries(record(*texts))
    return [text_of(target) for target in task.targets(record(*texts), query)]


def test_registered():
    assert task_class("ocr") is OCR
    assert OCR.headline in OCR().metric().compute()
    assert OCR.falling == ("CER", "WER")


@pytest.mark.parametrize(
    ("options", "prefix", "prompt"),
    [
        pytest.param({}, None, "ocr", id="plain"),
        pytest.param({}, " \n", "ocr", id="empty prefix"),
        pytest.param({}, "ocr\n", "ocr", id="PaliGemma's prefix"),
        pytest.param({}, "what is the total?", "what is the total?", id="a question"),
        pytest.param({"prompt": "read"}, None, "read", id="option"),
    ],
)
def test_query(options, prefix, prompt):
    assert list(OCR(options=OCROptions(**options)).queries(record("a", prefix=prefix))) == [Query(prompt)]


@pytest.mark.parametrize(
    ("texts", "options", "expected"),
    [
        pytest.param(("STOP",), {}, ["STOP"], id="word"),
        pytest.param(("e\u0301 x\u0303",), {}, ["\u00e9 x\u0303"], id="composed"),
        pytest.param((unicodedata.normalize("NFD", "Ah hodi; Ly9ẽ\n"),), {}, ["Ah hodi; Ly9ẽ"], id="newline dropped"),
        pytest.param((SYRIAC,), {}, [SYRIAC], id="right to left in logical order"),
        pytest.param(("TOTAL  9\r\nCASH",), {}, ["TOTAL  9\nCASH"], id="lines"),
        pytest.param(("TOTAL  9\r\nCASH",), {"white_space": "collapse"}, ["TOTAL 9 CASH"], id="one line"),
        pytest.param(("ÄB",), {"lower_case": True}, ["äb"], id="lower case"),
        pytest.param(("a", "b", "a\n"), {}, ["a", "b"], id="versions"),
        pytest.param(("a", "b", "a"), {"several": "lines"}, ["a\nb\na"], id="several lines"),
        pytest.param(("",), {}, [""], id="nothing to read"),
    ],
)
def test_targets(texts, options, expected):
    assert targets(*texts, **options) == expected


@pytest.mark.parametrize("text", ["a\nb", SYRIAC, "x\u0303 ẽ 日本", '20" 1.6KG', "tab\there", "a  b"])
def test_targets_survive_the_vocabulary(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(targets(text)[0])) == text


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        pytest.param((), {}, "found none", id="no text"),
        pytest.param(("a\ud800",), {}, "surrogate", id="surrogate"),
        pytest.param(("abc",), {"max_length": 2}, "has 3 characters, options.max_length is 2", id="too long"),
    ],
)
def test_check_refuses(texts, options, words):
    problems = OCR(options=OCROptions(**options)).check(record(*texts))
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize("texts", [("a",), ("",), ("a", "")], ids=str)
def test_check_accepts(texts):
    assert list(OCR(options=OCROptions(max_length=1)).check(record(*texts))) == []


@pytest.mark.parametrize(
    ("text", "found", "invalid"),
    [
        pytest.param("STOP", "STOP", 0, id="word"),
        pytest.param(" e\u0301\nb \n", "é\nb", 0, id="composed, ends cut"),
        pytest.param("", "", 0, id="nothing read"),
        pytest.param("a\ufffd", "a\ufffd", 1, id="broken character"),
        pytest.param("<loc0001> a", "<loc0001> a", 1, id="a place"),
        pytest.param("a <b> <loc1>", "a <b> <loc1>", 0, id="angle brackets"),
        pytest.param("\ud800", "\ud800", 0, id="surrogate"),
    ],
)
def test_parse(text, found, invalid):
    output = Output(text, tuple(text), tuple(-1.0 for _ in text))
    parsed = OCR().parse(record("x"), [(Query("ocr"), output)])
    assert (parsed.record, parsed.prompt, parsed.text, parsed.invalid) == ("r", "ocr", found, invalid)
    assert "".join(token for token, _ in parsed.tokens) == text
    assert OCR().parse(record("x"), []).text == ""


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        pytest.param({}, 0, id="case"),
        pytest.param({"case_sensitive": False}, 1, id="any case"),
        pytest.param({"lower_case": True}, 1, id="lower case"),
    ],
)
def test_case_in_scores(options, scores):
    metric = OCR(options=OCROptions(**options)).metric()
    metric.update(record("Exit"), Prediction("r", "", "EXIT"))
    assert metric.compute()["exact_match"] == scores


def test_a_target_read_back_is_right_whatever_the_options():
    for options in ({}, {"lower_case": True}, {"white_space": "collapse"}, {"several": "lines"}):
        task = OCR(options=OCROptions(**options))
        one = record("E\u0301a\r\n  b ", "c\n")
        (query,) = task.queries(one)
        metric = task.metric()
        metric.update(one, task.parse(one, [(query, Output(text_of(task.targets(one, query)[0])))]))
        assert metric.compute()["CER"] == 0, options


def test_budgets(tokenizer):
    task = OCR()
    known = [record("STOP"), record("a much longer line of text\nand another one", "short")]
    bound = task.max_tokens(known, tokenizer)
    longest = max(len(tokenizer.encode(text)) for one in known for text in one.texts) + 1
    assert bound % 16 == 0
    assert longest <= bound < longest + 16
    (query,) = task.queries(known[1])
    assert task.target_bound(known[1], query, tokenizer) == longest
    assert task.target_bound(record(""), query, tokenizer) == 1
    assert task.max_tokens([record("")], tokenizer) == 16
    for unknown in ([], [record()], [record("a"), record()]):
        assert task.max_tokens(unknown, tokenizer) == 64
    assert task.max_tokens([record("word " * 200), record()], tokenizer) > 64
    assert task.max_tokens([record("a\ud800")], tokenizer) == 16


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"white_space": "trim"}, "white_space"),
        ({"several": "all"}, "several"),
        ({"prompt": " "}, "prompt"),
        ({"max_length": -1}, "max_length"),
    ],
    ids=str,
)
def test_wrong_options(options, key):
    with pytest.raises(RecipeError, match=f"options.{key}: expected"):
        OCROptions(**options)


def test_wrong_options_are_told_together():
    with pytest.raises(RecipeError) as caught:
        OCROptions(white_space="", several="")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("text", ["STOP\nhere", SYRIAC, ""], ids=["lines", "syriac", "nothing"])
def test_draw_keeps_the_picture_and_adds_text(text):
    image = Image.new("RGB", (200, 50), "pink")
    drawn = OCR().draw(image, Prediction("r", "ocr", text))
    assert drawn.height > image.height
    assert ImageChops.difference(drawn.crop((0, 0, 200, 50)), image).getbbox() is None
    below = drawn.crop((0, 50, 200, drawn.height)).convert("L")
    assert (below.getextrema()[0] < 100) == bool(text)


def test_generated_scenes_have_words_to_read():
    task = OCR()
    data = read("shapes?n=5", task="ocr")
    assert len(data) == 5
    assert all(task.check(one) == [] and all(one.texts) for one in data)
