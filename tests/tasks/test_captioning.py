import numpy as np
import pytest
from PIL import Image

from mmtune.errors import RecipeError
from mmtune.metrics.caption import NAMES
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Output, Prediction, Query, Record
from mmtune.registry import task_class
from mmtune.settings import build
from mmtune.tasks.captioning import Captioning, CaptioningOptions

TEXTS = ("A dog.", "Two  dogs\nrun. ", "a red ring", "A dog.", "a bolt above a big blue ring in the sun")
TAUGHT = ("A dog.", "Two dogs run.", "a red ring", "a bolt above a big blue ring in the sun")
RECORD = Record("r", texts=TEXTS)
QUERY = Query("caption en")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def texts_of(targets):
    assert all(len(target) == 1 and target[0].weight == 1 for target in targets)
    return tuple(target[0].text for target in targets)


def captioning(**options):
    return Captioning(options=CaptioningOptions(**options))


def test_registered():
    assert task_class("captioning") is Captioning


@pytest.mark.parametrize(
    ("options", "prefix", "prompt"),
    [
        ({}, None, "caption en"),
        ({"prompt": "cap", "lang": "de"}, None, "cap de"),
        ({"prompt": "describe"}, None, "describe en"),
        ({"prompt": "cap"}, "caption es ", "caption es"),
        ({}, " ", "caption en"),
    ],
)
def test_queries(options, prefix, prompt):
    assert captioning(**options).queries(Record("r", prefix=prefix, texts=TEXTS)) == (Query(prompt),)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, TAUGHT, id="all, each once, as one line"),
        pytest.param({"references": 2}, TAUGHT[:2], id="the first two"),
        pytest.param({"references": 9}, TAUGHT, id="more than there are"),
        pytest.param({"lower_case": True}, tuple(text.lower() for text in TAUGHT), id="lower case"),
        pytest.param({"max_length": 10}, ("A dog.", "a red ring"), id="short ones"),
    ],
)
def test_targets(options, expected):
    assert texts_of(captioning(**options).targets(RECORD, QUERY)) == expected


def test_a_random_choice_shows_every_caption():
    task = captioning(references=2)
    rng = np.random.default_rng(0)
    drawn = [texts_of(task.targets(RECORD, QUERY, rng)) for _ in range(100)]
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert {text for pair in drawn for text in pair} == set(TAUGHT)
    assert texts_of(captioning().targets(RECORD, QUERY, rng)) == TAUGHT


@pytest.mark.parametrize(
    ("texts", "options", "problem"),
    [
        ((), {}, "expected a caption, found none"),
        (("", " \n"), {}, "expected a caption, found empty ones"),
        (("abcdef",), {"max_length": 5}, "every caption has more than 5 characters"),
        (("\ud800",), {}, "half of a surrogate pair"),
    ],
)
def test_check_refuses(texts, options, problem):
    task, record = captioning(**options), Record("r", texts=texts)
    (found,) = task.check(record)
    assert problem in found
    with pytest.raises(ValueError, match="record r has no caption"):
        task.targets(record, QUERY)


def test_check_accepts():
    assert captioning().check(RECORD) == ()
    assert captioning(max_length=6).check(Record("r", texts=("", "A dog.", "much too long"))) == ()


@pytest.mark.parametrize(
    ("text", "expected", "invalid"),
    [
        (" A dog \n runs. ", "A dog runs.", 0),
        ("", "", 0),
        ("a <loc0001> dog", "a <loc0001> dog", 1),
        ("a \ufffd", "a \ufffd", 1),
        ("<seg001>", "<seg001>", 1),
        ("\ud800", "\ud800", 0),
    ],
)
def test_parse(text, expected, invalid):
    found = captioning().parse(RECORD, [(QUERY, Output(text, (text,), (-0.5,)))])
    assert found == Prediction("r", "caption en", expected, tokens=((text, -0.5),), invalid=invalid)


def test_metric():
    task = captioning(lower_case=True)
    metric = task.metric()
    metric.update(RECORD, Prediction("r", "", "a DOG."))
    scores = metric.compute()
    assert tuple(scores) == NAMES
    assert task.headline in scores
    assert scores["exact_match"] == 1
    assert scores["BLEU1"] == pytest.approx(1)


def test_answers_are_free_text(tokenizer):
    assert captioning().grammar(QUERY, tokenizer) is None
    assert captioning().as_json(Prediction("r", "", "a")) == {}


@pytest.mark.parametrize("options", [{}, {"references": 1}, {"lower_case": True}, {"max_length": 12}])
def test_max_tokens_holds_every_target(tokenizer, options):
    task = captioning(**options)
    taught = texts_of(captioning(**{**options, "references": "all"}).targets(RECORD, QUERY))
    lengths = [len(tokenizer.encode(text)) + 1 for text in taught]
    assert task.target_bound(RECORD, QUERY, tokenizer) == max(lengths)
    bound = task.max_tokens([RECORD], tokenizer)
    assert bound % 16 == 0
    assert max(lengths) <= bound < max(lengths) + 16


def test_there_is_room_for_captions_that_nobody_knows(tokenizer):
    assert captioning().max_tokens([Record("r")], tokenizer) == 64
    assert captioning().max_tokens([], tokenizer) == 64
    assert captioning().max_tokens([RECORD, Record("s")], tokenizer) == 64


def test_the_caption_stands_beneath_the_picture():
    image = Image.new("RGB", (200, 100), "red")
    drawn = captioning().draw(image, Prediction("r", "", "A dog."))
    assert drawn.width == 200
    assert drawn.height > 110
    assert drawn.crop((0, 0, 200, 100)).tobytes() == image.tobytes()


@pytest.mark.parametrize("references", ["all", 3])
def test_options_come_from_recipes(references):
    assert build(CaptioningOptions, {"references": references}, "options.").references == references


def test_wrong_options_are_reported_together():
    with pytest.raises(RecipeError) as error:
        CaptioningOptions(prompt="caps", lang="en us", references=0, max_length=-1)
    assert error.value.problems == (
        "options.prompt: expected one of cap, caption, describe, got 'caps'",
        "options.lang: expected the code of a language such as en, got 'en us'",
        "options.references: expected all, or a number from 1, got 0",
        "options.max_length: expected 0 or more, got -1",
    )
    with pytest.raises(RecipeError, match=r"options.references: expected all, or a number from 1, got 'some'"):
        CaptioningOptions(references="some")
