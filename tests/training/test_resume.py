"""A run killed in its middle and resumed ends with the very adapter of a run never killed."""

import csv
import os
import signal
import subprocess
import sys
import time

STEPS = 12
RUN = [
    *(sys.executable, "-m", "mmtune", "train", "--task", "detection", "--model", "tiny", "--batch-size", "2"),
    *("--data", "shapes:train?n=14&seed=3&max_objects=3", "--val", "shapes:val?n=2&max_objects=2"),
    *("--steps", str(STEPS), "--lora-rank", "4"),
    # Dropout, augmentation and noise boxes all draw random numbers: a resumed run must draw the same ones.
    *("--set", "lora.dropout=0.1", "augment.flip=0.5", "augment.crop=0.5", "options.noise_boxes=4", "eval_every=6"),
    *("save_every=3", "log_every=1", "buckets=2", "optimizer.accumulation=2"),
]


def losses(folder):
    with (folder / "log.csv").open() as file:
        return {row["step"]: row["loss"] for row in csv.DictReader(file) if row["loss"]}


def test_kill_and_resume_is_byte_equal(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*RUN, "--out", str(whole)], check=True, capture_output=True)

    process = subprocess.Popen([*RUN, "--out", str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (cut / "checkpoints" / "6").is_dir() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (cut / "adapter.safetensors").exists()

    resume = [sys.executable, "-m", "mmtune", "train", "--out", str(cut), "--resume"]
    again = subprocess.run(resume, check=True, capture_output=True, text=True)
    assert "resumed at step" in again.stderr
    assert (cut / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()
    assert losses(cut) == losses(whole)
    assert len(losses(cut)) == STEPS
    assert not list(tmp_path.rglob("*.tmp"))

    # Asked once more, a finished run has nothing left to do and stays as it is.
    subprocess.run(resume, check=True, capture_output=True)
    assert (cut / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()
