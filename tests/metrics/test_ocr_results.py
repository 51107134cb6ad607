import json

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.metrics.ocr_results import score_ocr

TEXTS = {"1": "Exit", "2": "total  9.90\nCASH", "3": "ẽ"}
RIGHT = {"task": "ocr", "n": 3, "metrics": {"CER": 0.0, "WER": 0.0, "exact_match": 1.0, "ANLS": 1.0}, "invalid": 0}


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def folder(place, texts, ending):
    for name, text in texts.items():
        write(place / f"{name}{ending}", text)
    return place


@pytest.fixture
def truth(tmp_path):
    return folder(tmp_path / "truth", TEXTS, ".gt.txt")


def scored(truth, predictions, form=None):
    log = FaultLog()
    return score_ocr(truth, predictions, form, log), log.faults


def as_lines(texts):
    return "".join(json.dumps({"record": name, "text": text, "prompt": "ocr"}) + "\n" for name, text in texts.items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.jsonl", as_lines(TEXTS), id="mmtune"),
        pytest.param("a.json", TEXTS, id="object"),
        pytest.param("a.json", [{"image": f"x/{k}.png", "text": v} for k, v in TEXTS.items()], id="list"),
        pytest.param("a.json", {"results": [{"id": int(k), "prediction": v} for k, v in TEXTS.items()]}, id="numbers"),
    ],
)
def test_forms_of_files(truth, tmp_path, name, content):
    assert scored(truth, write(tmp_path / name, content)) == (RIGHT, [])


@pytest.mark.parametrize("ending", [".txt", ".ocr.txt", ".pred.txt", ".gt.txt"])
def test_folders_of_texts(truth, tmp_path, ending):
    found = folder(tmp_path / "found", TEXTS | {"3": "e\u0303\n\f"}, ending)
    assert scored(truth, found) == (RIGHT, [])


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a"])
def test_lines_with_tabs(tmp_path, name):
    truth = folder(tmp_path / "truth", {"1": "Exit", "2": "a\tb"}, ".gt.txt")
    result, faults = scored(truth, write(tmp_path / name, "1\texit\r\n2\ta\tb\n"))
    assert (result["n"], result["metrics"]["CER"], faults) == (2, 1 / 7, [])


def test_texts_beside_the_truth(truth):
    folder(truth, TEXTS, ".ocr.txt")
    write(truth / "SOURCE.txt", "where this is from")
    assert scored(truth, truth) == (RIGHT, [])


def test_the_truth_is_not_scored_against_itself(truth):
    for path in (truth, truth / "1.gt.txt"):
        with pytest.raises(DataError, match="found only the truth itself"):
            scored(truth, path)


def test_two_files_of_any_name(truth, tmp_path):
    found = write(tmp_path / "other.txt", "exit\n")
    result, faults = scored(truth / "1.gt.txt", found)
    assert (result["n"], result["metrics"]["CER"], faults) == (1, 0.25, [])
    plain = write(tmp_path / "plain.txt", "Exit\n")
    assert scored(plain, found)[0]["metrics"]["CER"] == 0.25


def test_truth_in_plain_text_files(tmp_path):
    truth, found = folder(tmp_path / "a", TEXTS, ".txt"), folder(tmp_path / "b", TEXTS, ".txt")
    assert scored(truth, found) == (RIGHT, [])


def test_the_empty_text_counts_where_nothing_was_read(truth, tmp_path):
    result, faults = scored(truth, write(tmp_path / "a.json", {"1": "Exit", "2": ""}))
    assert result["metrics"]["CER"] == 17 / 21
    assert result["metrics"]["exact_match"] == 1 / 3
    assert [(fault.kind, fault.record) for fault in faults] == [("missing text", "3")]
    assert (result["n"], result["invalid"]) == (3, 0)


