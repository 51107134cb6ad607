import math
import random
from collections import Counter

import pytest

from mmtune.metrics.bleu import bleu
from mmtune.metrics.caption import NAMES, CaptionMetric, caption_scores
from mmtune.metrics.caption_java import java_scores
from mmtune.metrics.cider import cider, cider_scores
from mmtune.metrics.ngrams import ngram_counts
from mmtune.metrics.rouge import rouge_l
from mmtune.records import Prediction, Record


def made_up(count, seed=0):
    """Returns captions and their references, of words that recur."""
    rng = random.Random(seed)

    def caption():
        return [rng.choice("abcd") for _ in range(rng.randint(0, 9))]

    return [caption() for _ in range(count)], [[caption() for _ in range(rng.randint(1, 5))] for _ in range(count)]


def lines(folder, name):
    return [line.split() for line in (folder / name).read_text().splitlines()]


def test_gold(shared_data):
    """The figures that the toolkit whose files these are prints for them."""
    folder = shared_data / "gold" / "captions"
    found = lines(folder, "hyp.txt")
    right = [list(pair) for pair in zip(lines(folder, "ref1.txt"), lines(folder, "ref2.txt"), strict=True)]
    assert bleu(found, right) == pytest.approx((0.55, 0.428174, 0.284043, 0.201143), abs=5e-7)
    rouge = sum(rouge_l(one, refs) for one, refs in zip(found, right, strict=True)) / 2
    assert rouge == pytest.approx(0.522104, abs=5e-7)
    assert cider(found, right) == pytest.approx(1.242192, abs=5e-7)


def test_ngrams():
    assert ngram_counts(["a", "b", "a"]) == Counter(
        {("a",): 2, ("b",): 1, ("a", "b"): 1, ("b", "a"): 1, ("a", "b", "a"): 1}
    )
    assert ngram_counts([]) == {}


def naive_bleu(found, right, order):
    """BLEU by its definition, without constants; needs a match of each order."""
    logs = []
    for n in range(1, order + 1):
        matches = total = 0
        for caption, references in zip(found, right, strict=True):
            runs = [tuple(caption[i : i + n]) for i in range(len(caption) - n + 1)]
            total += len(runs)
            for run in set(runs):
                most = max(sum(tuple(ref[i : i + n]) == run for i in range(len(ref) - n + 1)) for ref in references)
                matches += min(runs.count(run), most)
        logs.append(math.log(matches / total))
    length = sum(map(len, found))
    wanted = sum(
        min((abs(len(ref) - len(one)), len(ref)) for ref in refs)[1] for one, refs in zip(found, right, strict=True)
    )
    return min(1.0, math.exp(1 - wanted / length)) * math.exp(sum(logs) / order)


def test_bleu_is_its_definition():
    found, right = made_up(200)
    assert bleu(found, right) == pytest.approx([naive_bleu(found, right, n) for n in (1, 2, 3, 4)], abs=1e-6)


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        pytest.param([], [], (0, 0, 0, 0), id="no pictures"),
        pytest.param([[]], [[["a"]]], (0, 0, 0, 0), id="an empty caption"),
        pytest.param([["a", "b", "c", "d"]], [[["a", "b", "c", "d"]]], (1, 1, 1, 1), id="the right one"),
        pytest.param([["a", "a"]], [[["a", "b"]]], (0.5, 0, 0, 0), id="clipped"),
        pytest.param([["a"]], [[["a", "b"], ["a", "b", "c"]]], (math.exp(-1), 0, 0, 0), id="too short"),
        pytest.param([["a", "b"]], [[["a"], ["c", "d", "e"]]], (0.5, 0, 0, 0), id="the shorter of two as close"),
    ],
)
def test_bleu(found, right, expected):
    assert bleu(found, right) == pytest.approx(expected, abs=1e-3)


def naive_cider(found, right):
    """CIDEr-D by its definition."""

    def runs(caption, n):
        return Counter(tuple(caption[i : i + n]) for i in range(len(caption) - n + 1))

    def vector(caption, n):
        frequency = {run: sum(any(run in runs(ref, n) for ref in refs) for refs in right) for run in runs(caption, n)}
        return {run: count * math.log(len(right) / max(1, frequency[run])) for run, count in runs(caption, n).items()}

    def norm(weights):
        return math.sqrt(sum(weight**2 for weight in weights.values()))

    scores = []
    for caption, references in zip(found, right, strict=True):
        total = 0.0
        for reference in references:
            gap = max(0, len(caption) - 1) - max(0, len(reference) - 1)
            for n in (1, 2, 3, 4):
                one, other = vector(caption, n), vector(reference, n)
                product = sum(min(weight, other.get(run, 0)) * other.get(run, 0) for run, weight in one.items())
                if norm(one) and norm(other):
                    total += product / norm(one) / norm(other) * math.exp(-(gap**2) / 72)
        scores.append(10 * total / 4 / len(references))
    return scores


