"""Bootstrap intervals against a direct computation: records drawn, listed, scored, and the values sorted."""

import numpy as np
import pytest

from mmtune.metrics.ocr import OCRMetric
from mmtune.metrics.resampling import SummedRows
from mmtune.records import Prediction, Record
from mmtune.reports.bootstrap import Interval, draws, interval, intervals, paired_differences, resampled


def readings(seed, wrong):
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(20):
        text = "".join(rng.choice(list("abcdef"), rng.integers(1, 9)))
        said = "".join("x" if rng.random() < wrong else letter for letter in text)
        pairs.append((Record(str(index), texts=(text,)), Prediction(str(index), "", said)))
    return pairs


def directly(pairs, resamples, seed):
    """Character error rates of resamples, sorted: all edits over all characters, by hand."""
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(resamples):
        chosen = [pairs[place] for place in rng.integers(0, len(pairs), len(pairs))]
        edits = sum(a != b for record, found in chosen for a, b in zip(record.texts[0], found.text, strict=True))
        rates.append(edits / sum(len(record.texts[0]) for record, _ in chosen))
    return sorted(rates)


def test_intervals_are_those_of_a_direct_computation():
    pairs = readings(0, 0.3)
    found = intervals(OCRMetric().resampling(pairs), len(pairs), 401, seed=7)["CER",]
    rates = directly(pairs, 401, seed=7)
    assert found.low == pytest.approx(rates[10], abs=1e-12)  # 400 steps from the lowest to the highest: 2.5 % are 10
    assert found.high == pytest.approx(rates[390], abs=1e-12)


def test_the_mean_of_a_normal_sample_has_the_textbook_interval():
    rows = np.random.default_rng(1).normal(3.0, 2.0, (400, 1))
    data = SummedRows(np.hstack([np.ones_like(rows), rows]), lambda sums: {"mean": sums[1] / sums[0]})
    found = intervals(data, 400, 4000)["mean",]
    error = 1.96 * rows.std() / 20
    assert found.low == pytest.approx(rows.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(rows.mean() + error, abs=0.1 * error)


def test_differences_are_paired():
    """The same answers on both sides differ by nothing, however wide either interval is."""
    pairs = readings(0, 0.3)
    same = paired_differences(OCRMetric().resampling(pairs), OCRMetric().resampling(pairs), 20, 200)
    assert same["CER",] == Interval(0.0, 0.0)
    better = [(record, Prediction(record.id, "", record.texts[0])) for record, _ in pairs]
    found = paired_differences(OCRMetric().resampling(pairs), OCRMetric().resampling(better), 20, 401, seed=7)["CER",]
    rates = directly(pairs, 401, seed=7)
    assert (found.low, found.high) == pytest.approx((-rates[390], -rates[10]), abs=1e-12)


def test_draws_depend_on_the_seed_alone(monkeypatch):
    whole = np.concatenate(list(draws(50, 30, 3)))
    assert whole.shape == (30, 50)
    assert (whole.sum(axis=1) == 50).all()
    monkeypatch.setattr("mmtune.reports.bootstrap._MOST", 200)
    assert (np.concatenate(list(draws(50, 30, 3))) == whole).all()
    assert (np.concatenate(list(draws(50, 30, 4))) != whole).any()


def test_nothing_to_measure_has_no_interval():
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([np.nan, 2.0])) == Interval(2.0, 2.0)
    assert resampled(SummedRows(np.zeros((0, 2)), lambda sums: {"x": sums[0]}), 0) == {}
