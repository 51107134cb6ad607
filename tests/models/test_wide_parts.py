"""What is computed in float32 whatever the precision of the rest: norms, softmax, rotations, logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.data.batch import Row, collate
from mmtune.models.forward import attend, rms_norm
from mmtune.models.scorer import target_logits
from mmtune.models.spec import read_spec
from mmtune.models.vision import layer_norm
from mmtune.models.weights import model_variables, values

HALF_ULP = 2.0**-8  # of bfloat16, relative to the number


def batch(sees):
    image = np.zeros((28, 28, 3), np.uint8) if sees else None
    return collate([Row([2, 9, 4], [[7, 8, 1]], [[1.0] * 3], image)], 4 if sees else 0)[0]


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("family", ["paligemma2", "gemma2", "llama3"])
def test_norms_softmax_rotations_and_logits_are_computed_in_float32(family):
    backbone = make(family, num_layers=2)
    spec, weights = read_spec(backbone), values(model_variables(backbone))
    run = partial(target_logits, spec=spec, dtype=jnp.bfloat16)
    traced = jax.make_jaxpr(lambda w, inputs: run(w, inputs=inputs))(weights, batch(spec.vision is not None))
    met = {"rsqrt": 0, "exp": 0, "cos": 0, "sin": 0}
    for equation in equations(traced.jaxpr):
        name = equation.primitive.name
        if name in met:
            met[name] += 1
            assert equation.invars[0].aval.dtype == jnp.float32, equation
        if name == "dot_general" and spec.text.vocabulary_size in equation.outvars[0].aval.shape:
            assert equation.outvars[0].aval.dtype == jnp.float32, equation
    layers = 2 + (spec.vision.num_layers if spec.vision else 0)
    assert met["rsqrt"] >= 2 * layers + 1
    assert met["exp"] >= layers
    assert met["cos"] >= 1
    # The rest is not: half of the memory and time would be lost.
    kinds = {e.outvars[0].aval.dtype for e in equations(traced.jaxpr) if e.primitive.name == "dot_general"}
    assert jnp.dtype(jnp.bfloat16) in kinds


def test_a_norm_of_bfloat16_is_off_by_its_last_rounding_alone():
    rng = np.random.default_rng(0)
    spec = read_spec(make("gemma2")).text
    x = jnp.asarray(rng.normal(0, 3, (64, 256)), jnp.bfloat16)
    scale = rng.normal(0, 0.3, 256).astype(np.float32)
    exact = np.asarray(x, np.float64)
    wanted = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + spec.norm_epsilon) * (1 + scale)
    found = np.asarray(rms_norm(x, jnp.asarray(scale), spec), np.float64)
    assert (np.abs(found - wanted) <= 1.01 * HALF_ULP * np.abs(wanted)).all()
    bias = rng.normal(0, 0.3, 256).astype(np.float32)
    centred = exact - exact.mean(-1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias
    found = np.asarray(layer_norm(x, {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}, 1e-6), np.float64)
    assert (np.abs(found - wanted) <= 1.01 * HALF_ULP * np.abs(wanted) + 1e-6).all()


def test_attention_in_bfloat16_adds_up_to_one():
    """With many keys a sum of shares in bfloat16 is off by per cents."""
    spec = read_spec(make("gemma", num_query_heads=1, num_key_value_heads=1)).text
    keys, width = 1024, spec.head_dim
    query = jnp.zeros((1, 1, 1, width), jnp.bfloat16)
    key = jnp.asarray(np.random.default_rng(0).normal(size=(1, keys, 1, width)), jnp.bfloat16)
    ones = jnp.ones((1, keys, 1, width), jnp.bfloat16)
    found = attend(query, key, ones, jnp.ones((1, 1, keys), bool), spec)
    np.testing.assert_allclose(np.asarray(found, np.float32), 1.0, atol=2 * HALF_ULP)
