import json

import pytest

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, UsageError
from mmtune.registry import task_class

TRUTH = {
    "questions": [{"question_id": number, "image_id": 1, "question": f"Q{number}?"} for number in (10, 11, 12)],
    "annotations": [
        {"question_id": 10, "answers": [{"answer": "net"}] * 9 + [{"answer": "mesh"}], "answer_type": "other"},
        {"question_id": 11, "answers": [{"answer": "yes"}] * 10, "answer_type": "yes/no"},
        {"question_id": 12, "answers": [{"answer": "2"}] * 10, "answer_type": "number"},
    ],
}


@pytest.fixture
def truth(tmp_path):
    for name in ("questions", "annotations"):
        (tmp_path / f"{name}.json").write_text(json.dumps({name: TRUTH[name]}))
    return str(tmp_path / "questions.json")


def score(truth, tmp_path, content, name="results.json", form=None):
    file = tmp_path / "results" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    log = FaultLog()
    return task_class("vqa")().score_files(truth, file, form, log), log.faults


GIVEN = {10: "mesh", 11: "yes", 12: "3"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("r.json", [{"question_id": k, "answer": v} for k, v in GIVEN.items()], id="VQA v2"),
        pytest.param("r.json", [{"questionId": str(k), "answer": v} for k, v in GIVEN.items()], id="DocVQA"),
        pytest.param("r.json", [{"questionId": str(k), "prediction": v} for k, v in GIVEN.items()], id="GQA"),
        pytest.param("r.json", {str(k): v for k, v in GIVEN.items()}, id="by id"),
        pytest.param("r.json", {str(k): {"direct_answer": v} for k, v in GIVEN.items()}, id="A-OKVQA"),
        pytest.param("r.json", {"results": [{"question_id": k, "answer": v} for k, v in GIVEN.items()]}, id="nested"),
        pytest.param("r.json", [{"question_id": 10, "answer": "mesh"}, {"question_id": 11, "answer": "yes"},
                                {"question_id": 12, "answer": 3}], id="a number"),
        pytest.param("r.jsonl", "\n".join(json.dumps({"record": k, "text": v}) for k, v in GIVEN.items()), id="own"),
        pytest.param("r.txt", "10\tmesh\r\n11\tyes\n\n12\t3", id="tab"),
    ],
)  # fmt: skip
def test_forms(truth, tmp_path, name, content):
    found, faults = score(truth, tmp_path, content, name)
    assert (found["task"], found["n"], found["invalid"], faults) == ("vqa", 3, 0, [])
    assert found["metrics"]["accuracy"] == pytest.approx((0.3 + 1 + 0) / 3)
    assert found["metrics"]["exact_match"] == pytest.approx(1 / 3)
    assert found["metrics"]["per_answer_type"]["other"]["accuracy"] == pytest.approx(0.3)


def test_a_okvqa_is_scored_without_its_difficult_questions(tmp_path):
    items = [
        {"question_id": name, "image_id": 1, "question": "Q?", "direct_answers": ["rain"] * 10,
         "choices": ["rain", "sun"], "correct_choice_idx": 0, "difficult_direct_answer": name == "b"}
        for name in "ab"
    ]  # fmt: skip
    file = tmp_path / "aokvqa_v1p0_val.json"
    file.write_text(json.dumps(items))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"a": {"direct_answer": "rain"}, "b": {"direct_answer": "sun"}}))
    vqa = task_class("vqa")
    strict, all_questions = (vqa(options=vqa.Options(scoring=scoring)) for scoring in ("aokvqa", "okvqa"))
    assert all_questions.score_files(str(file), answers, None, FaultLog())["metrics"]["accuracy"] == 0.5
    found = strict.score_files(str(file), answers, None, FaultLog())
    assert (found["n"], found["metrics"]["accuracy"]) == (1, 1.0)


def test_okvqa_leaves_no_answer_out(truth, tmp_path):
    answers = [{"question_id": k, "answer": v} for k, v in GIVEN.items()]
    found, _ = score(truth, tmp_path, answers, form="okvqa")
    assert found["metrics"]["accuracy"] == pytest.approx((1 / 3 + 1 + 0) / 3)


