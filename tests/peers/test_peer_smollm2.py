"""SmolLM2-135M-Instruct from a GGUF file against transformers, and fine-tuned by the recipe for instruction tuning.

MMTUNE_SMOLLM2 names the file, as `benchmarks/smollm2.py` says where it comes from.
"""

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import smollm2

NAME = "MMTUNE_SMOLLM2"
FILE = Path(os.environ.get(NAME, ""))

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(NAME not in os.environ, reason=f"{NAME} does not name SmolLM2-135M-Instruct as a GGUF file"),
]

ALL_EQUAL = f"{len(smollm2.PROMPTS)} of {len(smollm2.PROMPTS)}"


def test_it_answers(tmp_path):
    for question, text in smollm2.asked(FILE, tmp_path).items():
        assert "Paris" in text, question


def test_texts_have_the_ids_of_its_own_vocabulary(tmp_path):
    found = smollm2.tokens(FILE, tmp_path)
    assert (found["texts"], found["other ids"], found["not read back"]) == (1000, 0, 0)
    assert found["other ids without the split of digits"] > 100  # guards the line above


def test_logits(tmp_path):
    assert smollm2.logits(FILE, tmp_path)["largest difference"] <= 1e-3


def test_greedy_answers(tmp_path):
    (found,) = smollm2.greedy(FILE, tmp_path).values()
    assert found.startswith(ALL_EQUAL)


def test_export(tmp_path):
    for found in smollm2.export(FILE, tmp_path).values():
        assert found.startswith(ALL_EQUAL)


@pytest.mark.soak
def test_a_style_is_learned_and_no_fact_lost(tmp_path):
    found = smollm2.tuned(FILE, tmp_path)
    before, after = map(float, found["held-out perplexity"].split(" -> "))
    assert after < before / 10
    _, (styled, answers) = fractions(found["held-out answers in the style"])
    assert styled >= 0.95 * answers
    (right, asked), (left, _) = fractions(found["known answers right"])
    assert right == asked == left
    assert found["peak GiB"] <= 4


def fractions(text):
    """Returns the two fractions of "0/60 -> 58/60", each as two numbers."""
    return [(int(one), int(other)) for one, other in re.findall(r"(\d+)/(\d+)", text)]
