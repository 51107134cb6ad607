"""Against the answer processor of lmms-eval, a copy of the official one.

lmms-eval needs far more than is wanted here: install it with `pip install --no-deps lmms-eval`.
"""

import importlib.util
from pathlib import Path

import pytest
from vqa_cases import PICKED, picked_cases, random_cases

from mmtune.metrics.vqa import vqa_accuracy
from mmtune.metrics.vqa_normalise import normalised, spaced

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def peer():
    """Its file is loaded by itself, without the package around it."""
    package = importlib.util.find_spec("lmms_eval")
    if package is None or not package.submodule_search_locations:
        pytest.skip("lmms-eval is not installed: pip install --no-deps lmms-eval")
    file = Path(next(iter(package.submodule_search_locations))) / "tasks" / "_task_utils" / "vqa_eval_metric.py"
    spec = importlib.util.spec_from_file_location("vqa_eval_metric", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EvalAIAnswerProcessor()


def processed(peer, text):
    return peer.process_digit_article(peer.process_punctuation(text))


def accuracy(peer, prediction, answers):
    """Leave-one-out, as the official code has it around the processor."""
    prediction, answers = spaced(prediction), [spaced(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = processed(peer, prediction), [processed(peer, answer) for answer in answers]
    numbered = list(enumerate(answers))
    shares = [
        min(1, sum(answer == prediction for other, answer in numbered if other != number) / 3) for number, _ in numbered
    ]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("answer", PICKED)
def test_normalised(peer, answer):
    assert normalised(spaced(answer)) == processed(peer, spaced(answer))


def test_accuracy(peer):
    for name, prediction, answers in (*picked_cases(), *random_cases(1000, seed=1)):
        assert vqa_accuracy(prediction, answers) == pytest.approx(accuracy(peer, prediction, answers), abs=1e-6), name


def test_long_texts_lose_as_many_full_stops(peer):
    text = ". ".join("abcdefgh" * 6)
    assert normalised(text) == processed(peer, text)
    assert "." in normalised(text)
