"""Curves are the log's numbers."""

import re

from mmtune.reports.charts import Line, line_chart
from mmtune.reports.log_curves import read_log
from mmtune.training.log import metric_names

LOG = (
    "step,epoch,loss,seconds,AP50\n5,0.1,2.5,1,\n10,0.2,1.5,1,\n10,,,,0.25\n15,0.3,nan,1,\n20,0.4,0.5,1,0.75\n25,0.5,0."
)


def test_a_log_is_read_as_far_as_it_is_written(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    log = read_log(tmp_path / "log.csv")
    assert log["loss"][:3] == [(5, 2.5), (10, 1.5), (20, 0.5)]
    assert log["AP50"] == [(10, 0.25), (20, 0.75)]
    assert metric_names(log) == ("AP50",)
    assert read_log(tmp_path / "none.csv") == {}


def drawn(x, y):
    chart = line_chart("<b>loss", Line(x, y), across="step")
    assert "<b>" not in chart
    (text,) = re.findall(r'polyline class="line" points="([^"]+)"', chart)
    return [tuple(map(float, pair.split(","))) for pair in text.split()], chart


def test_a_curve_is_drawn_to_scale():
    ((x0, y0), (x1, y1), (x2, y2), *_), _ = drawn([0, 50, 100], [4.0, 2.0, 0.0])
    assert abs((x0 + x2) / 2 - x1) < 0.11
    assert abs((y0 + y2) / 2 - y1) < 0.11
    assert x0 < x2
    assert y0 < y2  # down the picture


def test_many_points_are_thinned_and_the_last_is_kept():
    steps = range(10_001)
    points, chart = drawn(steps, [1.0 / (step + 1) for step in steps])
    assert len(points) < 500
    assert "at step 10000" in chart


def test_curves_without_extent_are_drawn_as_well():
    assert len(set(drawn([5], [0.0])[0])) == 1
    assert len(set(drawn([5, 10], [-1.0, -1.0])[0])) == 2