@pytest.mark.parametrize(
    ("name", "more", "kind", "where"),
    [
        pytest.param("a.tsv", "9\tx\n", "unknown picture", "a.tsv:4", id="unknown"),
        pytest.param("a.tsv", "1\tx\n", "duplicate text", "a.tsv:4", id="duplicate"),
        pytest.param("a.tsv", "no tab\n", "malformed text", "a.tsv:4", id="no tab"),
        pytest.param("a.jsonl", '{"record": "1"}\n', "malformed text", "a.jsonl:4", id="no text"),
        pytest.param("a.jsonl", "{\n", "malformed line", "a.jsonl:4", id="no json"),
        pytest.param("a.jsonl", '{"record": true, "text": "x"}\n', "malformed text", "a.jsonl:4", id="no id"),
    ],
)
def test_faults(tmp_path, name, more, kind, where):
    texts = TEXTS | {"2": "one line"}
    truth = folder(tmp_path / "truth", texts, ".gt.txt")
    good = as_lines(texts) if name.endswith("jsonl") else "".join(f"{k}\t{v}\n" for k, v in texts.items())
    result, faults = scored(truth, write(tmp_path / name, good + more))
    assert result == RIGHT | {"invalid": 1}
    assert [(fault.kind, fault.file) for fault in faults] == [(kind, f"{tmp_path}/{where}")]


def test_a_text_that_is_no_text(truth, tmp_path):
    found = folder(tmp_path / "found", TEXTS, ".txt")
    (found / "1.txt").write_bytes(b"\xff")
    result, faults = scored(truth, found)
    assert [fault.kind for fault in faults] == ["unreadable text", "missing text"]
    assert (result["invalid"], result["metrics"]["CER"]) == (1, 4 / 21)


@pytest.mark.parametrize(
    ("name", "content", "form", "error", "words"),
    [
        ("a.tsv", "9\tx\n", None, DataError, "found none; the first fault: .*a.tsv:1: expected a picture of the truth"),
        ("a.json", "7", None, DataError, "expected a folder of text files named after the pictures"),
        ("a.json", "{", None, DataError, "a.json:1: expected JSON"),
        ("a.json", "{}", "jsn", UsageError, "unknown form of texts 'jsn': did you mean 'json'"),
        ("a/b.txt", "x", "json", DataError, "expected a file for the form json, found a folder"),
        ("b.json", "{}", None, DataError, "a.*: expected .* there is no such file"),
    ],
    ids=["unknown", "number", "broken", "form", "folder", "absent"],
)
def test_unusable(truth, tmp_path, name, content, form, error, words):
    write(tmp_path / name, content)
    with pytest.raises(error, match=words):
        scored(truth, tmp_path / (name.partition("/")[0] if name != "b.json" else "a.json"), form)


def test_truth_without_text(tmp_path):
    truth = write(tmp_path / "truth.jsonl", '{"image": "a.jpg", "suffix": []}\n')
    with pytest.raises(DataError, match="expected pictures with their text, found none that has one"):
        scored(truth, write(tmp_path / "a.tsv", "a.jpg\tx\n"))


def test_gold(shared_data):
    """dinglehopper's figures for its own pair of texts."""
    place = shared_data / "gold" / "cer"
    for truth, found in ((place, place), (place / "scan-bad.gt.txt", place / "scan-bad.ocr.txt")):
        result, faults = scored(truth, found)
        assert (result["metrics"]["CER"], result["metrics"]["WER"]) == (8 / 591, 7 / 100)
        assert (result["n"], result["invalid"], faults) == (1, 0, [])


@pytest.mark.parametrize("whole", [False, True], ids=["a file a receipt", "one file"])
def test_facts_of_receipts(shared_data, tmp_path, whole):
    keys = {file.stem: json.loads(file.read_text()) for file in (shared_data / "receipts" / "key").glob("*.json")}
    del keys["011"]
    keys["004"]["total"] = "30.91"
    keys["030"]["cashier"] = "nobody"
    keys["036"]["date"] = None
    if whole:
        predictions = write(tmp_path / "all.json", keys)
    else:
        predictions = tmp_path / "key"
        for stem, facts in keys.items():
            write(predictions / f"{stem}.json", facts)
    result, faults = scored(shared_data / "receipts", predictions)
    assert (result["n"], result["invalid"]) == (79, 2)
    assert result["metrics"]["exact_match"] == (79 - 4 - 2) / 79
    kinds = [fault.kind for fault in faults]
    assert sorted(kinds) == sorted(["missing field", "unknown picture", "malformed text", *["missing text"] * 5])
