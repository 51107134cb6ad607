import json

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.metrics.caption import caption_scores
from mmtune.metrics.caption_results import score_captions

TRUTH = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 7, "caption": "A dog runs."},
        {"image_id": 8, "caption": "Two cats sit there."},
        {"image_id": 7, "caption": "A brown dog"},
    ],
}
FOUND = {7: "a dog runs by", 8: "two cats"}
REFERENCES = [["A dog runs.", "A brown dog"], ["Two cats sit there."]]


@pytest.fixture
def truth(tmp_path):
    file = tmp_path / "captions_val.json"
    file.write_text(json.dumps(TRUTH))
    return file


def scored(truth, folder, name, text, form=None):
    file = folder / name
    file.write_text(text)
    log = FaultLog()
    return score_captions(truth, file, form, log), log


def results(*items):
    return json.dumps([{"image_id": key, "caption": text} for key, text in items])


IN_A_DICT = {"annotations": [{"image_id": key, "caption": text} for key, text in FOUND.items()]}
OURS = [{"record": "a.jpg", "text": FOUND[7]}, {"record": "b.jpg", "text": FOUND[8]}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("captions_val_results.json", results(*FOUND.items()), id="COCO results"),
        pytest.param("r.json", results(("8", FOUND[8]), (7.0, FOUND[7])), id="ids as text and float, another order"),
        pytest.param("r.json", json.dumps({"a.jpg": FOUND[7], "b": FOUND[8]}), id="an object by name"),
        pytest.param("r.json", json.dumps(IN_A_DICT), id="a dict"),
        pytest.param("r.jsonl", "".join(f"{json.dumps(one)}\n" for one in OURS), id="our predictions"),
        pytest.param("r.txt", "7\ta dog runs by\n8\ttwo cats\n", id="lines"),
        pytest.param("r.tsv", "b.jpg\ttwo cats\r\na.jpg\ta dog runs by\r\n", id="lines by name"),
    ],
)
def test_public_forms(truth, tmp_path, name, text):
    result, log = scored(truth, tmp_path, name, text)
    assert result == {
        "task": "captioning",
        "n": 2,
        "metrics": caption_scores(list(FOUND.values()), REFERENCES),
        "invalid": 0,
    }
    assert log.faults == []


def test_faults_are_counted_and_the_rest_is_scored(truth, tmp_path):
    items = [(7, "a dog"), (70, "x"), (7, "another")]
    text = json.dumps([*json.loads(results(*items)), {"image_id": 8}, "x"])
    result, log = scored(truth, tmp_path, "r.json", text)
    assert [(fault.kind, fault.file.rpartition(", ")[2]) for fault in log.faults] == [
        ("unknown picture", "item 1"),
        ("duplicate caption", "item 2"),
        ("malformed caption", "item 3"),
        ("malformed caption", "item 4"),
        ("missing caption", str(tmp_path / "r.json")),
    ]
    assert result["invalid"] == 4
    assert result["n"] == 2
    assert result["metrics"] == caption_scores(["a dog", ""], REFERENCES)


def test_lines_against_lines(shared_data):
    folder = shared_data / "gold" / "captions"
    result = score_captions(folder, folder / "hyp.txt", None, FaultLog())
    assert result["n"] == 2
    assert result["metrics"]["CIDEr"] == pytest.approx(1.242192, abs=5e-7)
    assert result["metrics"]["BLEU4"] == pytest.approx(0.201143, abs=5e-7)
    one = score_captions(folder / "ref1.txt", folder / "hyp.txt", None, FaultLog())
    assert 0 < one["metrics"]["BLEU1"] < result["metrics"]["BLEU1"]


def test_other_texts_in_a_folder_are_no_captions(truth, tmp_path):
    """A note beside a data set that happens to have as many lines is not the truth."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "captions.json").write_text(truth.read_text())
    (folder / "SOURCE.txt").write_text("where it\ncomes from\n")
    with pytest.raises(DataError, match="expected a text file with the right captions in the order of"):
        scored(folder, tmp_path, "hyp.txt", "a dog\ntwo cats\n")
    (folder / "ref1.txt").write_text("a dog\ntwo cats\n")
    result, _ = scored(folder, tmp_path, "hyp.txt", "a dog\ntwo cats\n")
    assert result["metrics"]["exact_match"] == 1
    (folder / "ref2.txt").write_text("x\n")
    with pytest.raises(
        DataError, match=r"ref2.txt: expected 2 lines, .*; where the truth is no such file, captions need"
    ):
        scored(folder, tmp_path, "hyp.txt", "a dog\ntwo cats\n")


def test_an_empty_line_is_an_empty_caption(tmp_path):
    (tmp_path / "ref.txt").write_text("a dog\n\nx\n")
    result, _ = scored(tmp_path / "ref.txt", tmp_path, "hyp.txt", "\n\nx")
    assert (result["n"], result["metrics"]["exact_match"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("name", "text", "form", "error", "words"),
    [
        ("r.json", results((70, "x")), None, DataError, "found none; the first fault: .*, found '70'"),
        ("r.json", "[]", None, DataError, "expected captions for the pictures of .*, found none"),
        ("r.json", "{", None, DataError, "expected JSON"),
        ("r.json", "5", None, DataError, "expected caption results such as .*; found int"),
        ("r.txt", "a dog\ntwo cats\n", None, DataError, "expected a text file with the right captions in the order of"),
        ("r.json", "[]", "vqa", UsageError, "unknown form of captions 'vqa'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored(truth, tmp_path, name, text, form, error, words):
    with pytest.raises(error, match=words):
        scored(truth, tmp_path, name, text, form)


def test_other_numbers_of_lines_are_refused(tmp_path):
    (tmp_path / "ref.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"ref.txt: expected 3 lines, one for each of .*hyp.txt, found 2"):
        scored(tmp_path / "ref.txt", tmp_path, "hyp.txt", "a\nb\nc\n")


def test_a_missing_file(truth, tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        score_captions(truth, tmp_path / "none.json", None, FaultLog())
