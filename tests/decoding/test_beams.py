"""Beams of several rows: each as if it were alone, with the probabilities that the model gives them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.decoding.generate import generate
from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.sampling import Sampler
from mmtune.decoding.score import score
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables, values

pytestmark = pytest.mark.usefixtures("quick_compiles")
BEAMS = Sampler(beams=3)
MOST = 12


@functools.cache
def model():
    """A thirteenth of the vocabulary ends an answer, so that lengths differ widely."""
    backbone = make("gemma2")
    stops = tuple(range(2, 256, 13))
    return Weights(values(model_variables(backbone)), read_spec(backbone), NO_ADAPTER, jnp.float32, 1, 0, stops)


@functools.cache
def answers():
    rng = np.random.default_rng(3)
    asked = [Request(rng.integers(2, 256, rng.integers(1, 16)).tolist(), row=row) for row in range(8)]
    return asked, generate(model(), asked, max_tokens=MOST, sampler=BEAMS)


def test_a_row_of_a_batch_is_searched_as_if_alone():
    asked, together = answers()
    alone = [generate(model(), [request], max_tokens=MOST, sampler=BEAMS)[0] for request in asked]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]
    assert len({len(answer.ids) for answer in together}) > 2


def test_log_probabilities_are_those_of_a_scoring_pass():
    asked, found = answers()
    for answer, logprobs in zip(found, score(model(), asked, [answer.ids for answer in found]), strict=True):
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-4)
