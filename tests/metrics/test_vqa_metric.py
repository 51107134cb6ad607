import random

import pytest
import vqa_rules
from vqa_cases import PICKED, picked_cases, random_cases

from mmtune.metrics.vqa import VQAMetric, answer_accuracy, most_common, plain_accuracy, right_answers, vqa_accuracy
from mmtune.metrics.vqa_normalise import normalised, spaced
from mmtune.records import Prediction, Question, Record


def test_the_contraction_tables_agree():
    """The tables were written apart; `vqa_rules` has the one of the official code, wrong form by wrong form."""
    for wrong, right in vqa_rules.CORRECTED.items():
        assert normalised(wrong) == right
    assert len(vqa_rules.CORRECTED) == 114


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("1,000", "1000", id="a comma in a number goes"),
        pytest.param("red-and-white 1,000", "redandwhite 1000", id="and takes all other marks along"),
        pytest.param("black,white", "black white", id="other commas become spaces"),
        pytest.param("black, white", "black white", id="unless a space is beside them"),
        pytest.param("x, y,z", "x yz", id="anywhere in the answer"),
        pytest.param("3.5", "3.5", id="the stop of a number stays"),
        pytest.param("5.", "5", id="a stop at the end goes"),
        pytest.param("no.5 st.", "no.5 st", id="a stop before a digit stays"),
        pytest.param("t-shirt", "t shirt", id="hyphen"),
        pytest.param("rock'n'roll", "rock'n'roll", id="apostrophes stay"),
        pytest.param("12:30", "12:30", id="colons stay"),
        pytest.param("The cat and A dog", "cat and dog", id="articles"),
        pytest.param("theater", "theater", id="articles are whole words"),
        pytest.param("None", "0", id="none is a number"),
        pytest.param("Ten of twenty", "10 of twenty", id="up to ten"),
        pytest.param("dont", "don't", id="contraction"),
        pytest.param("Im", "im", id="its capitals are not found"),
        pytest.param("somebody'd", "somebodyd", id="as the table has it"),
        pytest.param("?", "", id="nothing left"),
        pytest.param("", "", id="empty"),
    ],
)
def test_normalised(answer, expected):
    assert normalised(answer) == expected
    assert vqa_rules.normal_form(answer) == expected


@pytest.mark.parametrize("answer", PICKED)
def test_normalised_as_the_naive_rules(answer):
    assert normalised(spaced(answer)) == vqa_rules.normal_form(vqa_rules.clean(answer))


def test_accuracy_as_the_naive_rules():
    cases = [*picked_cases(), *random_cases(1000)]
    assert len(cases) > 1200
    scores = []
    for name, prediction, answers in cases:
        scores.append(vqa_accuracy(prediction, answers))
        assert scores[-1] == pytest.approx(vqa_rules.accuracy(prediction, answers), abs=1e-6), name
    assert 0.2 < sum(scores) / len(scores) < 0.9, "the cases say little"
    assert len({round(score, 3) for score in scores}) == 5


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        pytest.param("net", ["net"] * 6 + ["netting", "mesh", "pitcher", "orange"], 1.0, id="six of ten"),
        pytest.param("mesh", ["net"] * 9 + ["mesh"], 0.3, id="one: 9 x 1/3 of ten"),
        pytest.param("mesh", ["net"] * 8 + ["mesh"] * 2, 0.6, id="two: 8 x 2/3 and 2 x 1/3"),
        pytest.param("mesh", ["net"] * 7 + ["mesh"] * 3, 0.9, id="three: 7 x 1 and 3 x 2/3"),
        pytest.param("mesh", ["net"] * 6 + ["mesh"] * 4, 1.0, id="four"),
        pytest.param("Net.", ["net"] * 9 + ["mesh"], 1.0, id="normalised where answers differ"),
        pytest.param("Net.", ["net"] * 10, 0.0, id="not where they are the same"),
        pytest.param("two\nwords", ["two words"] * 10, 1.0, id="newlines are spaces before that"),
        pytest.param("two words", ["two\twords", *["two words"] * 9], 1.0, id="in the answers as well"),
        pytest.param("", ["net"] * 10, 0.0, id="empty prediction"),
        pytest.param("net", ["net"], 0.0, id="nobody is left to agree"),
        pytest.param("net", [], 0.0, id="no answers"),
    ],
)
def test_vqa_accuracy(prediction, answers, expected):
    assert vqa_accuracy(prediction, answers) == pytest.approx(expected)


# By hand, the rule of big_vision's transfers/vqa and of allenai/aokvqa: min(1, answers that equal the prediction / 3).
@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        *(pytest.param("mesh", ["mesh"] * n + ["net"] * (10 - n), min(1, n / 3), id=f"{n} of ten") for n in range(6)),
        pytest.param("a cat", ["cat"] * 5 + ["dog"] * 5, 0, id="no articles dropped"),
        pytest.param("Cat", ["cat"] * 5 + ["dog"] * 5, 0, id="case counts"),
        pytest.param("2", ["two"] * 9 + ["2"], 1 / 3, id="no numbers rewritten"),
        pytest.param("t-shirt", ["t shirt"] * 8 + ["t-shirt"] * 2, 2 / 3, id="no punctuation dropped"),
        pytest.param("isnt", ["isn't"] * 5 + ["no"] * 5, 0, id="no contractions mended"),
        pytest.param("cat", ["cat"] * 10, 1, id="all the same"),
        pytest.param("cat", [], 0, id="no answers"),
    ],
)
@pytest.mark.parametrize("scoring", ["okvqa", "aokvqa"])
def test_plain_accuracy_compares_answers_as_they_are(prediction, answers, expected, scoring):
    assert plain_accuracy(prediction, answers) == pytest.approx(expected)
    assert answer_accuracy(prediction, answers, scoring) == pytest.approx(expected)


