"""Perplexity by hand, exact match, ROUGE-L, merging; files of answers."""

import json
import math

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.metrics.instruct import InstructMetric, right_answers
from mmtune.metrics.instruct_results import score_instruct
from mmtune.records import Likelihood, Prediction, Record, Turn


def record(*texts, name="r"):
    return Record(name, prefix="question", texts=texts)


def prediction(text, logprobs=None):
    truth = None if logprobs is None else Likelihood(math.fsum(logprobs), len(logprobs))
    return Prediction("r", "question", text, truth=truth)


def computed(*pairs):
    metric = InstructMetric()
    for truth, found in pairs:
        metric.update(truth, found)
    return metric.compute()


def test_perplexity_is_weighted_by_tokens():
    """Two answers of 1 and 3 tokens: the mean is over four tokens, not over two answers."""
    first, second = [math.log(0.5)], [math.log(0.25), math.log(0.125), math.log(1.0)]
    found = computed((record("a"), prediction("a", first)), (record("b"), prediction("b", second)))
    assert found["perplexity"] == pytest.approx((0.5 * 0.25 * 0.125 * 1.0) ** (-1 / 4))
    of_means = math.exp((-sum(first) - sum(second) / 3) / 2)
    assert found["perplexity"] != pytest.approx(of_means, rel=1e-3)


def test_a_uniform_guess_has_the_perplexity_of_the_vocabulary():
    logprobs = [-math.log(2176)] * 5
    assert computed((record("a"), prediction("a", logprobs)))["perplexity"] == pytest.approx(2176)


def test_hopeless_answers_stay_finite():
    assert math.isfinite(computed((record("a"), prediction("a", [-1e6])))["perplexity"])


@pytest.mark.parametrize(
    ("references", "text", "exact"),
    [
        (("yes",), "yes", 1),
        (("yes",), " yes\n", 1),
        (("yes",), "Yes", 0),
        (("no", "yes"), "yes", 1),
        (("yes",), "", 0),
    ],
)
def test_exact_match(references, text, exact):
    assert computed((record(*references), prediction(text)))["exact_match"] == exact


def test_rouge_is_that_of_captions_on_words():
    """The longest common subsequence of "the cat sat down" and "the cat lay down" is 3 of 4 words either way."""
    found = computed((record("The cat lay down."), prediction("the cat sat down")), (record("x"), prediction("x")))
    assert found["ROUGE_L"] == pytest.approx((0.75 + 1) / 2)


def test_a_conversation_counts_by_its_last_answer():
    turns = (Turn("user", "a"), Turn("assistant", "first"), Turn("user", "b"), Turn("assistant", " last "))
    assert right_answers(Record("r", turns=turns)) == ("last",)


def test_what_has_no_truth_counts_for_nothing():
    assert computed((Record("r", prefix="q"), prediction("anything"))) == computed()
    assert computed() == {"perplexity": 0.0, "exact_match": 0.0, "ROUGE_L": 0.0}


def test_merging_is_updating():
    pairs = [
        (record("a b c"), prediction("a b", [-1.0, -2.0])),
        (record("d"), prediction("d", [-0.5])),
        (record("e", "f"), prediction("f", [-3.0, -0.25, -0.125])),
    ]
    for cut in range(len(pairs) + 1):
        first, second = InstructMetric(), InstructMetric()
        for place, pair in enumerate(pairs):
            (first if place < cut else second).update(*pair)
        first.merge(second)
        assert first.compute() == pytest.approx(computed(*pairs))


@pytest.fixture
def truth(tmp_path):
    lines = [{"id": f"q{i}", "question": f"what is {i}?", "answer": f"number {i}"} for i in range(3)]
    file = tmp_path / "truth.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


FORMS = {
    "tsv": ("found.txt", "q0\tnumber 0\nq1\tanother\nq2\tnumber 2\n"),
    "jsonl": (
        "found.jsonl",
        '{"record": "q0", "text": "number 0"}\n'
        '{"id": "q1", "answer": "another"}\n'
        '{"id": "q2", "prediction": "number 2"}\n',
    ),
    "list": (
        "found.json",
        '[{"id": "q0", "text": "number 0"}, {"id": "q1", "text": "another"}, {"id": "q2", "text": "number 2"}]',
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_answers(tmp_path, truth, form):
    name, text = FORMS[form]
    (tmp_path / name).write_text(text)
    log = FaultLog()
    found = score_instruct(str(truth), tmp_path / name, None, log)
    assert (found["task"], found["n"], found["invalid"]) == ("instruct", 3, 0)
    assert found["metrics"] == {"exact_match": pytest.approx(2 / 3), "ROUGE_L": pytest.approx(2 / 3)}
    assert log.faults == []


def test_what_does_not_fit(tmp_path, truth):
    (tmp_path / "found.txt").write_text("q0\tnumber 0\nq9\tx\nq0\ty\nno tab\n")
    log = FaultLog()
    found = score_instruct(str(truth), tmp_path / "found.txt", None, log)
    assert found["invalid"] == 3
    assert found["metrics"]["exact_match"] == pytest.approx(1 / 3)
    kinds = ["unknown question", "duplicate answer", "malformed answer", "missing answer", "missing answer"]
    assert [fault.kind for fault in log.faults] == kinds
    assert log.faults[0].file == f"{tmp_path / 'found.txt'}:2"


def test_nothing_to_score(tmp_path, truth):
    (tmp_path / "found.txt").write_text("q9\tx\n")
    with pytest.raises(DataError, match=r"found none; the first fault: .*found.txt:1: expected a question .* 'q9'"):
        score_instruct(str(truth), tmp_path / "found.txt", None, FaultLog())
    with pytest.raises(UsageError, match="unknown form of answers 'xml'"):
        score_instruct(str(truth), tmp_path / "found.txt", "xml", FaultLog())
