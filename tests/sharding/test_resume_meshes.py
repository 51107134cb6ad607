"""A run that goes on with other devices: the same losses on the same records, none of them twice and none left out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("quick_compiles")

PROGRAM = Path(__file__).parents[1] / "training" / "cut_program.py"
STEPS = 9
RUN = ["--task", "detection", "--data", "shapes:train?n=20&max_objects=2", "--batch-size", "4", "--lora-rank", "4"]
RUN += ["--steps", str(STEPS), "--set", "buckets=2", "log_every=1", "save_every=100"]
# Updates of four, four and one batches, none of which ends where the run is cut.
RUN += ["optimizer.accumulation=4", "optimizer.average=tokens"]


def steps(devices, cut, *words):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, PROGRAM, str(cut), "train", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (143 if cut else 0), done.stderr[-3000:]
    assert ("stopped by SIGTERM at step" in done.stderr) == bool(cut)
    return json.loads(done.stdout.splitlines()[-1])["steps"]


def test_other_meshes_go_on_with_the_same_losses(tmp_path):
    whole = steps(1, 0, *RUN, "--out", tmp_path / "whole")
    again = ["--out", tmp_path / "run", "--resume"]
    parts = steps(8, 3, *RUN, "--out", tmp_path / "run", "--mesh", "data=2,model=4")
    parts += steps(4, 6, *again, "--mesh", "data=4,model=1")
    parts += steps(1, 0, *again, "--mesh", "data=1")
    assert [step for step, _, _ in parts] == list(range(1, STEPS + 1))
    assert [records for *_, records in parts] == [records for *_, records in whole]
    first_epoch = [record for *_, records in parts[:5] for record in records]
    assert len(set(first_epoch)) == len(first_epoch) == 20
    losses = [[loss for _, loss, _ in run] for run in (whole, parts)]
    assert np.abs(np.subtract(*losses)).max() <= 1e-5
