"""Prompts are those that the tasks' adapters ask with."""

from types import SimpleNamespace

import pytest

from mmtune.demos.prompts import TASKS, build_prompt
from mmtune.errors import UsageError
from mmtune.model import Setup
from mmtune.registry import task_names


def test_every_task_is_there():
    assert set(TASKS) == set(task_names())


@pytest.mark.parametrize(
    ("task", "given", "prompt"),
    [
        ("detection", {"classes": ["cat", "red blood cell", "cat"]}, "detect cat ; red blood cell"),
        ("segmentation", {"classes": ["cat"]}, "segment cat"),
        ("captioning", {"language": "de"}, "caption de"),
        ("vqa", {"question": "how many\ncats?", "language": "es"}, "answer es how many cats?"),
        ("ocr", {}, "ocr"),
        ("instruct", {"question": "what is up?"}, "what is up?"),
        ("detection", {}, ""),
        ("segmentation", {"classes": ()}, ""),
        ("vqa", {"question": "  "}, ""),
        ("instruct", {}, ""),
    ],
)
def test_prompts(task, given, prompt):
    assert build_prompt(task, **given) == prompt


@pytest.mark.parametrize("label", ["", " cat", "a\nb", "<loc0001>", "cat ;"])
def test_labels_that_cannot_be_asked_for_are_said(label):
    with pytest.raises(UsageError, match="label"):
        build_prompt("detection", classes=["dog", label])


def test_a_model_is_asked_as_it_was_taught():
    taught = SimpleNamespace(setup=Setup("captioning", options={"prompt": "describe"}))
    assert build_prompt("captioning", model=taught, language="fr") == "describe fr"
    assert build_prompt("ocr", model=taught) == "ocr"


def test_one_prompt_is_shown_where_one_a_class_was_taught():
    taught = SimpleNamespace(setup=Setup("detection", ("a", "b"), {"prompt": "per_class"}))
    assert build_prompt("detection", model=taught, classes=("a", "b")) == "detect a ; b"