@pytest.mark.usefixtures("truth")
def test_the_annotations_are_truth_enough(tmp_path):
    (tmp_path / "questions.json").unlink()
    found, faults = score(str(tmp_path / "annotations.json"), tmp_path, [{"question_id": 11, "answer": "yes"}])
    assert found["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert [fault.kind for fault in faults] == ["missing answer"] * 2


def test_missing_unknown_duplicate_and_malformed_answers(truth, tmp_path):
    answers = [
        {"question_id": 11, "answer": "yes"},
        {"question_id": 11, "answer": "no"},
        {"question_id": 99, "answer": "no"},
        {"question_id": 12},
        {"question_id": 12, "answer": ["2"]},
        "yes",
    ]
    found, faults = score(truth, tmp_path, answers)
    assert (found["n"], found["invalid"]) == (3, 5)
    assert found["metrics"]["accuracy"] == pytest.approx(1 / 3)
    file = tmp_path / "results/results.json"
    assert [(fault.kind, fault.record, fault.file) for fault in faults] == [
        ("duplicate answer", "11", f"{file}, item 1"),
        ("unknown question", "99", f"{file}, item 2"),
        ("malformed answer", "12", f"{file}, item 3"),
        ("malformed answer", "12", f"{file}, item 4"),
        ("malformed answer", None, f"{file}, item 5"),
        ("missing answer", "10", str(file)),
        ("missing answer", "12", str(file)),
    ]


def test_multiple_choice(tmp_path):
    truth = [
        {"question_id": "a", "image_id": 1, "question": "Q?", "choices": ["ship", "car"], "correct_choice_idx": 0,
         "direct_answers": ["boat"] * 10},
    ]  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found, _ = score(str(tmp_path / "truth.json"), tmp_path, {"a": {"multiple_choice": "ship"}})
    assert found["metrics"]["accuracy"] == 1
    found, _ = score(str(tmp_path / "truth.json"), tmp_path, {"a": {"direct_answer": "ship"}})
    assert found["metrics"]["accuracy"] == 0


@pytest.mark.parametrize(
    ("content", "name", "form", "error", "words"),
    [
        pytest.param("[", "r.json", None, DataError, "expected JSON", id="malformed"),
        pytest.param("3", "r.json", None, DataError, "found int", id="neither list nor object"),
        pytest.param([], "r.json", None, DataError, "expected answers for the questions of", id="empty"),
        pytest.param("a\n", "r.txt", None, DataError, "an id, a tab and the answer", id="no tab"),
        pytest.param("[]", "r.json", "coco", UsageError, "unknown form of answers 'coco'", id="form"),
    ],
)
def test_unusable_answers(truth, tmp_path, content, name, form, error, words):
    with pytest.raises(error, match=words):
        score(truth, tmp_path, content, name, form)


def test_no_such_file_and_no_truth(truth, tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        task_class("vqa")().score_files(truth, tmp_path / "lost.json", None, FaultLog())
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(DataError, match="there is nothing to score"):
        score(truth, tmp_path, [{"question_id": 11, "answer": "yes"}])


def test_gold(shared_data):
    folder = shared_data / "gold/anls"
    log = FaultLog()
    found = task_class("vqa")().score_files(str(folder / "gold_label.json"), folder / "submission.json", None, log)
    assert (found["n"], found["invalid"], log.faults) == (5, 0, [])
    assert found["metrics"]["ANLS"] == pytest.approx(0.378, abs=5e-4)


def test_real_vqa_v2(shared_data, tmp_path):
    answers = [{"question_id": 458752000, "answer": "Net"}, {"question_id": 458752001, "answer": "catcher"},
               {"question_id": 458752002, "answer": "Orange"}]  # fmt: skip
    found, faults = score(str(shared_data / "questions/vqav2"), tmp_path, answers)
    assert faults == []
    # "Orange" is not normalised, as all ten said "orange".
    assert found["metrics"]["accuracy"] == pytest.approx((1 + 0.3 + 0) / 3)
