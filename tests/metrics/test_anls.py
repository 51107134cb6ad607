import json
import random

import pytest

from mmtune.metrics.anls import anls


def naive(prediction, references):
    """The definition, with the edit distance by its recursion row by row."""

    def distance(a, b):
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            previous, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
        return row[-1]

    best = 0.0
    for reference in references:
        a, b = " ".join(prediction.lower().split()), " ".join(reference.lower().split())
        longest = max(len(a), len(b))
        share = distance(a, b) / longest if longest else 0.0
        best = max(best, 1 - share if share < 0.5 else 0.0)
    return best


def test_gold(shared_data):
    truth = json.loads((shared_data / "gold/anls/gold_label.json").read_text())["data"]
    answers = {
        item["questionId"]: item["answer"]
        for item in json.loads((shared_data / "gold/anls/submission.json").read_text())
    }
    scores = [anls(answers[item["questionId"]], item["answers"]) for item in truth]
    assert [round(score, 2) for score in scores] == [0, 0.89, 1, 0, 0]
    assert sum(scores) / len(scores) == pytest.approx(0.378, abs=5e-4)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        pytest.param("Coca  cola ", ["coca cola"], 1.0, id="case and white space"),
        pytest.param("abcd", ["abxy"], 0.0, id="half is too far"),
        pytest.param("abcde", ["abcxy"], 0.6, id="less is not"),
        pytest.param("abc", ["xyz", "abd"], 2 / 3, id="the nearest reference"),
        pytest.param("", [""], 1.0, id="nothing and nothing"),
        pytest.param("", ["a"], 0.0, id="nothing"),
        pytest.param("a", [], 0.0, id="no references"),
        pytest.param("1,000", ["1000"], 0.8, id="punctuation counts"),
    ],
)
def test_anls(prediction, references, expected):
    assert anls(prediction, references) == pytest.approx(expected)


def test_threshold():
    assert anls("abcd", ["abxy"], threshold=0.6) == 0.5
    assert anls("abcde", ["abcxy"], threshold=0.4) == 0.0


def test_as_the_definition():
    rng = random.Random(0)
    for _ in range(300):
        reference = "".join(rng.choices("aAb é,1", k=rng.randint(0, 8)))
        prediction = "".join(char for char in reference if rng.random() > 0.2) + rng.choice(["", "x", " a"])
        references = [reference, "".join(rng.choices("abc", k=4))]
        assert anls(prediction, references) == pytest.approx(naive(prediction, references))


def test_half_of_the_letters_wrong_is_nothing():
    """As the paper defines it; the challenge's own script keeps a similarity of exactly 0.5."""
    assert anls("ab", ["ax"]) == 0
    assert anls("abc", ["abx"]) == pytest.approx(2 / 3)
