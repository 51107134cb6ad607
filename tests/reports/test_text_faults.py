"""Distances of texts, and the scores of calibration, on cases made by hand."""

import numpy as np
import pytest

from mmtune.reports.calibration import calibration
from mmtune.reports.text_faults import EXACT, PARTLY, SLIP, UNKNOWN, WRONG, difference, pieces


@pytest.mark.parametrize(
    ("text", "right", "kind", "edits", "nearest"),
    [
        ("EXIT", ("EXIT",), EXACT, 0, "EXIT"),
        ("", ("",), EXACT, 0, ""),
        ("EXIF", ("EXIT", "EXIF"), EXACT, 0, "EXIF"),
        ("abcde", ("abcdX",), SLIP, 1, "abcdX"),
        ("abcd", ("abXY",), PARTLY, 2, "abXY"),
        ("abcd", ("aXYZ",), WRONG, 3, "aXYZ"),
        ("", ("abc",), WRONG, 3, "abc"),
        ("abcdefghij", ("ab", "abcdefgh"), SLIP, 2, "abcdefgh"),
        ("cat", (), UNKNOWN, 0, None),
    ],
)
def test_the_nearest_right_text_counts(text, right, kind, edits, nearest):
    found = difference(text, right)
    assert (found.kind, found.edits, found.right) == (kind, edits, nearest)


@pytest.mark.parametrize(
    ("text", "right"), [("kitten", "sitting"), ("", "abc"), ("abc", ""), ("same", "same"), ("<b>", "<i>&")]
)
def test_pieces_make_both_texts(text, right):
    found = pieces(text, right)
    assert "".join(piece for tag, piece in found if tag != "lacking") == text
    assert "".join(piece for tag, piece in found if tag != "extra") == right


def test_calibration_by_hand():
    """Two answers of .85, one of them right, and one of .25 that is wrong: (2 * .35 + 1 * .25) / 3."""
    found = calibration([0.85, 0.85, 0.25], [1, 0, 0])
    assert found.error == pytest.approx((2 * 0.35 + 0.25) / 3)
    assert (found.bins[8].count, found.bins[8].right, found.bins[2].count) == (2, 0.5, 1)
    assert found.count == 3


def test_scores_that_are_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 20_000)
    assert calibration(scores, rng.uniform(0, 1, 20_000) < scores).error < 0.02
    assert calibration([1.0, 1.0], [1, 1]).error == 0
    assert calibration([], []) is None
