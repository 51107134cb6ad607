"""Tuning malloc: large buffers are kept, and the switches that turn it off."""

import os
import subprocess
import sys
from pathlib import Path

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


def untuned() -> dict[str, str]:
    tuning = ("MALLOC_", "MMTUNE_MALLOC", "GLIBC_TUNABLES")
    return {name: value for name, value in os.environ.items() if not name.startswith(tuning)}


def faults(**environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=untuned() | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


BEGUN = """
import os, sys
from mmtune.allocator import begin_with_huge_pages
begin_with_huge_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES", "none"), *sys.argv[1:])
"""
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ON_REQUEST = pytest.mark.skipif(
    not (KERNEL.exists() and "[madvise]" in KERNEL.read_text()), reason="the kernel does not give huge pages on request"
)


@ON_REQUEST
@pytest.mark.parametrize(
    ("changes", "tunables"),
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "glibc.malloc.hugetlb=0"),
        ({"MMTUNE_MALLOC": "0"}, "none"),
        ({"MALLOC_ARENA_MAX": "2"}, "none"),
    ],
)
def test_a_command_begins_anew_in_the_same_process(changes, tunables):
    words = [sys.executable, "-c", BEGUN, "--set", "a b=1"]
    with subprocess.Popen(words, env=untuned() | changes, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0].split("\n")[0] == f"{process.pid} {tunables} --set a b=1"


@ON_REQUEST
def test_large_buffers_lie_in_huge_pages():
    buffer = 4000 * 4000 * 4 // os.sysconf("SC_PAGESIZE")
    assert faults(GLIBC_TUNABLES="glibc.malloc.hugetlb=1") < buffer / 4


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is tuned")
def test_large_buffers_are_kept_and_a_switch_turns_that_off():
    buffer = 4000 * 4000 * 4 // os.sysconf("SC_PAGESIZE")
    assert faults() < buffer / 4
    assert faults(MMTUNE_MALLOC="0") > buffer / 2
