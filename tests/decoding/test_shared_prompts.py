"""Which requests share a row: the same picture and the same prompt, and no others."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.decoding import opening
from mmtune.decoding.requests import Request
from mmtune.decoding.sampling import Sampler, choose
from mmtune.decoding.score import _packed

CAT, DOG = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)


def test_an_opening_is_that_of_its_picture_and_prompt(monkeypatch):
    monkeypatch.setattr(opening, "prefill", lambda *args, **_: {"ids": args[3], "seen": args[2]})
    asked = [Request([5], CAT), Request([5], DOG), Request([6], CAT), Request([5], CAT), Request([6], CAT)]
    asked += [Request([5], DOG)] * 3
    seen = jnp.asarray([[float(request.image is DOG)] for request in asked])
    weights = SimpleNamespace(pad=0, tree=None, spec=None, adapter=None, dtype=None)
    prefix = opening.read(weights, asked, seen, 4)
    assert prefix["ids"][:, 0].tolist() == [request.prompt[0] for request in asked]
    assert prefix["seen"].tolist() == seen.tolist()


def test_answers_share_a_row_for_one_picture_and_prompt():
    asked = [Request([5], CAT), Request([5], CAT), Request([6], CAT), Request([6], DOG), Request([6]), Request([6])]
    rows = _packed(asked, [[n] for n in range(6)])
    assert [(row.prefix, row.image is CAT, row.suffixes) for row in rows] == [
        ([5], True, [[0], [1]]),
        ([6], True, [[2]]),
        ([6], False, [[3]]),
        ([6], False, [[4], [5]]),
    ]


def test_each_token_of_an_answer_is_drawn_anew():
    logits = jnp.log(jnp.tile(jnp.asarray([[0.5, 0.3, 0.2]]), (2000, 1)))
    keys = jnp.broadcast_to(jax.random.key(3), 2000)
    drawn = np.asarray(choose(logits, Sampler(temperature=1.0), keys, jnp.arange(2000)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 2000, [0.5, 0.3, 0.2], atol=0.05)
