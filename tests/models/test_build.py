"""Backbones without values: they stay so, whatever is built after them."""

import numpy as np
from backbones import make

from mmtune.models.build import build_backbone
from mmtune.models.spec import read_spec


def test_what_is_built_later_gives_them_no_values():
    spec = read_spec(make("paligemma2"))
    empty = build_backbone(spec, "bfloat16")
    assert read_spec(empty) == spec
    table = empty.token_embedding.embeddings
    table.assign(np.ones(table.shape))
    # Keras would now fill whatever still waits for values, and fail at what has some.
    make("gemma2")
    make("llama3")
    assert np.all(np.asarray(table, np.float32) == 1)
    assert all(variable._value is None for variable in empty.weights if variable is not table)