def test_cider_is_its_definition():
    found, right = made_up(30)
    assert cider_scores(found, right) == pytest.approx(naive_cider(found, right), abs=1e-9)
    assert cider(found, right) == pytest.approx(sum(naive_cider(found, right)) / 30)


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        pytest.param([], [], 0, id="no pictures"),
        pytest.param([["a", "b"]], [[["a", "b"]]], 0, id="one picture: no word tells it from others"),
        pytest.param([["a"], ["b"]], [[["a"]], [["b"]]], 2.5, id="single words: one order of four"),
        pytest.param([[], []], [[["a"]], [["b"]]], 0, id="empty captions"),
    ],
)
def test_cider(found, right, expected):
    assert cider(found, right) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        pytest.param("a b c", ["a b c"], 1.0, id="the right one"),
        pytest.param("a b c", ["x y"], 0.0, id="nothing in common"),
        pytest.param("a c", ["a b c"], 2.44 * 1 * (2 / 3) / (2 / 3 + 1.44), id="a subsequence"),
        pytest.param("c a", ["a b c"], 2.44 * 0.5 * (1 / 3) / (1 / 3 + 1.44 * 0.5), id="order counts"),
        pytest.param("a b", ["a", "a b c d"], 1.0, id="best precision and best recall, of different references"),
        pytest.param("", ["a"], 0.0, id="an empty one"),
        pytest.param("", [""], 1.0, id="two empty ones"),
        pytest.param("a a a", ["a"], 2.44 * (1 / 3) * 1 / (1 + 1.44 / 3), id="repeated"),
    ],
)
def test_rouge(found, right, expected):
    assert rouge_l(found.split(), [one.split() for one in right]) == pytest.approx(expected)


def test_rouge_finds_the_longest_common_subsequence():
    def common(one, other):
        if not one or not other:
            return 0
        if one[-1] == other[-1]:
            return common(one[:-1], other[:-1]) + 1
        return max(common(one[:-1], other), common(one, other[:-1]))

    for one, (other, *_) in zip(*made_up(100, seed=1), strict=True):
        one, other = one[:7], other[:7]
        if one and other:
            length = common(one, other)
            precision, recall = length / len(one), length / len(other)
            expected = 2.44 * precision * recall / (recall + 1.44 * precision) if length else 0
            assert rouge_l(one, [other]) == pytest.approx(expected)


def records(count):
    found, right = made_up(count)
    for number, (caption, references) in enumerate(zip(found, right, strict=True)):
        texts = tuple(f"{' '.join(one).capitalize()}." for one in references)
        yield Record(str(number), texts=texts), Prediction(str(number), "", " ".join(caption))


def test_merged_states_are_one():
    whole, first, second = CaptionMetric(), CaptionMetric(), CaptionMetric()
    for number, (record, prediction) in enumerate(records(40)):
        whole.update(record, prediction)
        (first if number < 15 else second).update(record, prediction)
    first.merge(second)
    assert first.compute() == whole.compute()
    assert first.count == 40
    assert tuple(whole.compute()) == NAMES


def test_words_are_compared_without_case_and_punctuation():
    scores = caption_scores(["A dog runs by.", "two cats"], [["a dog , runs by"], ["Two cats!"]])
    assert scores["CIDEr"] > 1
    assert {name: scores[name] for name in ("BLEU1", "ROUGE_L", "exact_match")} == {
        "BLEU1": pytest.approx(1), "ROUGE_L": 1, "exact_match": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "lower_case", "expected"),
    [("a dog", False, 1), (" a \n dog", False, 1), ("A dog", False, 0), ("A dog", True, 1), ("a dog.", False, 0)],
)
def test_exact_match(caption, lower_case, expected):
    assert caption_scores([caption], [["a  dog", "x"]], lower_case=lower_case)["exact_match"] == expected


def test_nothing_is_zero_and_pictures_without_captions_do_not_count():
    metric = CaptionMetric()
    assert metric.compute() == dict.fromkeys(NAMES, 0)
    metric.update(Record("1"), Prediction("1", "", "a dog"))
    assert (metric.count, metric.compute()) == (0, dict.fromkeys(NAMES, 0))


def test_java_scores_are_left_out_with_a_reason_where_there_is_no_java(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    metric = CaptionMetric(java=True)
    metric.update(Record("1", texts=("a dog",)), Prediction("1", "", "a dog"))
    assert tuple(metric.compute()) == NAMES
    assert java_scores([["a"]], [[["a"]]]) == {}
    assert "METEOR is left out: expected Java" in caplog.text
    assert "SPICE is left out" in caplog.text
