"""Which random numbers an answer is drawn with: those of its record's number, however records are chunked."""

import pytest
from backbones import make

import mmtune
import mmtune.evaluation as evaluation
from mmtune.decoding.requests import Decoded
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.registry import task_class


@pytest.mark.parametrize("size", [1, 2, 5])
def test_answers_are_numbered_through_all_chunks(monkeypatch, size):
    asked = []

    def generate(_, requests, **__):
        asked.extend(request.row for request in requests)
        return [Decoded((tiny_tokenizer().eos,), (0.0,)) for _ in requests]

    monkeypatch.setattr(evaluation, "generate", generate)
    monkeypatch.setattr("mmtune.opening.chunk_size", lambda *_: size)
    model = Model(make("paligemma", vocabulary_size=2176, num_layers=1), tiny_tokenizer(), name="small")
    data = mmtune.read("shapes:val?n=5", task="captioning")
    found = evaluation.evaluate_records(model, task_class("captioning")(), list(data))
    assert len(found.predictions) == 5
    assert asked == [number * evaluation.QUERIES for number in range(5)]
