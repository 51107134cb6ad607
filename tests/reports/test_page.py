"""The page of a report: every task has one, it is well-formed, needs nothing else, and shows text as text."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_cases import TASKS, answered

from mmtune.errors import DataError
from mmtune.metrics.resampling import flat
from mmtune.records import Box, Prediction, Record
from mmtune.registry import task_class
from mmtune.reporting import metric_intervals, write_report
from mmtune.reports import gallery
from mmtune.reports.charts import Line, line_chart, ticks
from mmtune.reports.findings import find
from mmtune.reports.log_curves import read_curves
from mmtune.reports.markup import number, text
from mmtune.reports.mask_paths import mask_path, outlines

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&\x00\u202e"
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of script and style; refuses tags that do not match."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self._open = [], [], []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def with_class(self, name):
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]


def made(folder, task, pairs, **more):
    metric = task.metric()
    for pair in pairs:
        metric.update(*pair)
    file = folder / "report.html"
    write_report(file, task, pairs, metric.compute(), settings={"model": "tiny"}, **more)
    source = file.read_text(encoding="utf-8")
    return source, Page(source)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_page(tmp_path, name):
    task, pairs = answered(name)
    source, page = made(tmp_path, task, pairs)
    cards = page.with_class("card")
    assert len(cards) == len(pairs)
    assert {attrs["data-id"] for attrs in cards} == {r.id for r, _ in pairs}
    for metric in (key[0] for key in flat(task.metric().compute()) if len(key) == 1):
        assert f" {metric} " in page.text
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == (0 if name == "instruct" else len(pairs))
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in pictures)
    ids = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    objects = {"classes", "precision", "confusion"}
    assert ids >= {"settings", "metrics", "examples", "calibration"} | (
        objects if name in ("detection", "segmentation") else set()
    )
    assert objects & ids == (objects if name in ("detection", "segmentation") else set())
    # Nothing is asked for from anywhere, and no script runs but ours.
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|url\(|@import|http", source.replace("http-equiv", ""))
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]


@pytest.mark.parametrize("name", TASKS)
def test_intervals_hold_the_metrics_and_are_on_the_page(tmp_path, name):
    task, pairs = answered(name)
    spans = metric_intervals(task, pairs)
    metric = task.metric()
    for pair in pairs:
        metric.update(*pair)
    numbers = {key: value for key, value in flat(metric.compute()).items() if len(key) == 1 and value != -1}
    assert set(numbers) <= set(spans)
    _, page = made(tmp_path, task, pairs)
    for (metric_name,), value in numbers.items():
        span = spans[metric_name,]
        assert span.low <= span.high
        assert f"{metric_name} {number(value)} {number(span.low)} to {number(span.high)}" in page.text


@pytest.mark.parametrize("name", TASKS)
def test_text_of_data_and_model_is_never_markup(tmp_path, name):
    task, pairs = answered(name, 3)
    plain = Page(made(tmp_path, task, pairs)[0])
    classes = (HOSTILE, *task.classes[1:])

    def box(one):
        return replace(one, label=HOSTILE)

    hostile = [
        (
            replace(
                record, id=f"{HOSTILE}{place}", texts=tuple(HOSTILE + t for t in record.texts),
                boxes=tuple(map(box, record.boxes)), masks=tuple(map(box, record.masks)),
            ),
            replace(
                found, text=HOSTILE, prompt=HOSTILE,
                boxes=tuple(map(box, found.boxes)), masks=tuple(map(box, found.masks)),
            ),
        )
        for place, (record, found) in enumerate(pairs)
    ]  # fmt: skip
    task = task_class(name)(classes if task.classes else ())
    source, page = made(tmp_path, task, hostile, notes=[HOSTILE])
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"ul", "li", "section", "del", "ins", "h2"}
    assert source.count("<script") == source.count("</script") == 1
    assert not any(attribute.startswith("on") for _, attrs in page.tags for attribute in attrs)
    assert "\x00" not in source
    assert "<script>alert(1)</script>" in page.text


def test_the_file_is_bounded_and_says_what_is_left_out(tmp_path, monkeypatch):
    task, pairs = answered("detection", 9)
    monkeypatch.setattr(gallery, "MOST_CARDS", 4)
    monkeypatch.setattr(gallery, "MOST_ROWS", 3)
    _, page = made(tmp_path, task, pairs)
    assert len(page.with_class("card")) == 4
    assert "the 4 worst of 9 examples; 3 more stand in a table without pictures, and 2 are left out" in page.text
    monkeypatch.setattr(gallery, "_MOST_BYTES", -1)
    _, page = made(tmp_path, task, pairs)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "The pictures of 4 examples are left out to bound the size" in page.text


def test_cards_come_worst_first_with_their_faults(tmp_path):
    classes = ("cat", "dog")
    truth = Box("cat", 0, 0, 10, 10)
    cases = {
        "right": [replace(truth, score=0.9)],
        "missed": [],
        "doubled": [replace(truth, score=0.9), replace(truth, score=0.9)],
        "wrong": [replace(truth, label="dog", score=0.9)],
    }
    pairs = [
        (Record(name, size=(40, 40), boxes=(truth,)), Prediction(name, "", "", tuple(found)))
        for name, found in cases.items()
    ]
    _, page = made(tmp_path, task_class("detection")(classes), pairs)
    cards = [(attrs["data-id"], attrs["data-kinds"]) for attrs in page.with_class("card")]
    assert cards == [
        ("missed", "|missed=1|"),
        ("wrong", "|wrong class=1|"),
        ("doubled", "|duplicate=1|"),
        ("right", "|right=1|"),
    ]


class Broken:
    name = "broken.jpg"

    def open(self):
        raise DataError("broken")


def test_pictures_that_cannot_be_opened_are_said(tmp_path):
    task, pairs = answered("detection", 3)
    pairs[1] = (replace(pairs[1][0], picture=Broken()), pairs[1][1])
    _, page = made(tmp_path, task, pairs)
    assert "1 pictures could not be opened" in page.text
    assert len(page.with_class("card")) == 3


def test_many_classes_are_bounded(tmp_path):
    classes = tuple(f"class {number}" for number in range(60))
    boxes = tuple(Box(label, 0, 5 * place, 4, 5 * place + 4) for place, label in enumerate(classes))
    found = tuple(replace(box, label=classes[place // 2], score=0.5) for place, box in enumerate(boxes))
    pairs = [(Record("r", size=(400, 400), boxes=boxes), Prediction("r", "", "", found))]
    _, page = made(tmp_path, task_class("detection")(classes), pairs)
    assert "Of 60 classes the 24 with most objects have a curve" in page.text
    assert "class 7 class 3 1" in page.text  # the 8th was found as the 4th


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("step,loss,AP\n1,2.0,\n2,1.0,0.5\n", {"loss": ([1, 2], [2, 1]), "AP": ([2], [0.5])}),
        ("step,loss\n1,nan\nx,3\n2,1.0\n", {"loss": ([2], [1])}),
        ("step,loss,APs\n1,1.0,-1\n", {"loss": ([1], [1])}),
        ("", {}),
        ("\xff\xfe", {}),
        (None, {}),
    ],
)  # fmt: skip
def test_curves_are_read_from_the_log(tmp_path, content, wanted):
    file = tmp_path / "log.csv"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    found = {name: (list(line.x), list(line.y)) for name, line in read_curves(file).items()}
    assert found == wanted


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 47), (0.99, 1.01), (1e-7, 3e-7), (5, 5e6)])
def test_ticks_are_few_and_within(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 5
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


def test_a_chart_of_one_value_or_none():
    assert line_chart("x", Line([], []), across="step") == ""
    assert line_chart("x", Line([1], [float("nan")]), across="step") == ""
    assert "NaN" not in line_chart("x", Line([1, 2], [0, 0]), across="step")


def test_outlines_go_around_what_is_set():
    """The area within the outlines, holes less, is the number of pixels."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        pixels = rng.random((7, 9)) < 0.5
        area = 0.0
        for loop in outlines(pixels):
            corners = np.array([*loop, loop[0]], float)
            area += (corners[:-1, 0] * corners[1:, 1] - corners[1:, 0] * corners[:-1, 1]).sum() / 2
        assert area == pixels.sum()


def test_a_mask_is_drawn_where_it_is():
    from mmtune.codecs.mask_runs import pasted_counts
    from mmtune.records import Mask

    mask = Mask("x", (40, 60), pasted_counts(np.ones((10, 20), bool), (30, 20), (60, 40)))
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", mask_path(mask, 120, 80)), float)
    assert points.min(axis=0).tolist() == [60, 40]
    assert points.max(axis=0).tolist() == [100, 60]
    assert mask_path(Mask("x", (4, 6), pasted_counts(np.zeros((0, 0), bool), (0, 0), (6, 4))), 12, 8) == ""


def test_text_and_numbers():
    assert text("<a href='x'>\"&\x07\ud800") == "&lt;a href=&#x27;x&#x27;&gt;&quot;&amp;\ufffd\ufffd"
    assert [number(value) for value in (0.1234, -1, float("nan"), 12345.6, 1e-5)] == [
        "0.123",
        "-",
        "-",
        "12346",
        "1.0e-05",
    ]


def test_no_record_has_no_page_of_examples():
    assert find(task_class("detection")(("cat",)), []).examples == ()
