"""Several processes on this machine, each with devices of its own, train as one process with all of them does."""

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

from mmtune.cluster import find
from mmtune.errors import UsageError

PROGRAM = Path(__file__).parents[1] / "training" / "cut_program.py"
DEVICES = 8
STEPS = 6
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
    return [errors for _, errors in said], [json.loads(out.splitlines()[-1])["steps"] for out, _ in said]


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


@pytest.mark.soak
def test_two_processes_stopped_and_resumed_by_one(tmp_path, whole):
    out = tmp_path / "run"
    said, steps = finished(started(2, *RUN, "--out", out, cut=4), code=143)
    losses, records = together(steps)
    assert all(len(record_ids) == 2 for process in steps for *_, record_ids in process)  # half of each batch
    stopped = int(re.search(r"stopped by SIGTERM at step (\d) of 6", said[0])[1])
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


@pytest.mark.soak
@pytest.mark.parametrize("victim", [2, 0])
def test_a_process_that_dies_ends_the_others(tmp_path, whole, victim):
    out = tmp_path / "run"
    processes = started(4, *RUN, "--out", out)
    while not (out / "checkpoints" / "2").is_dir() and all(process.poll() is None for process in processes):
        time.sleep(0.02)
    os.kill(processes[victim].pid, signal.SIGKILL)
    killed = time.monotonic()
    processes.pop(victim).communicate()
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 1, errors[-3000:]
        assert f"mmtune: process {victim} of 4 on {socket.gethostname()} was not heard of for" in errors
    seconds = time.monotonic() - killed
    print(f"process {victim} killed: the others ended after {seconds:.1f} s")
    assert seconds < 60

    _, steps = finished(started(2, "--out", out, "--resume"))
    losses, records = together(steps)
    assert records == whole[2][-len(losses) :]
    assert np.abs(losses - whole[1][-len(losses) :]).max() <= 1e-5
    same_numbers(measured(out), measured(whole[0]))


ALONE = {
    "nothing": {},
    "one-of-one": {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    "batch-script": {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
    "one-task": {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1"},
    "one-tpu-host": {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
}
SEVERAL = {
    "srun": {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-8]", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"},
    "mpirun": {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9", "OMPI_COMM_WORLD_SIZE": "4"},
    "gke": {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"},
    "slices": {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"},
}


@pytest.mark.parametrize("name", ALONE)
def test_a_plain_run_joins_nobody(name):
    assert find(ALONE[name], lambda: 1) is None


@pytest.mark.parametrize("name", SEVERAL)
def test_schedulers(name):
    assert find(SEVERAL[name], lambda: 1) == {}


def test_the_variables_of_jax():
    given = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert find(given) == {"coordinator_address": "a:1", "num_processes": 4, "process_id": 3}
    for change, said in [
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID: expected 0 to 3, got 4"),
        ({"JAX_NUM_PROCESSES": "many"}, "JAX_NUM_PROCESSES: expected a whole number, got 'many'"),
    ]:
        with pytest.raises(UsageError, match=said):
            find(given | change)
    del given["JAX_PROCESS_ID"]
    with pytest.raises(UsageError, match="set JAX_NUM_PROCESSES and JAX_PROCESS_ID too"):
        find(given)


def test_a_tpu_pod_is_told_by_its_metadata():
    assert find({}, lambda: 4) == {}
