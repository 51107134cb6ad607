"""What the card of an exported model says, against the run's own files."""

import json

import pytest
from backbones import make
from vocabularies import chat_tokenizer

import mmtune
from mmtune.model import Model, Setup
from mmtune.model_card import model_card
from mmtune.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quick_compiles")

yaml = pytest.importorskip("yaml")


def front(card):
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_run_says_what_it_was_taught_and_how_well_it_does(tmp_path):
    run = mmtune.train(
        "tiny",
        task="detection",
        data="shapes:train?n=4",
        val="shapes:test?n=2",
        out=tmp_path / "run",
        steps=2,
        verbose=False,
    )
    run.model.export(tmp_path / "out")
    metadata, text = front((tmp_path / "out" / "README.md").read_text(encoding="utf-8"))
    assert metadata == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "base_model": "tiny",
        "tags": ["mmtune", "detection"],
    }
    told = dict(
        line.strip("| ").split(" | ") for line in text.splitlines() if line.count(" | ") == 1 and line.strip("| ")
    )
    assert told["data"] == "shapes:train?n=4"
    assert told["steps"] == "2"
    assert told["what was trained"] == "an adapter of rank 8"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    for name in ("AP", "AP50", "AR100"):
        assert told[name] == ("-" if metrics[name] == -1 else f"{metrics[name]:.4g}")
    assert "per_class" not in text
    assert 'AutoModelForImageTextToText.from_pretrained("out")' in text
    assert 'AutoProcessor.from_pretrained("out")' in text
    assert f'text="<image>detect {" ; ".join(run.model.setup.classes)}"' in text
    assert f"max_new_tokens={run.model.setup.max_tokens}" in text


@pytest.mark.parametrize(
    ("setup", "prompt"),
    [
        (None, "caption en"),
        (Setup("vqa", options={"lang": "de"}), "answer de What is shown?"),
        (Setup("captioning", options={"lang": "fr", "prompt": "describe"}), "describe fr"),
        (Setup("segmentation", ("a cat", 'the "x"')), 'segment a cat ; the \\"x\\"'),
    ],
)
def test_a_picture_is_asked_about_as_the_model_was_taught(setup, prompt):
    model = Model(make("paligemma", vocabulary_size=2176), tiny_tokenizer(), name="tiny", setup=setup)
    assert f'text="<image>{prompt}"' in model_card(model, "hf", "out")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("hf", ["AutoModelForCausalLM", "AutoTokenizer", 'mmtune.load("out")']),
        ("keras", ['from_preset("out")']),
        ("int4", ["weights in int4", 'mmtune.load("out")']),
        ("peft", ["An adapter for Gemma", 'PeftModel.from_pretrained(base, "out")', "base: org/base"]),
    ],
)
def test_every_format_says_how_it_is_used(form, words):
    tokenizer = chat_tokenizer("gemma")
    model = Model(make("gemma", vocabulary_size=tokenizer.vocabulary_size), tokenizer, name="hf://org/base@main")
    metadata, text = front(model_card(model, form, "out"))
    assert metadata["base_model"] == "org/base"
    assert metadata["pipeline_tag"] == "text-generation"
    for word in words:
        assert word in text
    assert "{" not in text
    assert "Training" not in text