def test_the_official_score_of_a_okvqa_leaves_difficult_direct_answers_out():
    easy = Record("1", texts=("rain",) * 10)
    hard = Record("2", texts=("sun",) * 10, question=Question(choices=("sun", "fog"), correct=0, difficult=True))
    pairs = [(easy, "rain"), (hard, "fog")]
    assert computed(pairs, scoring="okvqa").compute()["accuracy"] == 0.5
    assert computed(pairs, scoring="aokvqa").compute()["accuracy"] == 1
    assert computed(pairs, scoring="aokvqa").count == 1
    # Of multiple choice all questions count.
    assert computed([(hard, "fog")], scoring="aokvqa", choose=True).count == 1


@pytest.mark.parametrize(
    ("scoring", "answers", "expected"),
    [
        ("auto", ["mesh"] + ["net"] * 9, 0.3),
        ("auto", ["mesh", "net"], 1.0),
        ("vqa", ["mesh", "net"], 1 / 6),
        ("okvqa", ["mesh"] + ["net"] * 9, 1 / 3),
        ("aokvqa", ["mesh"] + ["net"] * 9, 1 / 3),
        ("any", ["mesh"] + ["net"] * 9, 1.0),
        ("any", ["net"], 0.0),
    ],
)
def test_scorings(scoring, answers, expected):
    assert answer_accuracy("mesh", answers, scoring) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "expected"), [(["a", "b", "b"], "b"), (["b", "a"], "b"), (["a", "b", "b", "a"], "a"), ([], "")]
)
def test_most_common(answers, expected):
    assert most_common(answers) == expected


def records():
    """(record, prediction) of every kind, with scores that differ."""
    return [
        (Record("1", texts=("net",) * 6 + ("mesh",) * 4, question=Question("what", "other")), "mesh"),
        (Record("2", texts=("yes",) * 10, question=Question("is", "yes/no")), "no"),
        (Record("3", texts=("4",) * 10, question=Question("how many", "number")), "4"),
        (Record("4", texts=("1000",)), "1040"),
        (Record("5", texts=("Coca Cola", "Coca Cola Company"), question=Question("what")), "CocaCola"),
        (Record("6", texts=()), "anything"),
    ]


def computed(pairs, **settings):
    metric = VQAMetric(**settings)
    for record, text in pairs:
        metric.update(record, Prediction(record.id, "", text))
    return metric


def test_metric():
    found = computed(records()).compute()
    assert found["accuracy"] == pytest.approx((1 + 0 + 1 + 0 + 0) / 5)
    assert found["exact_match"] == pytest.approx(1 / 5)
    assert found["ANLS"] == pytest.approx((1 + 0 + 1 + 3 / 4 + 8 / 9) / 5)
    assert found["relaxed_accuracy"] == pytest.approx((1 + 0 + 1 + 1 + 0) / 5)
    assert found["per_question_type"] == {
        "how many": {"accuracy": 1.0, "exact_match": 1.0},
        "is": {"accuracy": 0.0, "exact_match": 0.0},
        "what": {"accuracy": 0.5, "exact_match": 0.0},
    }
    assert list(found["per_answer_type"]) == ["number", "other", "yes/no"]
    assert computed(records()).count == 5


def test_exact_match_is_that_of_the_most_frequent_answer():
    record = Record("1", texts=("net", "mesh", "mesh"))
    assert computed([(record, " mesh\n")]).compute()["exact_match"] == 1
    assert computed([(record, "net")]).compute()["exact_match"] == 0
    assert computed([(record, "Mesh")]).compute()["exact_match"] == 0


def test_lower_case():
    record = Record("1", texts=("Coca Cola",))
    assert computed([(record, "coca cola")]).compute()["accuracy"] == 0
    found = computed([(record, "coca cola")], lower_case=True).compute()
    assert (found["accuracy"], found["exact_match"]) == (1, 1)


def test_multiple_choice_counts_the_right_choice():
    record = Record("1", texts=("a boat",) * 10, question=Question(choices=("ship", "car"), correct=0))
    assert right_answers(record) == ("a boat",) * 10
    assert right_answers(record, choose=True) == ("ship",)
    for scoring in ("auto", "vqa", "okvqa", "aokvqa"):
        assert computed([(record, "ship")], choose=True, scoring=scoring).compute()["accuracy"] == 1
        assert computed([(record, "car")], choose=True, scoring=scoring).compute()["accuracy"] == 0
    unknown = Record("1", texts=("a boat",), question=Question(choices=("ship", "car")))
    assert computed([(unknown, "ship")], choose=True).count == 0
    open_question = Record("1", texts=("a boat",))
    assert computed([(open_question, "a boat")], choose=True).compute()["accuracy"] == 1


def test_merging_in_any_order_and_nothing():
    pairs = records()
    whole = computed(pairs).compute()
    random.Random(0).shuffle(pairs)
    first, second, empty = computed(pairs[:2]), computed(pairs[2:]), computed([])
    empty.merge(first)
    empty.merge(second)
    merged = empty.compute()
    for name in ("accuracy", "exact_match", "ANLS", "relaxed_accuracy"):
        assert merged[name] == pytest.approx(whole[name])
    assert merged["per_question_type"] == whole["per_question_type"]
    assert computed([]).compute() == {"accuracy": 0, "exact_match": 0, "ANLS": 0, "relaxed_accuracy": 0}
