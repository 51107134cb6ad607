import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmtune.data.read import read
from mmtune.data.vqa import Vqa
from mmtune.errors import DataError, UsageError
from mmtune.records import Question

TEN = ["net"] * 7 + ["mesh", "pitcher", "orange"]


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "red").save(file)
    return file


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def kinds(data):
    return [fault.kind for fault in data.faults]


def named(answers):
    return [{"answer": answer, "answer_id": number} for number, answer in enumerate(answers, 1)]


V2_QUESTIONS = {
    "info": {"version": "2.0"},
    "questions": [
        {"image_id": 42, "question": "What is it?", "question_id": 42000},
        {"image_id": 42, "question": "Is it red?", "question_id": 42001},
    ],
}
V2_ANNOTATIONS = {
    "annotations": [
        {"question_id": 42000, "answers": named(TEN), "question_type": "what is", "answer_type": "other"},
        {"question_id": 42001, "answers": named(["yes"] * 10), "question_type": "is it", "answer_type": "yes/no"},
    ]
}

FORMS = {
    # name: (file, content, picture, id, answers, image_id, what else is known)
    "GQA": (
        "testdev_balanced_questions.json",
        {"201": {"semantic": [{"operation": "select"}], "question": "Who?", "imageId": "n5", "answer": "man",
                 "types": {"structural": "query", "semantic": "obj"}}},
        "images/n5.jpg", "201", ("man",), "n5", Question(kind="query"),
    ),
    "Visual Genome": (
        "question_answers.json",
        [{"id": 5, "qas": [{"a_objects": [], "question": "Who?", "image_id": 5, "qa_id": 9, "answer": "A U.S. man."}]}],
        "VG_100K_2/5.jpg", "9", ("A U.S. man",), 5, None,
    ),
    "DocVQA": (
        "val_v1.0.json",
        {"dataset_name": "SP-DocVQA", "data": [
            {"questionId": 7, "question": "Who?", "image": "documents/a_1.png", "docId": 4, "answers": ["Mr. T", "T"],
             "question_types": ["form", "handwritten"]}]},
        "documents/a_1.png", "7", ("Mr. T", "T"), "documents/a_1.png", Question(kind="form + handwritten"),
    ),
    "InfographicVQA": (
        "infographicsVQA_val_v1.0.json",
        {"data": [{"questionId": 7, "question": "Who?", "image_local_name": "1.jpeg", "ocr_output_file": "1.json",
                   "answers": ["two"]}]},
        "infographicsvqa_images/1.jpeg", "7", ("two",), "1.jpeg", None,
    ),
    "TextVQA": (
        "TextVQA_0.5.1_val.json",
        {"data": [{"question": "Who?", "image_id": "00ab", "image_classes": ["Bowl"], "question_id": 3,
                   "answers": TEN, "set_name": "val"}]},
        "train_images/00ab.jpg", "3", tuple(TEN), "00ab", None,
    ),
    "ST-VQA": (
        "train_task_3.json",
        {"data": [{"question": "Who?", "dataset": "coco-text", "answers": ["Bull"], "question_id": 3,
                   "file_path": "train/coco-text/COCO_1.jpg", "file_name": "COCO_1.jpg"}]},
        "train/coco-text/COCO_1.jpg", "3", ("Bull",), "train/coco-text/COCO_1.jpg", None,
    ),
    "ChartQA": (
        "test_human.json",
        [{"imgname": "41.png", "query": "How many?", "label": "0.57"}],
        "png/41.png", "41.png", ("0.57",), "41.png", None,
    ),
    "ChartQA, a number": (
        "test_human.json", [{"imgname": "41.png", "query": "How many?", "label": 14}],
        "png/41.png", "41.png", ("14",), "41.png", None,
    ),
    "A-OKVQA": (
        "aokvqa_v1p0_val.json",
        [{"split": "val", "image_id": 42, "question_id": "22Mexx", "question": "Who?",
          "choices": ["man", "dog"], "correct_choice_idx": 1, "direct_answers": ["dog"] * 9 + ["hound"]}],
        "val2017/000000000042.jpg", "22Mexx", ("dog",) * 9 + ("hound",), 42,
        Question(choices=("man", "dog"), correct=1),
    ),
    "choices without answers": (
        "own.json",
        [{"id": 1, "image": "a.jpg", "question": "Who?", "choices": ["man", "dog"], "correct_choice_idx": 1}],
        "a.jpg", "1", ("dog",), "a.jpg", Question(choices=("man", "dog"), correct=1),
    ),
    "choices with the number of the right one as answer": (
        "own.json",
        [{"id": 1, "image": "a.jpg", "question": "Who?", "choices": ["man", "dog"], "answer": 0}],
        "a.jpg", "1", ("man",), "a.jpg", Question(choices=("man", "dog"), correct=0),
    ),
    "choices with the right one as answer": (
        "own.json",
        [{"id": 1, "image": "a.jpg", "question": "Who?", "choices": ["0", "dog"], "answer": "dog"}],
        "a.jpg", "1", ("dog",), "a.jpg", Question(choices=("0", "dog"), correct=1),
    ),
    "choices that do not have the answer": (
        "own.json",
        [{"id": 1, "image": "a.jpg", "question": "Who?", "choices": ["man", "dog"], "answer": "cat"}],
        "a.jpg", "1", ("cat",), "a.jpg", Question(choices=("man", "dog")),
    ),
    "VizWiz": (
        "val.json",
        [{"image": "VizWiz_val_1.jpg", "question": "Who?", "answers": [{"answer": "a", "confidence": "yes"}] * 10,
          "answer_type": "other", "answerable": 1}],
        "val/VizWiz_val_1.jpg", "VizWiz_val_1.jpg", ("a",) * 10, "VizWiz_val_1.jpg", Question(answer_kind="other"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("by", ["file", "folder"])
def test_forms(tmp_path, name, by):
    file, content, where, record_id, answers, image_id, about = FORMS[name]
    found = picture(tmp_path / where)
    path = write(tmp_path / file, content)
    data = read(path if by == "file" else tmp_path, task="vqa")
    (record,) = data.records
    assert (data.format, data.faults) == ("vqa", ())
    assert (record.id, record.texts, record.image_id, record.question) == (record_id, answers, image_id, about)
    assert record.picture is not None
    assert record.picture.name == str(found)
    assert record.prefix == content_question(content)
    assert record.source == f"{path}, item 0"


def content_question(content):
    return "How many?" if "How many?" in json.dumps(content) else "Who?"


def v2(folder: Path, split: str = "val2014") -> tuple[Path, Path]:
    picture(folder / split / f"COCO_{split}_000000000042.jpg")
    return (
        write(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", V2_QUESTIONS),
        write(folder / f"v2_mscoco_{split}_annotations.json", V2_ANNOTATIONS),
    )


@pytest.mark.parametrize("which", ["questions", "annotations", "folder", "split", "year left away", "format"])
def test_vqa_v2(tmp_path, which):
    questions, annotations = v2(tmp_path)
    address = {
        "questions": questions,
        "annotations": annotations,
        "folder": tmp_path,
        "split": f"{tmp_path}:val2014",
        "year left away": f"{tmp_path}:val",
        "format": tmp_path,
    }[which]
    data = read(address, task="vqa", format="vqa" if which == "format" else None)
    assert [record.id for record in data] == ["42000", "42001"]
    assert data[0].texts == tuple(TEN)
    assert data[0].question == Question("what is", "other")
    assert [record.image_id for record in data] == [42, 42]
    assert data[1].picture is not None
    assert data[1].picture.name == str(tmp_path / "val2014/COCO_val2014_000000000042.jpg")
    assert data.faults == ()


def test_vqa_v2_in_folders_of_their_own(tmp_path):
    questions, annotations = v2(tmp_path)
    (tmp_path / "Questions").mkdir()
    (tmp_path / "Annotations").mkdir()
    questions = questions.rename(tmp_path / "Questions" / questions.name)
    annotations = annotations.rename(tmp_path / "Annotations" / annotations.name)
    for address in (questions, annotations, tmp_path):
        assert [len(record.texts) for record in read(address, task="vqa")] == [10, 10]


def test_splits_keep_their_own_answers(tmp_path):
    v2(tmp_path, "val2014")
    questions, annotations = v2(tmp_path, "train2014")
    for file in (questions, annotations):
        file.write_text(file.read_text().replace("42000", "43000").replace("42001", "43001").replace("mesh", "wire"))
    assert Vqa().splits(tmp_path) == ("train2014", "val2014")
    assert "mesh" in read(f"{tmp_path}:val", task="vqa")[0].texts
    assert "wire" in read(f"{tmp_path}:train", task="vqa")[0].texts
    assert len(read(tmp_path, task="vqa")) == 4
    with pytest.raises(DataError, match=r"unknown split 'test': Known: train2014, val2014"):
        read(f"{tmp_path}:test")


def test_questions_of_a_test_set(tmp_path):
    questions, annotations = v2(tmp_path, "test2015")
    annotations.unlink()
    data = read(questions, task="vqa")
    assert [record.texts for record in data] == [(), ()]
    assert kinds(data) == ["no answers"]


def test_answers_alone(tmp_path):
    questions, annotations = v2(tmp_path)
    questions.unlink()
    with pytest.raises(DataError, match="found answers, but no file with their questions beside them"):
        read(annotations, task="vqa")
    # They are enough to score by.
    truth = read(annotations, task="vqa", need_pictures=False)
    assert [(record.id, len(record.texts), record.prefix) for record in truth] == [
        ("42000", 10, None),
        ("42001", 10, None),
    ]


def test_what_does_not_fit_is_said(tmp_path):
    questions, annotations = v2(tmp_path)
    content = json.loads(questions.read_text())
    content["questions"] += [
        {"image_id": 77, "question": "Whose?", "question_id": 1},
        {"image_id": 42, "question": "Unanswered?", "question_id": 2},
        {"image_id": 42, "question": " ", "question_id": 3},
        {"image_id": 42, "question": "Again?", "question_id": 42000},
        {"question": "Where?", "question_id": 4},
        "What?",
        {"image_id": 42, "question": "Odd?", "question_id": 5},
    ]
    questions.write_text(json.dumps(content))
    answers = json.loads(annotations.read_text())
    answers["annotations"] += [
        {"question_id": 1, "answers": named(["me"] * 10)},
        {"question_id": 99, "answers": named(["me"] * 10)},
        {"question_id": 42001, "answers": named(["no"] * 10)},
        {"answers": []},
        {"question_id": 5, "answers": [{"confidence": "yes"}]},
    ]
    annotations.write_text(json.dumps(answers))
    picture(tmp_path / "val2014/COCO_val2014_000000000043.jpg")
    data = read(tmp_path, task="vqa")
    assert [record.id for record in data] == ["42000", "42001"]
    assert data[1].texts == ("yes",) * 10
    assert {(fault.kind, fault.record) for fault in data.faults} == {
        ("missing picture", "1"),
        ("question without answers", "2"),
        ("malformed question", "3"),
        ("duplicate record", "42000"),
        ("malformed question", "4"),
        ("malformed question", None),
        ("malformed answers", "5"),
        ("unknown question", "99"),
        ("duplicate answers", "42001"),
        ("malformed answers", None),
        ("pictures without questions", None),
    }
    said = {fault.kind: fault for fault in data.faults}
    assert said["missing picture"].file == f"{questions}, item 2"
    assert "number or name 77" in said["missing picture"].problem
    assert "1 of the 2 pictures" in said["pictures without questions"].problem
    assert "COCO_val2014_000000000043.jpg" in said["pictures without questions"].problem


def test_no_pictures_needed(tmp_path):
    questions, _ = v2(tmp_path)
    shutil.rmtree(tmp_path / "val2014")
    data = read(questions, task="vqa", need_pictures=False)
    assert [record.picture for record in data] == [None, None]
    assert data.faults == ()
    with pytest.raises(DataError, match="2 x missing picture"):
        read(questions, task="vqa")


def test_pictures_elsewhere(tmp_path):
    questions, _ = v2(tmp_path / "vqa")
    (tmp_path / "vqa/val2014").rename(tmp_path / "coco")
    data = read(f"{questions}?images={tmp_path / 'coco'}", task="vqa")
    assert [record.id for record in data] == ["42000", "42001"]
    with pytest.raises(DataError, match="expected the folder of the pictures"):
        read(f"{questions}?images={tmp_path / 'lost'}", task="vqa")
    with pytest.raises(UsageError, match=r"unknown option of vqa data 'image': did you mean 'images'\?"):
        read(f"{questions}?image=x", task="vqa")


def test_records_without_ids_are_numbered_where_pictures_repeat(tmp_path):
    for name in ("1.png", "2.png"):
        picture(tmp_path / "png" / name)
    rows = [{"imgname": name, "query": "How?", "label": "so"} for name in ("1.png", "2.png", "1.png")]
    data = read(write(tmp_path / "test_human.json", rows), task="vqa")
    assert [record.id for record in data] == ["1.png#0", "2.png", "1.png#2"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([{"question_id": 1, "answer": "yes"}], id="results"),
        pytest.param([{"image_id": 1, "caption": "a cat"}], id="caption results"),
        pytest.param({"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}, id="captions"),
        pytest.param({"question": "text"}, id="an object"),
        pytest.param([], id="empty"),
    ],
)
def test_other_files_are_not_claimed(tmp_path, content):
    assert not Vqa().claims(write(tmp_path / "a.json", content))
    assert not Vqa().claims(tmp_path)


def test_json_lines_and_a_file_per_picture_are_not_claimed(tmp_path):
    line = json.dumps({"image": "a.jpg", "question": "Who?", "answer": "I", "image_id": 1})
    (tmp_path / "lines.json").write_text(f"{line}\n{line}\n")
    assert not Vqa().claims(tmp_path / "lines.json")
    for number in range(250):
        (tmp_path / f"{number}.json").write_text(f"[{line}]")
    assert not Vqa().claims(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("{", "a.json:1: expected JSON", id="malformed"),
        pytest.param("3", "a.json: expected JSON with question", id="no list"),
        pytest.param('{"data": 3}', "a.json: expected JSON with question", id="no list in it"),
        pytest.param('[{"image": "a.jpg"}]', "1 x malformed question", id="no question"),
    ],
)
def test_unusable_files(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "a.json", format="vqa")


def test_a_folder_without_questions(tmp_path):
    with pytest.raises(DataError, match="found no questions"):
        read(tmp_path, format="vqa")


@pytest.mark.parametrize("address", ["vqav2", "vqav2/questions.json", "vqav2/annotations.json"])
def test_real_vqa_v2(shared_data, address):
    data = read(shared_data / "questions" / address, task="vqa")
    assert [record.id for record in data] == ["458752000", "458752001", "458752002"]
    assert all(len(record.texts) == 10 and record.question is None for record in data)
    assert data[0].prefix == "What is this photo taken looking through?"
    assert data[0].picture is not None
    assert data[0].picture.open().size == (640, 480)
    (fault,) = data.faults
    assert "2 of the 3 pictures" in fault.problem


def test_real_gqa(shared_data):
    data = read(shared_data / "questions/gqa", task="vqa")
    assert {record.id: record.texts for record in data} == {"202218649": ("picture",), "20240871": ("yes",)}
    assert {record.question.kind for record in data if record.question} == {"query", "logical"}
    assert sorted(kinds(data)) == ["duplicate record", "pictures without questions"]


def test_real_visual_genome(shared_data):
    data = read(shared_data / "questions/vgqa", task="vqa")
    assert len(data) == 8
    assert [record.texts[0] for record in data][:2] == ["Sailboats", "In a room"]
    assert not any(record.texts[0].endswith(".") for record in data)
    assert {record.image_id for record in data} == {4, 5}


def test_real_gold_labels(shared_data):
    data = read(shared_data / "gold/anls/gold_label.json", task="vqa", need_pictures=False)
    assert [record.texts for record in data] == [("Coca Cola", "Coca Cola Company")] * 5
