import json
from pathlib import Path

import pytest
from annotation_files import photo

from mmtune.data.dataset import FaultLog
from mmtune.data.read import read, reader
from mmtune.data.reader import Source
from mmtune.data.receipt_lines import Piece, page_text, parsed_piece, rows_of
from mmtune.errors import DataError, UsageError
from mmtune.records import Box
from mmtune.tasks.detection import Detection
from mmtune.tasks.ocr import OCR
from mmtune.tasks.vqa import VQA

LINE = "10,20,60,20,60,30,10,30,"


def page(folder, name="1", lines=(LINE + "TOTAL",), facts=None, size=(100, 80)):
    """Writes a page with its lines and facts; None: no such file."""
    if size:
        photo(folder / "img" / f"{name}.jpg", size)
    if lines is not None:
        (folder / "box").mkdir(parents=True, exist_ok=True)
        (folder / "box" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    if facts is not None:
        (folder / "key").mkdir(parents=True, exist_ok=True)
        (folder / "key" / f"{name}.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    return folder


def piece(text, x0, y0, x1, y1):
    return Piece("", text, x0, y0, x1, y1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(LINE + "A", ("A", 10, 20, 60, 30), id="plain"),
        pytest.param(LINE + 'NO. 17-G, "X", 20" 1.6KG', ('NO. 17-G, "X", 20" 1.6KG', 10, 20, 60, 30), id="quotes"),
        pytest.param(LINE + "a  b\r", ("a b", 10, 20, 60, 30), id="carriage return"),
        pytest.param(LINE, ("", 10, 20, 60, 30), id="no text"),
        pytest.param(LINE + "###", ("", 10, 20, 60, 30), id="unreadable text"),
        pytest.param("60.5,20,10,18,10,30,60,33,A", ("A", 10, 18, 60.5, 33), id="turned quad"),
        pytest.param("1,2,3,4,5,6,7,A", None, id="seven numbers"),
        pytest.param("1,2,3,4,5,6,7,x,A", None, id="no number"),
        pytest.param("1,2,3,4,5,6,7,nan,A", None, id="not finite"),
        pytest.param("A", None, id="text alone"),
    ],
)
def test_lines(line, expected):
    found = parsed_piece(line, "")
    assert (found and (found.text, found.x0, found.y0, found.x1, found.y1)) == expected


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        pytest.param([], "", id="none"),
        pytest.param([piece("a", 0, 0, 9, 9)], "a", id="one"),
        pytest.param([piece("b", 0, 20, 9, 29), piece("a", 0, 0, 9, 9)], "a\nb", id="not in order"),
        pytest.param([piece("9.90", 50, 2, 70, 12), piece("TOTAL", 0, 0, 30, 10)], "TOTAL 9.90", id="side by side"),
        pytest.param(
            [piece("a", 0, 0, 90, 30), piece("b", 5, 14, 85, 44)], "a\nb", id="boxes that reach into each other"
        ),
        pytest.param(
            [piece("a", 0, 0, 30, 10), piece("1", 60, 4, 80, 14), piece("b", 0, 8, 30, 18), piece("2", 60, 12, 80, 22)],
            "a 1\nb 2",
            id="slanted rows",
        ),
        pytest.param([piece("a", 0, 0, 9, 9), piece("", 0, 10, 9, 19), piece("b", 0, 20, 9, 29)], "a\nb", id="no text"),
    ],
)
def test_reading_order(pieces, text):
    assert page_text(pieces) == text
    assert page_text(pieces[::-1]) == text
    assert sorted(p.text for row in rows_of(pieces) for p in row) == sorted(p.text for p in pieces)


def test_pages_for_ocr(tmp_path):
    page(tmp_path, "10", [LINE + "10th"])
    page(tmp_path, "2", ["0,40,9,40,9,49,0,49,b", LINE + "a"])
    data = read(tmp_path, task="ocr")
    assert (data.format, data.classes, data.faults) == ("receipts", (), ())
    assert [(one.id, one.texts, one.boxes) for one in data] == [("2", ("a\nb",), ()), ("10", ("10th",), ())]
    assert data[0].picture is not None
    assert data[0].picture.open().size == (100, 80)
    assert OCR().check(data[0]) == []


