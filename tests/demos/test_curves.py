"""Curves are the log's numbers."""

import re

from mmtune.demos.curves import curve_svg, metric_names
from mmtune.reports.log_curves import read_log

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


def points(svg):
    (text,) = re.findall(r'polyline points="([^"]+)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_a_curve_is_drawn_to_scale():
    drawn = points(curve_svg("loss", [(0, 4.0), (50, 2.0), (100, 0.0)]))
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert abs((x0 + x2) / 2 - x1) < 0.11
    assert abs((y0 + y2) / 2 - y1) < 0.11
    assert x0 < x2
    assert y0 < y2  # down the picture


def test_many_points_are_thinned_and_the_last_is_kept():
    drawn = curve_svg("loss", [(step, 1.0 / (step + 1)) for step in range(10_001)])
    assert len(points(drawn)) < 500
    assert "at step 10000" in drawn


def test_odd_curves_are_drawn_as_well():
    assert "no values yet" in curve_svg("AP", [])
    assert len(points(curve_svg("AP", [(5, 0.0)]))) == 1
    assert len(points(curve_svg("AP", [(5, -1.0), (10, -1.0)]))) == 2
    assert "<b>" not in curve_svg("<b>x", []).replace("</b>", "")
