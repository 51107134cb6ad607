"""Records about which nothing can be asked are left out of an evaluation, and named."""

from dataclasses import replace

import pytest
from backbones import make

import mmtune
from mmtune.errors import DataError
from mmtune.evaluation import evaluate_records
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.predicting import task_for
from mmtune.tasks.segmentation import Segmentation, SegmentationOptions
from mmtune.tasks.vqa import VQA


@pytest.fixture(scope="module")
def model():
    return Model(make("paligemma", vocabulary_size=2176), tiny_tokenizer(), name="small")


@pytest.fixture(scope="module")
def questions():
    return list(mmtune.read("shapes:val?n=4&size=64&max_objects=2", task="vqa"))


def test_questions_without_text_are_faults(model, questions):
    first, second, third, fourth = questions
    records = [first, replace(second, prefix=None), third, replace(fourth, prefix=" \n")]
    found = evaluate_records(model, VQA(), records, max_tokens=2)
    assert [record.id for record in found.records] == [first.id, third.id]
    assert found.as_json()["n"] == 2
    assert [(fault.kind, fault.record, fault.file) for fault in found.faults] == [
        ("no prompt", record.id, record.source) for record in (second, fourth)
    ]
    assert found.faults[0].problem == (
        "expected a question (prefix), which the task vqa needs, found none; the record was left out"
    )
    alone = evaluate_records(model, VQA(), [first, third], max_tokens=2)
    assert found.predictions == alone.predictions
    assert found.metrics == alone.metrics


def test_a_data_set_without_any_question_is_one_message(model, questions):
    records = [replace(record, prefix=None) for record in questions]
    with pytest.raises(DataError, match="none of 4 records could be evaluated; the first: expected a question"):
        mmtune.evaluate(model, task="vqa", data=records, max_tokens=2, verbose=False)


def test_expressions(model):
    data = mmtune.read("shapes:val?n=3&size=64&max_objects=1", task="segmentation")
    said = [replace(record, prefix=prefix) for record, prefix in zip(data, ("the left one", None, ""), strict=True)]
    task = Segmentation(data.classes, SegmentationOptions(prompt="referring", codec="small"))
    found = evaluate_records(model, task, said)
    assert [record.prefix for record in found.records] == ["the left one"]
    assert [fault.kind for fault in found.faults] == ["no prompt", "no prompt"]
    assert "expected an expression (prefix) such as 'the left dog'" in found.faults[0].problem


@pytest.mark.parametrize("task", ["captioning", "ocr", "detection", "segmentation"])
def test_other_tasks_have_a_prompt_of_their_own(model, questions, task):
    adapter = task_for(model, task, ("circle",))
    assert adapter.unasked(replace(questions[0], prefix=None)) is None
