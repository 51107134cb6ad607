import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmtune.data.read import read
from mmtune.errors import RecipeError, UsageError
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Output, Prediction, Query, Question, Record
from mmtune.registry import task_class
from mmtune.tasks.vqa import VQA, VQAOptions

TEN = ("net",) * 6 + ("mesh",) * 3 + ("Pitcher Net",)
RECORD = Record("1", prefix="what is it?", texts=TEN)
CHOICES = Question(choices=("a ship", "Car"), correct=1)
CHOOSE = Record("2", prefix="what is it?", texts=("boat",) * 10, question=CHOICES)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def task(**options):
    return VQA((), VQAOptions(**options))


def texts(targets):
    return ["".join(span.text for span in target) for target in targets]


def asked(record, **options):
    (query,) = task(**options).queries(record)
    return query


def test_registered():
    assert task_class("vqa") is VQA


@pytest.mark.parametrize(
    ("options", "record", "prompt", "labels"),
    [
        pytest.param({}, RECORD, "answer en what is it?", (), id="answer"),
        pytest.param({"lang": "de"}, RECORD, "answer de what is it?", (), id="language"),
        pytest.param({"prompt": "bare"}, RECORD, "what is it?", (), id="bare"),
        pytest.param({}, Record("r", prefix=" who\n is it? "), "answer en who is it?", (), id="white space"),
        pytest.param({}, Record("r", prefix="answer fr qui?"), "answer fr qui?", (), id="a prompt already"),
        pytest.param({"prompt": "bare"}, Record("r", prefix="answer fr qui?"), "answer fr qui?", (), id="in any form"),
        pytest.param({}, CHOOSE, "answer en what is it?", (), id="choices are not offered unasked"),
        pytest.param({"prompt": "choose"}, CHOOSE,
                     "answer en what is it? choose from: a ship \t Car", ("a ship", "Car"), id="choices"),
        pytest.param({"prompt": "choose", "lower_case": True}, CHOOSE,
                     "answer en what is it? choose from: a ship \t car", ("a ship", "car"), id="lower-case choices"),
        pytest.param({"prompt": "choose"}, RECORD, "answer en what is it?", (), id="no choices"),
        pytest.param({"prompt": "choose"}, replace(CHOOSE, prefix="answer en a or b?"), "answer en a or b?",
                     ("a ship", "Car"), id="choices and a prompt already"),
    ],
)  # fmt: skip
def test_queries(options, record, prompt, labels):
    assert list(task(**options).queries(record)) == [Query(prompt, labels)]


@pytest.mark.parametrize(
    ("options", "record", "words"),
    [
        pytest.param({}, Record("r", texts=("a",)), ["expected a question (prefix), found none"], id="no question"),
        pytest.param({}, Record("r", prefix=" ", texts=("a",)), ["expected a question"], id="blank question"),
        pytest.param({}, Record("r", prefix="a?"), ["expected an answer, found none"], id="no answer"),
        pytest.param({}, Record("r", prefix="a?", texts=("", " ")), ["found empty ones"], id="blank answers"),
        pytest.param({}, Record("r"), ["expected a question", "expected an answer"], id="nothing"),
        pytest.param({"prompt": "choose"}, replace(CHOOSE, question=Question(choices=("a", "b"))),
                     ["expected an answer that is one of the choices, or correct_choice_idx, found neither"],
                     id="no right choice"),
    ],
)  # fmt: skip
def test_check_refuses(options, record, words):
    problems = task(**options).check(record)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


@pytest.mark.parametrize("record", [RECORD, CHOOSE, Record("r", prefix="a?", texts=("", "b"))])
def test_check_accepts(record):
    assert list(task().check(record)) == []


@pytest.mark.parametrize(
    ("options", "record", "expected"),
    [
        pytest.param({}, RECORD, "net", id="most common"),
        pytest.param({}, Record("r", texts=("b", "a", "a", "b")), "b", id="the first of equals"),
        pytest.param({}, Record("r", texts=("", "a\nb ")), "a b", id="white space"),
        pytest.param({"answers": "sample"}, RECORD, "net", id="sample, nothing random"),
        pytest.param({}, CHOOSE, "boat", id="an open answer"),
        pytest.param({"prompt": "choose"}, CHOOSE, "Car", id="the right choice"),
        pytest.param({"prompt": "choose", "lower_case": True}, CHOOSE, "car", id="in lower case"),
    ],
)
def test_targets(options, record, expected):
    assert texts(task(**options).targets(record, Query(""))) == [expected]
    if options.get("answers") != "sample":
        assert texts(task(**options).targets(record, Query(""), np.random.default_rng(0))) == [expected]