def test_lines_as_boxes(tmp_path):
    lines = [LINE + "a", LINE + "###", "10,20,10,20,10,30,10,30,flat", "90,0,120,0,120,9,90,9,wide"]
    data = read(page(tmp_path, lines=lines), task="detection")
    assert data.classes == ("text",)
    (one,) = data
    assert one.texts == ()
    assert one.boxes == (
        Box("text", 10, 20, 60, 30),
        Box("text", 10, 20, 60, 30, difficult=True),
        Box("text", 90, 0, 100, 9),
    )
    assert data.fault_counts == {"box without area": 1, "box beyond the picture": 1}
    assert data.faults[0].file.endswith("1.csv:3")
    assert Detection(data.classes).check(one) == ()
    both = read(tmp_path)
    assert (both[0].texts, len(both[0].boxes)) == (("wide\na\nflat",), 3)


FACTS = {"company": "Shop", "date": "1/2/2020", "address": "Here", "total": "9.90"}


def test_facts_for_vqa(tmp_path):
    page(tmp_path, facts=FACTS | {"gst_no": 12})
    page(tmp_path, "2", facts={"total": "", "company": None, "date": "today", "address": " x \n y"})
    data = read(tmp_path, task="vqa")
    assert [(one.id, one.prefix, one.texts) for one in data] == [
        ("1/company", "what is the company?", ("Shop",)),
        ("1/date", "what is the date?", ("1/2/2020",)),
        ("1/address", "what is the address?", ("Here",)),
        ("1/total", "what is the total?", ("9.90",)),
        ("1/gst_no", "what is the gst no?", ("12",)),
        ("2/date", "what is the date?", ("today",)),
        ("2/address", "what is the address?", ("x y",)),
    ]
    assert data.fault_counts == {"empty field": 2, "missing field": 1}
    assert [fault.record for fault in data.faults] == ["2", "2", "2"]
    assert data[3].question is not None
    assert data[3].question.kind == "total"
    assert VQA().check(data[0]) == []


@pytest.mark.parametrize(
    ("field", "ids"),
    [
        ("total", ["1/total"]),
        ("total,date", ["1/total", "1/date"]),
        ("all", ["1/company", "1/date", "1/address", "1/total"]),
    ],
)
@pytest.mark.parametrize("task", ["ocr", "vqa"])
def test_chosen_facts(tmp_path, field, ids, task):
    page(tmp_path, facts=FACTS)
    data = read(f"{tmp_path}?field={field}", task=task)
    assert [one.id for one in data] == ids
    (query,) = OCR().queries(data[0])
    assert query.prompt == f"what is the {ids[0][2:]}?"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("?field=totl", r"unknown value of field 'totl': did you mean 'total'\?"),
        ("?feild=total", r"unknown option of receipts 'feild': did you mean 'field'\?"),
    ],
)
def test_wrong_options(tmp_path, address, words):
    page(tmp_path, facts=FACTS)
    with pytest.raises(UsageError, match=words):
        read(f"{tmp_path}{address}", task="ocr")


@pytest.mark.parametrize(
    ("task", "lines", "facts", "size", "kind", "words"),
    [
        pytest.param("ocr", [LINE + "a", "b"], None, (9, 9), "broken line", "x4,y4,text, found 'b'", id="line"),
        pytest.param("ocr", [], None, (9, 9), "page without text", "expected lines of text", id="no lines"),
        pytest.param("ocr", [LINE + "a"], None, None, "missing picture", "img/1.jpg", id="picture"),
        pytest.param("ocr", None, None, (9, 9), "picture without text", "box/1.csv", id="no box file"),
        pytest.param("vqa", [LINE + "a"], None, (9, 9), "no key file", "key/1.json", id="no key file"),
        pytest.param("vqa", [LINE + "a"], "{", (9, 9), "broken key file", "1.json:1: expected JSON", id="broken json"),
        pytest.param("vqa", [LINE + "a"], "[]", (9, 9), "broken key file", "a JSON object", id="no object"),
        pytest.param("vqa", [LINE + "a"], {"x": "y"}, (9, 9), "missing field", "expected a text as total", id="fact"),
    ],
)
def test_faults(tmp_path, task, lines, facts, size, kind, words):
    page(tmp_path, "0", facts=FACTS)
    page(tmp_path, "1", lines, facts, size)
    data = read(tmp_path, task=task)
    assert data.fault_counts.get(kind, 0) >= 1
    fault = next(one for one in reversed(data.faults) if one.kind == kind)
    assert fault.record == "1"
    assert words in fault.problem
    assert str(tmp_path) in fault.file


