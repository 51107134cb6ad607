"""A run that is killed or stopped and resumed ends with the very adapter of a run that was never cut."""

import csv
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from default_signals import start

pytestmark = pytest.mark.usefixtures("quick_compiles")

STEPS = 12
TRAIN = [sys.executable, "-m", "mmtune", "train"]
RUN = [
    *(*TRAIN, "--task", "detection", "--model", "tiny", "--batch-size", "2"),
    *("--data", "shapes:train?n=14&seed=3&max_objects=3", "--val", "shapes:val?n=8&max_objects=2"),
    *("--steps", str(STEPS), "--lora-rank", "4"),
    # Dropout, augmentation and noise boxes all draw random numbers: a resumed run must draw the same ones.
    *("--set", "lora.dropout=0.1", "augment.flip=0.5", "augment.crop=0.5", "options.noise_boxes=4", "eval_every=6"),
    # Updates of five, five and two batches: most checkpoints are taken within one.
    *("save_every=3", "log_every=1", "buckets=2", "optimizer.accumulation=5", "optimizer.average=tokens"),
]


def rows(folder):
    if not (folder / "log.csv").is_file():
        return []
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def losses(folder):
    return {row["step"]: row["loss"] for row in rows(folder) if row["loss"]}


def adapter(folder):
    return (folder / "adapter.safetensors").read_bytes()


def resumed(folder):
    """Returns what a resumed run says that goes on to its end."""
    words = [*TRAIN, "--out", str(folder), "--resume"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stderr


def begun(folder, words=RUN):
    """Returns the process of a run that goes on to `folder`."""
    return start([*words, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until(process, true):
    deadline = time.monotonic() + 300
    while not true() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be cut"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody cut."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run([*RUN, "--out", str(folder)], check=True, capture_output=True)
    return folder


def test_the_same_seed_gives_the_same_bytes(tmp_path, whole):
    for seed in ("0", "1"):
        subprocess.run([*RUN, "--out", str(tmp_path / seed), "--seed", seed], check=True, capture_output=True)
    assert adapter(tmp_path / "0") == adapter(whole)
    assert adapter(tmp_path / "1") != adapter(whole)


def test_kill_and_resume_is_byte_equal(tmp_path, whole):
    cut = tmp_path / "cut"
    process = begun(cut)
    wait_until(process, lambda: (cut / "checkpoints" / "6").is_dir())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (cut / "adapter.safetensors").exists()

    assert "resumed at step" in resumed(cut)
    assert adapter(cut) == adapter(whole)
    assert losses(cut) == losses(whole)
    assert len(losses(cut)) == STEPS
    assert not list(tmp_path.rglob("*.tmp"))

    # Asked once more, a finished run has nothing left to do and stays as it is.
    resumed(cut)
    assert adapter(cut) == adapter(whole)


def stopped(folder, when, number=signal.SIGTERM, words=RUN):
    """Starts a run or goes on with one, sends it a signal when it is time, and returns what it says."""
    process = begun(folder, words)
    wait_until(process, when)
    os.kill(process.pid, number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number, said
    assert f"stopped by {number.name} at step" in said
    assert said.splitlines()[-1] == f"mmtune train --out {folder} --resume"
    assert "Traceback" not in said
    return said


def test_sigterm_saves_and_says_how_to_go_on(tmp_path, whole):
    cut = tmp_path / "cut"
    said = stopped(cut, lambda: "1" in losses(cut))
    step = int(said.split(" at step ")[1].split()[0])
    assert (cut / "checkpoints" / str(step)).is_dir()
    assert f"resumed at step {step}" in resumed(cut)
    assert adapter(cut) == adapter(whole)
    assert losses(cut) == losses(whole)


def test_a_signal_ends_an_evaluation_which_is_made_up_for(tmp_path, whole):
    cut, again = tmp_path / "cut", [*TRAIN, "--resume"]

    def metrics():
        return [row["step"] for row in rows(cut) if row["AP"]]

    # The row of step 6 is written before its evaluation begins; then the evaluation after the last step.
    assert "at step 6 of 12" in stopped(cut, lambda: "6" in losses(cut))
    assert metrics() == []
    assert "at step 12 of 12" in stopped(cut, lambda: "12" in losses(cut), signal.SIGINT, again)
    assert metrics() == ["6"]
    # The evaluation of all records that the finished weights get.
    assert "at step 12 of 12" in stopped(cut, lambda: (cut / "adapter.safetensors").is_file(), signal.SIGHUP, again)
    assert metrics() == ["6", "12"]
    resumed(cut)
    assert adapter(cut) == adapter(whole)
    read = [(folder / "metrics.json").read_text().split('"seconds"')[0] for folder in (cut, whole)]
    assert read[0] == read[1]


# The last words count: longer, saved at every other step.
LONG = [*RUN, "steps=160", "eval_every=40", "save_every=2"]
KILLS = int(os.environ.get("MMTUNE_KILLS", "30"))
STOPS = int(os.environ.get("MMTUNE_STOPS", "10"))


@pytest.fixture(scope="module")
def long_whole(tmp_path_factory):
    """The folder of a long run that nobody cut."""
    folder = tmp_path_factory.mktemp("runs") / "long"
    subprocess.run([*LONG, "--out", str(folder)], check=True, capture_output=True)
    return folder


def words_on(folder):
    """Returns the command that begins the long run, or goes on with it."""
    return [*TRAIN, "--resume"] if folder.is_dir() else LONG


@pytest.mark.soak
@pytest.mark.parametrize("kills", [KILLS])
def test_many_kills_at_random_moments(tmp_path, long_whole, kills):
    """They are spread over the whole run; every third meets a checkpoint that is being written."""
    cut = tmp_path / "cut"
    moments, steps = random.Random(0), []
    for number, moment in enumerate(sorted(moments.sample(range(1, 150), kills))):
        process = begun(cut, words_on(cut))
        wanted = max(moment, len(losses(cut)) + 1)
        wait_until(process, lambda wanted=wanted: len(losses(cut)) >= wanted)
        if number % 3 == 0:
            wait_until(process, lambda: list(cut.glob("checkpoints/*.orbax-checkpoint-tmp")))
        else:
            time.sleep(moments.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over before its last kill"
        steps.append(len(losses(cut)))
    resumed(cut)
    print(f"killed {kills} times, at the steps {steps}")
    assert adapter(cut) == adapter(long_whole)
    assert losses(cut) == losses(long_whole)


@pytest.mark.soak
@pytest.mark.parametrize("stops", [STOPS])
def test_many_stops_at_random_moments(tmp_path, long_whole, stops):
    cut = tmp_path / "cut"
    moments, steps = random.Random(1), []
    for _ in range(stops):
        wanted = len(losses(cut)) + moments.randint(1, 10)
        said = stopped(cut, lambda wanted=wanted: len(losses(cut)) >= wanted, words=words_on(cut))
        steps.append(int(said.split(" at step ")[-1].split()[0]))
        # What was trained up to the signal is kept, to the step.
        assert (cut / "checkpoints" / str(steps[-1])).is_dir()
        assert len(losses(cut)) == steps[-1]
    resumed(cut)
    print(f"stopped {stops} times, at the steps {steps}")
    assert adapter(cut) == adapter(long_whole)
    assert losses(cut) == losses(long_whole)
