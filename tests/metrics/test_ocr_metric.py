import random

import pytest

from mmtune.metrics.anls import anls
from mmtune.metrics.error_rates import Errors, cer, wer
from mmtune.metrics.ocr import NAMES, OCRMetric, right_texts, text_scores
from mmtune.records import Prediction, Record


def record(*texts, key="r"):
    return Record(key, texts=texts)


def scored(metric, *pairs):
    for number, (found, *texts) in enumerate(pairs):
        metric.update(record(*texts, key=str(number)), Prediction(str(number), "ocr", found))
    return metric.compute()


PAIRS = [("STOP", "STOP"), ("exit", "Exit"), ("", ""), ("x", ""), ("", "GO"), ("to tal 9", "total 9.90"), ("a", "zzzz")]


def test_the_numbers_of_a_corpus():
    found, right = zip(*PAIRS, strict=True)
    expected = {
        "CER": cer(found, right),
        "WER": wer(found, right),
        "exact_match": 2 / 7,
        "ANLS": sum(anls(one, [other]) for one, other in PAIRS) / 7,
    }
    metric = OCRMetric()
    assert scored(metric, *PAIRS) == pytest.approx(expected)
    assert tuple(metric.compute()) == NAMES
    assert metric.count == 7
    # By hand: 0 + 1 + 0 + 1 + 2 + 4 + 4 edits over 4 + 4 + 0 + 0 + 2 + 10 + 4 characters.
    assert metric.compute()["CER"] == 12 / 24


def test_an_empty_state_gives_zeros():
    assert OCRMetric().compute() == dict.fromkeys(NAMES, 0.0)


def test_records_without_truth_do_not_count():
    metric = OCRMetric()
    assert scored(metric, ("anything",)) == dict.fromkeys(NAMES, 0.0)
    assert metric.count == 0
    assert metric.scores(record(), Prediction("r", "", "x")) is None


@pytest.mark.parametrize("cut", [0, 3, 7])
def test_merging_changes_nothing(cut):
    pairs = PAIRS[:]
    random.Random(cut).shuffle(pairs)
    one, other, whole = OCRMetric(), OCRMetric(), OCRMetric()
    scored(one, *pairs[:cut])
    scored(other, *pairs[cut:])
    one.merge(other)
    assert one.compute() == pytest.approx(scored(whole, *pairs))
    assert one.count == whole.count


@pytest.mark.parametrize(
    ("options", "found", "right", "exact", "characters"),
    [
        pytest.param({}, "ab", "a b", False, Errors(1, 3), id="spaces count"),
        pytest.param({}, "a\nb", "a b", False, Errors(1, 3), id="ends of lines count"),
        pytest.param({"white_space": "collapse"}, "a\n  b", "a b", True, Errors(0, 3), id="collapsed"),
        pytest.param({}, "AB", "ab", False, Errors(2, 2), id="case counts"),
        pytest.param({"lower_case": True}, "AB", "ab", True, Errors(0, 2), id="lower case"),
        pytest.param({}, "e\u0301\n", "é", True, Errors(0, 1), id="decomposed"),
    ],
)
def test_what_is_compared(options, found, right, exact, characters):
    scores = text_scores(found, [right], **options)
    assert (scores.exact, scores.characters) == (exact, characters)
    metric = OCRMetric(**options)
    assert scored(metric, (found, right))["CER"] == characters.rate


def test_the_nearest_of_several_references_counts():
    scores = text_scores("total 9.90", ["9.90", "total 9,90", "x"])
    assert scores.characters == Errors(1, 10)
    assert scores.words == Errors(1, 2)
    assert not scores.exact
    assert scores.anls == pytest.approx(0.9)
    # By rate, not by number of edits: 2 of 20 before 1 of 2.
    long = "abcdefghijklmnopqrst"
    assert text_scores(long[:-2], ["x", long]).characters == Errors(2, 20)
    assert text_scores("b", ["a", "b"]).exact


def test_several_texts_as_lines():
    assert right_texts(record("a", "b"), "lines") == ("a\nb",)
    assert right_texts(record("a", "b")) == ("a", "b")
    assert right_texts(record(), "lines") == ()
    assert scored(OCRMetric(several="lines"), ("a\nb", "a", "b"))["exact_match"] == 1


def test_figures_of_one_record():
    scores = OCRMetric().scores(record("Abstand"), Prediction("r", "", "Sand"))
    assert scores is not None
    assert scores.as_json() == {
        "CER": 4 / 7,
        "WER": 1.0,
        "exact_match": 0.0,
        "ANLS": pytest.approx(4 / 7),
    }  # ANLS is lower-cased


def test_scores_need_a_reference():
    with pytest.raises(ValueError, match="at least one reference"):
        text_scores("a", [])
