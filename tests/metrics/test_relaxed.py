import pytest

from mmtune.metrics.relaxed import relaxed_correct


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        pytest.param("104", "100", True, id="four per cent off"),
        pytest.param("105", "100", True, id="five per cent off"),
        pytest.param("95", "100", True, id="five per cent below"),
        pytest.param("105.1", "100", False, id="more"),
        pytest.param("100", "105.3", False, id="relative to the reference: 5.03 per cent"),
        pytest.param("100", "105.2", True, id="relative to the reference: 4.94 per cent"),
        pytest.param("-0.52", "-0.5", True, id="below zero"),
        pytest.param("0.5", "-0.5", False, id="other sign"),
        pytest.param("52%", "50%", True, id="both in per cent"),
        pytest.param("0.52", "50%", True, id="per cent is a hundredth"),
        pytest.param("52", "50%", False, id="and nothing else"),
        pytest.param("50 %", "50%", True, id="a space before the sign"),
        pytest.param("1,000", "1000", False, id="a thousands separator makes a word"),
        pytest.param("1,000", "1,000", True, id="which is right when it is the same"),
        pytest.param("1,040", "1,000", False, id="and else wrong"),
        pytest.param("0.0", "0", False, id="zero must be the same"),
        pytest.param("0", "0", True, id="zero"),
        pytest.param("1e2", "100", True, id="exponent"),
        pytest.param("2011", "2020", True, id="years are numbers too"),
        pytest.param("Yes", "yes", True, id="case"),
        pytest.param(" yes\n", "yes", True, id="white space around it"),
        pytest.param("yes.", "yes", False, id="words must be the same"),
        pytest.param("5", "five", False, id="a number for a word"),
        pytest.param("", "5", False, id="nothing"),
        pytest.param("nan", "nan", False, id="not a number is near nothing"),
    ],
)
def test_relaxed_correct(prediction, reference, expected):
    assert relaxed_correct(prediction, [reference]) is expected


def test_several_references_and_tolerance():
    assert relaxed_correct("10", ["yes", "10.2"])
    assert not relaxed_correct("10", [])
    assert relaxed_correct("120", ["100"], tolerance=0.2)
    assert not relaxed_correct("102", ["100"], tolerance=0.01)
