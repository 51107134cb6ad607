"""Thousands of mutated models end as a model or in one of our own errors, and take no more memory than is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broken_models import write_all
from fuzz_models import COUNTS, change_json, flip

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "whole").mkdir()
    (root / "work").mkdir()
    write_all(root / "whole")
    words = [sys.executable, str(HERE / "fuzz_models.py"), str(root / "whole"), str(root / "work")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", COUNTS)
def test_nothing_else_is_ever_raised(report, kind):
    found = report[kind]
    assert not found["others"], "\n".join(found["others"][:3])
    assert found["accepted"] + found["refused"] == COUNTS[kind]


@pytest.mark.parametrize("kind", COUNTS)
def test_mutations_are_neither_all_harmless_nor_all_fatal(report, kind):
    assert report[kind]["accepted"] >= 10
    assert report[kind]["refused"] > COUNTS[kind] / 2


def test_the_bound_on_memory_holds(report):
    assert report["bound"].startswith("MemoryError")


def test_mutations_are_those_of_their_seed():
    import random

    raw = json.dumps({"a": [1, {"b": "c"}], "d": 2.5}).encode()
    for change in (lambda rng: flip(rng, raw, 9), lambda rng: change_json(rng, raw)):
        made = [change(random.Random(seed)) for seed in range(200)]
        assert made == [change(random.Random(seed)) for seed in range(200)]
        assert len(set(made)) > 100