def test_broken_pictures_and_bytes_that_are_no_text(tmp_path):
    page(tmp_path, "0")
    page(tmp_path, "1", size=None)
    (tmp_path / "img" / "1.jpg").write_bytes(b"no picture")
    page(tmp_path, "2")
    (tmp_path / "box" / "2.csv").write_bytes(LINE.encode() + b"\xff")
    assert read(tmp_path, task="detection").fault_counts == {"broken picture": 1, "unreadable text": 1}


def test_splits_and_other_names(tmp_path):
    page(tmp_path / "train")
    page(tmp_path / "test")
    (tmp_path / "test" / "box" / "1.csv").rename(tmp_path / "test" / "box" / "1.txt")
    (tmp_path / "train" / "entities").mkdir()
    (tmp_path / "train" / "entities" / "1.txt").write_text(json.dumps(FACTS))
    assert [one.id for one in read(tmp_path, task="ocr")] == ["train/1", "test/1"]
    assert [one.id for one in read(f"{tmp_path}:test", task="ocr")] == ["test/1"]
    assert [one.id for one in read(f"{tmp_path}:train?field=total", task="ocr")] == ["train/1/total"]
    with pytest.raises(DataError, match="unknown split 'val'"):
        read(f"{tmp_path}:val", task="ocr")


def test_truth_without_pictures(tmp_path):
    page(tmp_path, size=None, facts=FACTS)
    data = read(tmp_path, task="ocr", need_pictures=False)
    assert (len(data), data.faults, data[0].picture) == (1, (), None)


@pytest.mark.parametrize("content", ["", "hello", "a,b,c\n1,2,3", "0 0.5 0.5 0.1 0.1"], ids=repr)
def test_other_folders_are_not_claimed(tmp_path, content):
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "1.csv").write_text(content)
    assert not reader("receipts").claims(tmp_path)
    assert not reader("receipts").claims(tmp_path / "box" / "1.csv")
    assert not reader("receipts").claims(tmp_path / "nothing")


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="expected a folder with img, box"):
        reader("receipts").read(Source(Path(tmp_path)), FaultLog())


def test_real_receipts(shared_data):
    data = read(shared_data / "receipts", task="ocr")
    assert (data.format, len(data), data.faults) == ("receipts", 20, ())
    by_id = {one.id: one for one in data}
    # What is no CSV: a quote and commas within text.
    assert '20" 1.6KG X 500MM BIG STRETCH FILM ???' in by_id["011"].texts[0].split("\n")
    assert "SEKSYEN U13, 40170 SHAH ALAM," in by_id["011"].texts[0].split("\n")
    # Name and price stand in one row.
    assert by_id["004"].texts[0].startswith("TAN WOON YANN\nMR D.I.Y. (M) SDN BHD\n")
    assert "TOTAL RM 30.91" in by_id["004"].texts[0].split("\n")
    # Nothing of the text is lost, whatever the order.
    for one in data:
        lines = (shared_data / "receipts" / "box" / f"{one.id}.csv").read_text().splitlines()
        texts = sorted(" ".join(line.split(",", 8)[8].split()) for line in lines)
        assert sorted(one.texts[0].replace("\n", " ").split()) == sorted(" ".join(texts).split())


def test_real_receipts_are_decoded_whatever_their_size_and_mode(shared_data):
    by_id = {one.id: one for one in read(shared_data / "receipts", task="detection")}
    assert len(by_id) == 20
    assert by_id["460"].size == (4961, 7016)
    image = by_id["460"].picture.open()
    assert (image.size, image.mode) == ((4961, 7016), "RGB")
    assert all(0 <= box.x0 < box.x1 <= one.size[0] for one in by_id.values() for box in one.boxes)


def test_real_facts(shared_data):
    data = read(shared_data / "receipts", task="vqa")
    assert len(data) == 79
    assert data.fault_counts == {"missing field": 1}
    assert data.faults[0].record == "104"
    assert {one.id: one.texts for one in data}["104/total"] == ("102.40",)
    assert len(read(f"{shared_data}/receipts?field=total", task="ocr")) == 20
