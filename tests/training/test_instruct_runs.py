"""Whole runs of instruction tuning: small models of the text families saved as presets, and the embedded model."""

import json

import numpy as np
import pytest
from backbones import make
from vocabularies import chat_tokenizer

import mmtune
from mmtune.cli import main
from mmtune.errors import DataError, UsageError
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Record, Turn
from mmtune.tasks.instruct import Instruct

pytestmark = pytest.mark.usefixtures("quick_compiles")

FAMILIES = {"gemma": "gemma2", "llama3": "llama3"}
LESSONS = [
    {"messages": [{"role": "user", "content": "what is red?"}, {"role": "assistant", "content": "a colour"}]},
    {"messages": [{"role": "user", "content": "what is a cat?"}, {"role": "assistant", "content": "two dogs"}]},
    {
        "messages": [
            {"role": "user", "content": "how many?"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "and now?"},
            {"role": "assistant", "content": "four squares"},
        ]
    },
    {"instruction": "name a shape", "input": "without corners", "output": "circle"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "chat.jsonl"
    file.write_text("\n".join(json.dumps(lesson) for lesson in LESSONS) + "\n")
    return str(file)


@pytest.fixture(scope="module", params=FAMILIES)
def preset(request, tmp_path_factory):
    """A Keras preset of a small text model whose vocabulary has its family's control tokens.

    Its vocabulary weights are large enough to be sure of a token: an adapter does not change them.
    """
    tokenizer = chat_tokenizer(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    caps = {"final_logit_soft_cap": 30.0, "attention_logit_soft_cap": 50.0} if request.param == "gemma" else {}
    backbone = make(FAMILIES[request.param], vocabulary_size=tokenizer.vocabulary_size, num_layers=2, **caps)
    table = backbone.token_embedding
    for variable in (table.embeddings, *([] if table.tie_weights else [table.reverse_embeddings])):
        variable.assign(8 * variable)
    backbone.save_to_preset(str(folder))
    vocabulary = folder / "assets" / "tokenizer" / "vocabulary.spm"
    vocabulary.parent.mkdir(parents=True)
    vocabulary.write_bytes(tokenizer.proto)
    return request.param, folder


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code or 0


def test_lora_learns_four_examples_by_heart(preset, data, tmp_path):
    family, folder = preset
    before = mmtune.evaluate(str(folder), task="instruct", data=data, verbose=False)
    done = mmtune.train(
        str(folder),
        task="instruct",
        data=data,
        val=data,
        out=tmp_path / "run",
        steps=60,
        batch_size=4,
        eval_every=60,
        buckets=1,
        lora=mmtune.LoRA(rank=16),
        optimizer={"learning_rate": 0.01},
        verbose=False,
    )
    assert before.metrics["exact_match"] == 0
    assert done.metrics["perplexity"] < 1.3 < before.metrics["perplexity"]
    assert done.metrics["exact_match"] == 1
    assert done.metrics["ROUGE_L"] == pytest.approx(1)

    again = mmtune.load(tmp_path / "run")
    answer = again.predict(task="instruct", prompt="what is red?")
    assert answer.text == "a colour"
    assert "<end_of_turn>" not in answer.text
    assert "<|eot_id|>" not in answer.text
    marks = {"gemma": "<start_of_turn>model\n", "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n"}
    assert answer.prediction.prompt.endswith(marks[family])
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["a colour", "two dogs", "four squares", "circle"]
    assert max(line["perplexity"] for line in lines) < 2


def test_the_command_line(preset, data, tmp_path, capsys):
    _, folder = preset
    words = ("--task", "instruct", "--data", data)
    assert run("train", *words, "--val", data, "--model", folder, "--steps", 2, "--out", tmp_path / "run") == 0
    assert (
        run("eval", tmp_path / "run", *words, "--json", tmp_path / "m.json", "--predictions", tmp_path / "p.jsonl") == 0
    )
    found = json.loads((tmp_path / "m.json").read_text())
    assert list(found["metrics"]) == ["perplexity", "exact_match", "ROUGE_L"]
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert found["metrics"] == pytest.approx(stored)
    capsys.readouterr()
    assert (
        run("score", "--task", "instruct", "--truth", data, "--predictions", tmp_path / "p.jsonl", "--json", "-") == 0
    )
    scored = json.loads(capsys.readouterr().out)["metrics"]
    assert scored == {name: found["metrics"][name] for name in ("exact_match", "ROUGE_L")}


def test_the_embedded_model(data, tmp_path):
    words = ("--task", "instruct", "--data", data)
    assert run("train", *words, "--val", data, "--model", "tiny", "--steps", 2, "--out", tmp_path / "run") == 0
    assert run("eval", "tiny", *words, "--json", tmp_path / "m.json") == 0
    predicted = ("predict", "tiny", "--task", "instruct", "--prompt", "hello", "--max-tokens", 4)
    assert run(*predicted, "--json", tmp_path / "p.json") == 0
    (answer,) = json.loads((tmp_path / "p.json").read_text())
    assert (answer["image"], answer["prompt"], len(answer["tokens"]) <= 4) == (None, "hello\n", True)
    assert "perplexity" not in answer


def test_full_tuning_without_pictures_leaves_the_tower_alone(data, tmp_path):
    model = Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")
    before = {variable.path: np.array(variable) for variable in model.backbone.weights}
    settings = {
        "full": True,
        "steps": 20,
        "batch_size": 4,
        "eval_every": 20,
        "buckets": 1,
        "optimizer": {"learning_rate": 0.01},
        "verbose": False,
    }
    first = mmtune.evaluate(model, task="instruct", data=data, verbose=False).metrics["perplexity"]
    done = mmtune.train(model, task="instruct", data=data, val=data, out=tmp_path / "run", **settings)
    assert done.metrics["perplexity"] < first / 2
    moved = {
        variable.path for variable in model.backbone.weights if (np.array(variable) != before[variable.path]).any()
    }
    assert moved
    assert not any(path.startswith(("image_", "pali_gemma_vit", "vit")) for path in moved)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt", ""), "the task instruct needs a prompt"),
        ((), "the task instruct needs a prompt"),
        (("--prompt", "hi", "--image", "a.jpg"), "the task instruct is about text alone"),
    ],
)
def test_what_cannot_be_asked(words, message, capsys):
    assert run("predict", "tiny", "--task", "instruct", *words) == 2
    assert message in capsys.readouterr().err


def test_a_template_that_the_model_cannot_write(data, tmp_path):
    model = Model(make("gemma", vocabulary_size=2176), tiny_tokenizer(), name="small")
    with pytest.raises(UsageError, match="no control token <start_of_turn>"):
        mmtune.train(
            model, task="instruct", data=data, out=tmp_path / "run", options={"template": "gemma"}, verbose=False
        )


def test_records_that_cannot_be_taught_are_said(tmp_path):
    model = Model(make("gemma", vocabulary_size=2176), tiny_tokenizer(), name="small")
    records = [Record("a", turns=(Turn("user", "hi"),))]
    with pytest.raises(
        DataError, match="none of 1 training records can be used for instruct; the first: a: expected the"
    ):
        mmtune.train(model, task="instruct", data=records, out=tmp_path / "run", verbose=False)
    found = mmtune.evaluate(model, task="instruct", data=records, max_tokens=4, verbose=False)
    assert found.metrics == {"perplexity": 0.0, "exact_match": 0.0, "ROUGE_L": 0.0}
    assert Instruct().max_tokens(records, model.tokenizer) == 256