def test_sampled_targets_follow_the_frequencies():
    rng = np.random.default_rng(0)
    sampling = task(answers="sample", lower_case=True)
    drawn = [texts(sampling.targets(RECORD, Query(""), rng))[0] for _ in range(2000)]
    shares = {text: drawn.count(text) / len(drawn) for text in set(drawn)}
    assert shares == pytest.approx({"net": 0.6, "mesh": 0.3, "pitcher net": 0.1}, abs=0.05)


def test_targets_without_answers_are_a_fault_of_the_caller():
    with pytest.raises(ValueError, match="`check` refuses it"):
        task().targets(Record("r", prefix="a?"), Query(""))


@pytest.mark.parametrize(
    ("query", "text", "expected", "invalid"),
    [
        pytest.param(Query("q"), " a\ncat ", "a cat", 0, id="text"),
        pytest.param(Query("q"), "", "", 1, id="nothing"),
        pytest.param(Query("q", ("cat", "dog")), "dog", "dog", 0, id="a choice"),
        pytest.param(Query("q", ("cat", "dog")), "do", "do", 1, id="none of the choices"),
    ],
)
def test_parse(query, text, expected, invalid):
    found = task().parse(RECORD, [(query, Output(text, ("x",), (-0.5,)))])
    assert (found.record, found.prompt, found.text, found.invalid) == ("1", "q", expected, invalid)
    assert found.tokens == (("x", -0.5),)


def test_parse_of_nothing():
    assert task().parse(RECORD, []) == Prediction("1", "", "")


@pytest.mark.parametrize(
    ("options", "record", "text", "accuracy"),
    [
        pytest.param({}, RECORD, "mesh", 0.9, id="ten people"),
        pytest.param({"scoring": "okvqa"}, RECORD, "Pitcher Net", 1 / 3, id="okvqa"),
        pytest.param({}, Record("r", texts=("Coca Cola", "Coke")), "Coke", 1.0, id="a list of accepted answers"),
        pytest.param({"prompt": "choose"}, CHOOSE, "Car", 1.0, id="choice"),
        pytest.param({"prompt": "choose", "lower_case": True}, CHOOSE, "car", 1.0, id="lower-case choice"),
        pytest.param({"prompt": "choose"}, CHOOSE, "boat", 0.0, id="not a choice"),
        pytest.param({}, CHOOSE, "boat", 1.0, id="asked openly"),
    ],
)
def test_metric(options, record, text, accuracy):
    metric = task(**options).metric()
    metric.update(record, Prediction(record.id, "", text))
    assert metric.compute()["accuracy"] == pytest.approx(accuracy)
    assert VQA.headline in metric.compute()


def test_grammar(tokenizer, caplog):
    choosing = task(prompt="choose")
    automaton = choosing.grammar(asked(CHOOSE, prompt="choose"), tokenizer)
    assert automaton is not None
    assert automaton.accepts([*tokenizer.encode("Car"), tokenizer.eos])
    assert not automaton.accepts([*tokenizer.encode("boat"), tokenizer.eos])
    assert task().grammar(asked(CHOOSE), tokenizer) is None
    with caplog.at_level(logging.WARNING):
        assert choosing.grammar(Query("odd", ("", "b")), tokenizer) is None
    assert "'odd' is answered freely" in caplog.text


@pytest.mark.parametrize("options", [{}, {"answers": "sample"}, {"lower_case": True}, {"prompt": "choose"}])
def test_lengths_hold_every_target(tokenizer, options):
    adapter = task(**options)
    long = Record("3", prefix="what?", texts=("a rather long answer that goes on and on",))
    records = [RECORD, CHOOSE, long]
    rng = np.random.default_rng(0)
    longest = 0
    for record in records:
        (query,) = adapter.queries(record)
        bound = adapter.target_bound(record, query, tokenizer)
        lengths = {
            len(tokenizer.encode(text)) + 1 for _ in range(50) for text in texts(adapter.targets(record, query, rng))
        }
        assert max(lengths) == bound
        longest = max(longest, bound)
    assert longest <= adapter.max_tokens(records, tokenizer) < longest + 16


def test_max_tokens_where_answers_are_not_known(tokenizer):
    assert task().max_tokens([], tokenizer) == 32
    assert task().max_tokens([Record("r", prefix="a?")], tokenizer) == 32
    assert task().max_tokens([Record("r", prefix="a?"), Record("s", prefix="a?", texts=("yes",))], tokenizer) == 32
    assert task().max_tokens([Record("s", prefix="a?", texts=("yes",))], tokenizer) == 16


