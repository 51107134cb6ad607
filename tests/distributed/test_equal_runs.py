"""Several processes train as one process with all their devices does, whatever ends them and however they go on."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[1] / "training" / "cut_program.py"
DEVICES = 8
STEPS = 12  # JAX takes some of them to let all processes agree on the one to stop after
RUN = ["--task", "detection", "--data", "shapes:train?n=20&max_objects=2", "--batch-size", "4", "--lora-rank", "4"]
RUN += ["--val", "shapes:val?n=5&max_objects=2", "--steps", str(STEPS), "--mesh", "data=4,model=2"]
RUN += ["--set", "buckets=1", "log_every=1", "save_every=2", "eval_every=3"]
RUN += ["optimizer.accumulation=4", "optimizer.average=tokens"]


def started(count, *words, cut=0):
    """Returns the processes of one run; the first sends itself SIGTERM after the step `cut`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // count}"}
    environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    environment |= {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(0 if number else cut), "train", *map(str, words)],
            env=environment | {"JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def finished(processes, code=0):
    """Returns what each process printed and its steps: [step, loss, records] each. All exit with the code."""
    said = [process.communicate(timeout=900) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == code, errors[-3000:]
    told = [[json.loads(line)["steps"] for line in out.splitlines() if line.startswith('{"steps"')] for out, _ in said]
    return [errors for _, errors in said], [max(lists, key=len) for lists in told]


def together(parts):
    """Returns the losses of some processes' steps, which must be the same, and the records of the whole batches."""
    losses = np.array([[loss for _, loss, _ in steps] for steps in parts])
    assert (losses == losses[0]).all()
    shares = zip(*[[step[2] for step in steps] for steps in parts], strict=True)
    return losses[0], [list(itertools.chain.from_iterable(records)) for records in shares]


def measured(folder):
    """Returns the metrics by name; those of classes as "class/name"."""
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    classes = metrics.pop("per_class")
    return metrics | {f"{label}/{name}": value for label, of in classes.items() for name, value in of.items()}


def same_numbers(one, other):
    assert one == pytest.approx(other, abs=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of one process with all devices: its folder, losses and records."""
    folder = tmp_path_factory.mktemp("hosts") / "whole"
    _, steps = finished(started(1, *RUN, "--out", folder))
    return folder, *together(steps)


def test_two_processes_stopped_and_resumed_by_one(tmp_path, whole):
    out = tmp_path / "run"
    said, steps = finished(started(2, *RUN, "--out", out, cut=4), code=143)
    losses, records = together(steps)
    assert all(len(record_ids) == 2 for process in steps for *_, record_ids in process)  # half of each batch
    stopped = int(re.search(rf"stopped by SIGTERM at step (\d+) of {STEPS}", said[0])[1])
    assert len(losses) == stopped >= 4
    assert "stopped" not in said[1]
    assert "trainable" not in said[1]
    assert records == whole[2][:stopped]
    assert np.abs(losses - whole[1][:stopped]).max() <= 1e-5

    _, steps = finished(started(1, "--out", out, "--resume"))
    rest, records = together(steps)
    assert records == whole[2][stopped:]
    assert np.abs(rest - whole[1][stopped:]).max(initial=0) <= 1e-5
    same_numbers(measured(out), measured(whole[0]))


def trained(out, processes, step):
    """Waits until a run has logged a step."""
    log = out / "log.csv"
    until = time.monotonic() + 300
    while time.monotonic() < until and all(process.poll() is None for process in processes):
        if log.is_file() and any(line.split(",")[0] == str(step) for line in log.read_text().splitlines()):
            return
        time.sleep(0.02)
    raise AssertionError([process.communicate() for process in processes])


def worker_of(process):
    """Returns the id of the process that trains for a command."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def goes_on_to_the_same(out, whole, count, *words):
    """Resumes a run with so many processes, to the losses and metrics of the whole one."""
    _, steps = finished(started(count, "--out", out, "--resume", *words))
    losses, records = together(steps)
    assert records == whole[2][len(whole[2]) - len(losses) :]
    assert np.abs(losses - whole[1][len(whole[1]) - len(losses) :]).max(initial=0) <= 1e-5
    same_numbers(measured(out), measured(whole[0]))


@pytest.mark.parametrize(
    ("count", "victim", "of"),
    [(2, 0, "command"), (2, 1, "command"), (2, 0, "worker"), (2, 1, "worker"), (4, 2, "command")],
)
def test_a_process_that_dies_ends_the_others(tmp_path, whole, count, victim, of):
    out = tmp_path / "run"
    processes = started(count, *RUN, "--out", out)
    trained(out, processes, 3)
    killed = processes[victim]
    os.kill(killed.pid if of == "command" else worker_of(killed), signal.SIGKILL)
    began = time.monotonic()
    for index, process in enumerate(processes):
        errors = process.communicate(timeout=120)[1]
        if process is killed and of == "command":
            continue
        assert process.returncode == 1, errors[-3000:]
        said = "is gone: it was killed, or its machine" if of == "command" else "was ended by SIGKILL"
        where = f"process {victim} of {count} on {socket.gethostname()}"
        assert f"mmtune: {where} {said}" in errors, (index, errors[-3000:])
        assert "start all of them again with --resume" in errors
        assert "Traceback" not in errors
        assert "    @ " not in errors
    print(f"{of} {victim} of {count} killed: all had ended after {time.monotonic() - began:.1f} s")
    goes_on_to_the_same(out, whole, 4 if count == 2 else 2)


@pytest.mark.parametrize("told", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_stops_all(tmp_path, whole, told, number):
    out = tmp_path / "run"
    processes = started(2, *RUN, "--out", out)
    trained(out, processes, 1)
    processes[told].send_signal(number)
    said, steps = finished(processes, code=128 + number)
    losses, records = together(steps)
    name = signal.Signals(number).name
    assert re.search(rf"stopped by {name} at step {len(losses)} of {STEPS}, and kept", said[0])
    assert records == whole[2][: len(records)]
    goes_on_to_the_same(out, whole, 1, "--mesh", "data=2,model=4")


def test_a_signal_in_an_evaluation_leaves_it_for_later(tmp_path, whole):
    """The evaluation after step 3 of all is left; the run that goes on makes it up."""
    out = tmp_path / "run"
    many = [word.replace("val?n=5", "val?n=1500") for word in RUN]
    processes = started(2, *many, "--out", out)
    trained(out, processes, 3)
    time.sleep(1)  # an evaluation of 1,500 records takes longer
    began = time.monotonic()
    processes[1].send_signal(signal.SIGTERM)
    said, steps = finished(processes, code=143)
    print(f"stopped in an evaluation after {time.monotonic() - began:.1f} s")
    assert f"stopped by SIGTERM at step 3 of {STEPS}, and kept" in said[0]
    assert (out / "checkpoints" / "3").is_dir()
    assert together(steps)[1] == whole[2][:3]


def test_a_worker_that_hangs_is_not_waited_for_when_stopped(tmp_path):
    out = tmp_path / "run"
    processes = started(2, *RUN, "--out", out, "--steps", "300")
    trained(out, processes, 3)
    os.kill(worker_of(processes[0]), signal.SIGSTOP)
    began = time.monotonic()
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 143, errors[-3000:]
        assert re.search("stopped by SIGTERM, and (no step ended within|process 0 does not answer)", errors)
    print(f"ended after {time.monotonic() - began:.1f} s")


def test_a_run_that_makes_no_progress_ends(tmp_path):
    out = tmp_path / "run"
    steps = ["--steps", "300", "--set", "eval_every=300", "save_every=300"]
    processes = started(2, *RUN, "--out", out, *steps, "--wait-seconds", "15")
    trained(out, processes, 3)
    os.kill(worker_of(processes[1]), signal.SIGSTOP)
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 1
        assert "made no progress for 15 s (--wait-seconds; step " in errors
        assert "start all of them again with --resume" in errors


def test_a_process_that_does_not_answer_is_named(tmp_path):
    out = tmp_path / "run"
    processes = started(2, *RUN, "--out", out, "--steps", "300")
    trained(out, processes, 3)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        errors = processes[0].communicate(timeout=120)[1]
        assert processes[0].returncode == 1
        assert f"process 1 of 2 on {socket.gethostname()} was not heard of for 30 seconds" in errors
    finally:
        processes[1].send_signal(signal.SIGCONT)
        assert processes[1].wait(60) == 1


@pytest.mark.parametrize("told", [0, 1])
def test_a_process_that_waits_for_the_others_is_stopped_at_once(tmp_path, told):
    processes = started(2, *RUN, "--out", tmp_path / "run")
    other = processes.pop(1 - told)
    other.kill()
    other.communicate()
    time.sleep(3)
    processes[0].send_signal(signal.SIGTERM)
    errors = processes[0].communicate(timeout=10)[1]
    assert processes[0].returncode == 143
    assert "stopped by SIGTERM before all processes had come" in errors
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_used_end_all_with_a_sentence(tmp_path):
    data = tmp_path / "broken.jsonl"
    data.write_text('{"image": "nothing.png", "prefix": "detect cat", "suffix": ""}\n')
    words = [word if not word.startswith("shapes:train") else str(data) for word in RUN]
    processes = started(2, *words, "--out", tmp_path / "run")
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 2, errors[-3000:]
        assert errors.count("training pictures can be opened") + errors.count("expected") >= 1
        assert "Traceback" not in errors
