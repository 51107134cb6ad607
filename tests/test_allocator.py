"""Tuning malloc: large buffers are kept, and the switches that turn it off."""

import os
import subprocess
import sys

import pytest

# Page faults of a large buffer that XLA's own threads ask for in most steps, after the first ones: on a busy machine
# another thread may serve one of them, whose arena does not have the buffer yet.
FAULTS = """
import resource
import mmtune
import jax, jax.numpy as jnp
f = jax.jit(lambda x: jnp.tanh(jnp.sin(x) @ jnp.cos(x).T) @ x)
x = jnp.ones((4000, 8))
for _ in range(5):
    f(x).block_until_ready()
counts = []
for _ in range(11):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(counts)[5])
"""


def faults(**environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "MMTUNE_MALLOC"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=kept | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is tuned")
def test_large_buffers_are_kept_and_a_switch_turns_that_off():
    buffer = 4000 * 4000 * 4 // os.sysconf("SC_PAGESIZE")
    assert faults() < buffer / 4
    assert faults(MMTUNE_MALLOC="0") > buffer / 2