def test_max_tokens_holds_wrong_choices(tokenizer):
    record = Record(
        "r", prefix="a?", question=Question(choices=("yes", "a rather long and wrong answer to it"), correct=0)
    )
    adapter = task(prompt="choose")
    assert adapter.max_tokens([record], tokenizer) > len(tokenizer.encode("a rather long and wrong answer to it"))


def test_draw():
    image = Image.new("RGB", (200, 90))
    drawn = task().draw(image, Prediction("r", "answer en what is it?", "a net"))
    assert drawn.width == 200
    assert drawn.height > 90
    assert dict(task().as_json(Prediction("r", "", ""))) == {}


def test_wrong_options_are_reported_together():
    with pytest.raises(RecipeError) as error:
        VQAOptions(prompt="ask", answers="all", scoring="vqav2", lang="")
    assert error.value.problems[0] == "options.prompt: expected one of answer, bare, choose, got 'ask'"
    assert len(error.value.problems) == 4


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([{"image": "a.png", "prefix": "who?", "suffix": "me"}, {"image": "b.png", "prefix": "how?",
                      "suffix": ["so", "well"]}], id="prefix and suffix"),
        pytest.param([{"image": "a.png", "question": "who?", "answer": "me"}, {"image": "b.png", "question": "how?",
                      "answer": ["so", "well"]}], id="question and answer"),
        pytest.param([{"image": "a.png", "question": "who?", "answers": ["me"]}, {"image": "b.png", "question": "how?",
                      "answers": [{"answer": "so"}, {"answer": "well"}]}], id="answers"),
    ],
)  # fmt: skip
def test_json_lines(folder, rows):
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(folder / "data.jsonl", task="vqa")
    assert [(record.id, record.prefix, record.texts) for record in data] == [
        ("a.png", "who?", ("me",)),
        ("b.png", "how?", ("so", "well")),
    ]
    assert [list(task().check(record)) for record in data] == [[], []]


def test_json_lines_with_ids_types_and_choices(folder):
    rows = [
        {"image": "a.png", "question_id": 7, "question": "who?", "answers": ["me"], "answer_type": "other"},
        {"image": "a.png", "question_id": 8, "question": "how?", "answers": ["so"], "choices": ["so", "not"],
         "correct_choice_idx": 0},
    ]  # fmt: skip
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(folder / "data.jsonl", task="vqa")
    assert [record.id for record in data] == ["7", "8"]
    assert [record.question for record in data] == [
        Question(answer_kind="other"),
        Question(choices=("so", "not"), correct=0),
    ]


@pytest.mark.parametrize("name", ["answer", "answers"])
def test_csv(folder, name):
    rows = "a.png,who?,me\na.png,how?,so\na.png,how?,well\n"
    (folder / "data.csv").write_text(f"image,question,{name}\n{rows}")
    data = read(folder / "data.csv", task="vqa")
    assert [(record.prefix, record.texts) for record in data] == [("who?", ("me",)), ("how?", ("so", "well"))]


def test_hub(folder):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({
        "image": datasets.Image(), "question_id": datasets.Value("int64"), "question": datasets.Value("string"),
        "answers": [{"answer": datasets.Value("string"), "answer_id": datasets.Value("int64")}],
    })  # fmt: skip
    rows = [
        {"image": str(folder / "a.png"), "question_id": 5, "question": "who?",
         "answers": [{"answer": text, "answer_id": number} for number, text in enumerate(TEN)]},
    ]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).save_to_disk(folder / "saved")
    (record,) = read(folder / "saved", task="vqa")
    assert (record.id, record.prefix, record.texts) == ("5", "who?", TEN)


def test_a_folder_of_labels_has_no_questions(folder):
    (folder / "cats").mkdir()
    (folder / "a.png").rename(folder / "cats/a.png")
    data = read(folder, task="vqa", format="folder")
    assert any("expected a question" in problem for problem in task().check(data[0]))


def test_shapes_bring_ten_answers_and_the_type_of_question():
    data = read("shapes?n=12&seed=3", task="vqa")
    assert all(len(record.texts) == 10 and len(set(record.texts)) == 1 for record in data)
    kinds = {record.question.kind for record in data if record.question}
    assert len(kinds) > 2
    assert kinds <= {"count", "colour", "shape", "presence", "side", "height"}
    assert not any(task().check(record) for record in data)


def test_predict_needs_a_question(folder):
    from mmtune.predicting import predict

    class Untaught:
        setup = None

    with pytest.raises(UsageError, match="give a question as the prompt"):
        predict(Untaught(), [folder / "a.png"], task="vqa")  # pyright: ignore[reportArgumentType]
