"""Where compiled programs are kept, and that a second process finds them there."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import mmtune
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.tanh(x @ x.T).sum())(jnp.ones((50, 50))).block_until_ready()
print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)
"""


def said(**changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "MMTUNE"))}
    environment = kept | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | changes
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert "Error" not in done.stderr
    return done.stdout.split()


def test_a_second_process_finds_what_the_first_has_compiled(tmp_path):
    folder = tmp_path / "mmtune" / "compiled"
    written = []
    for _ in range(2):
        assert said(XDG_CACHE_HOME=str(tmp_path)) == [str(folder), str(4 * 2**30)]
        written.append({file.name: file.stat().st_mtime_ns for file in folder.glob("jit*-cache")})
    assert len(written[0]) > 0
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changes", "folder"),
    [({"MMTUNE_COMPILED": "0"}, "None"), ({"JAX_COMPILATION_CACHE_DIR": "{}/mine"}, "{}/mine")],
)
def test_it_is_turned_off_and_left_to_the_environment(tmp_path, changes, folder):
    changes = {name: value.format(tmp_path) for name, value in changes.items()}
    assert said(XDG_CACHE_HOME=str(tmp_path / "cache"), **changes)[0] == folder.format(tmp_path)
    assert not (tmp_path / "cache").exists()
