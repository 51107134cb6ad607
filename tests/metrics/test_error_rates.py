"""Error rates against a plain dynamic programme, and against the figures published with a pair of real texts."""

import random
import unicodedata

import pytest

from mmtune.metrics.error_rates import Errors, cer, character_errors, edit_distance, wer, word_errors

# Letters with and without composed forms, right to left, beyond the first plane, joiners, white space.
ALPHABET = "aAbß  \n\té\u0301\u0303xẽܠܐעםع日😀\u200d\u200f.,"


def naive_distance(one, other):
    """The table of Wagner and Fischer, cell by cell."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in range(len(one) + 1):
        for j in range(len(other) + 1):
            if i == 0 or j == 0:
                table[i][j] = i + j
            else:
                replaced = table[i - 1][j - 1] + (one[i - 1] != other[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, replaced)
    return table[-1][-1]


def random_text(rng):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(18)))


def test_edit_distance_is_that_of_the_table():
    rng = random.Random(0)
    for _ in range(500):
        one, other = random_text(rng), random_text(rng)
        assert edit_distance(one, other) == naive_distance(one, other)
        assert edit_distance(one.split(), other.split()) == naive_distance(one.split(), other.split())


def test_rates_of_a_corpus_are_sums_over_sums():
    rng = random.Random(1)
    pairs = [(random_text(rng), random_text(rng)) for _ in range(200)]
    predictions, references = zip(*pairs, strict=True)
    plain = [tuple(unicodedata.normalize("NFC", text).strip() for text in pair) for pair in pairs]
    edits = sum(naive_distance(one, other) for one, other in plain)
    assert cer(predictions, references) == edits / sum(len(other) for _, other in plain)
    edits = sum(naive_distance(one.split(), other.split()) for one, other in plain)
    assert wer(predictions, references) == edits / sum(len(other.split()) for _, other in plain)


@pytest.mark.parametrize(
    ("prediction", "reference", "characters", "words"),
    [
        pytest.param("", "", (0, 0), (0, 0), id="nothing"),
        pytest.param("ab", "", (2, 0), (1, 0), id="nothing to read"),
        pytest.param("", "ab c", (4, 4), (2, 2), id="nothing read"),
        pytest.param("Abstand", "Sand", (4, 4), (1, 1), id="substitution and insertions"),
        pytest.param("Sand", "Abstand", (4, 7), (1, 1), id="substitution and deletions"),
        pytest.param("a b", "ab", (1, 2), (2, 1), id="a word in two"),
        pytest.param("the cat", "The cat.", (2, 8), (2, 2), id="capitals and stops count"),
        pytest.param("םולש", "שלום", (4, 4), (1, 1), id="reversed letters are errors"),
    ],
)
def test_errors_of_one_text(prediction, reference, characters, words):
    assert character_errors(prediction, reference) == Errors(*characters)
    assert word_errors(prediction, reference) == Errors(*words)


@pytest.mark.parametrize(
    ("errors", "rate"),
    [(Errors(), 0.0), (Errors(3, 0), 1.0), (Errors(1, 4), 0.25), (Errors(9, 3), 3.0)],
    ids=str,
)
def test_rate(errors, rate):
    assert errors.rate == rate


def test_golden_rates(shared_data):
    """dinglehopper's test data: 8 / 591 and 7 / 100, and a pair of words."""
    folder = shared_data / "gold" / "cer"
    found, right = ((folder / f"scan-bad.{kind}.txt").read_text() for kind in ("ocr", "gt"))
    assert cer([found], [right]) == 8 / 591
    assert wer([found], [right]) == 7 / 100
    assert cer(["Sand"], ["Abstand"]) == 4 / 7
    assert cer([""], [""]) == wer([""], [""]) == cer([], []) == wer([], []) == 0


def test_forms_of_one_text_are_equal():
    composed, decomposed = "Schlÿñ ẽ", unicodedata.normalize("NFD", "Schlÿñ ẽ")
    assert composed != decomposed
    assert cer([decomposed], [composed]) == cer([composed], [decomposed]) == 0
    assert cer(["a\r\nb\f"], ["a\nb\n"]) == 0


def test_a_corpus_needs_pairs():
    with pytest.raises(ValueError, match="zip"):
        cer(["a"], [])
