"""Two processes that are set up wrongly end in seconds, both, with a sentence that says what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from setups import SETUPS, ends, free_port

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("api_program.py")


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_what_is_wrong_is_said(tmp_path, setup):
    found = ends(tmp_path, setup)
    codes = tuple(ended.code for _, ended in sorted(found.items()))
    said = "\n".join(ended.errors for _, ended in sorted(found.items()))
    if setup.name == "no launcher joins them, one folder":
        codes = tuple(sorted(codes))  # whichever comes first
    assert codes == setup.code, said[-3000:]
    for text in setup.says:
        assert text in said, said[-3000:]
    assert "Traceback" not in said
    assert "Gloo" not in said
    assert "    @ " not in said, "a stack of the C++ library"
    if setup.code == (2, 2):
        assert not (tmp_path / "run" / "recipe.toml").exists(), "a run began"


@pytest.mark.parametrize("seeds", ["00", "07"])
def test_a_program_that_joins_the_processes_itself(tmp_path, seeds):
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, port, str(index), seed, str(tmp_path / "run")],
            env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index, seed in enumerate(seeds)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    for text in said:
        if seeds == "00":
            assert f"trained {tmp_path / 'run'}" in text
        else:
            assert "the processes differ in seed: 0 in process 0; 7 in process 1" in text
    assert (tmp_path / "run" / "metrics.json").is_file() == (seeds == "00")
