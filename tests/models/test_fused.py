"""Where attention is one kernel, and that it is the plain one elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmtune.models.fused import attend_all, has_kernel


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "expected"),
    [
        ("9.0", jnp.bfloat16, 72, True),
        ("8.0", jnp.float16, 128, True),
        ("12.0", jnp.dtype("bfloat16"), 64, True),
        ("7.5", jnp.bfloat16, 72, False),
        ("9.0", jnp.float32, 72, False),
        ("9.0", jnp.bfloat16, 36, False),
        ("9.0", jnp.bfloat16, 256, False),
        ("", jnp.bfloat16, 72, False),
    ],
)
def test_the_kernel_is_used_where_there_is_one(monkeypatch, capability, dtype, width, expected):
    monkeypatch.delenv("MMTUNE_FUSED", raising=False)
    assert has_kernel(capability, dtype, width) is expected


def test_it_is_turned_off_by_the_environment(monkeypatch):
    monkeypatch.setenv("MMTUNE_FUSED", "0")
    assert not has_kernel("9.0", jnp.bfloat16, 72)


def test_attention_is_what_jax_says():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 10, 4, 8))
    expected = jax.nn.dot_product_attention(query, key, value)
    np.testing.assert_allclose(attend_all(query, key, value), expected, atol=1e-6)
