"""Set-ups of two processes with something wrong, and the table of what becomes of them.

    PYTHONPATH=tests/distributed python tests/distributed/setups.py [NAME ...]

Each runs the real command twice on this machine, with four simulated devices a process.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

STEPS = 6
RUN = ["train", "--task", "detection", "--data", "shapes:train?n=20&max_objects=2", "--batch-size", "4"]
RUN += ["--lora-rank", "4", "--val", "shapes:val?n=5&max_objects=2", "--steps", str(STEPS), "--mesh", "data=4,model=2"]
RUN += ["--set", "buckets=1", "log_every=1", "save_every=2", "eval_every=3"]
AT_MOST = 300


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code.
        errors: What it printed to standard error.
        seconds: Until it ended.
    """

    code: int
    errors: str
    seconds: float


@dataclass
class Setup:
    """Two processes, and what is wrong with them.

    Attributes:
        name: What is wrong.
        says: What each process that is looked at must print.
        code: Exit code of each; one for both.
        environment: Variables of each process besides those that join them; None takes one away.
        words: Words of each command besides `RUN` and --out.
        prepare: Called with the folder; may return what is to be ended afterwards.
        apart: Whether each process has a working directory of its own.
        absent: Processes that are not started.
        common: Words of both commands.
    """

    name: str
    says: Sequence[str]
    code: tuple[int, ...] = (2, 2)
    environment: tuple[dict, dict] = ({}, {})
    words: tuple[list, list] = ([], [])
    prepare: "Callable[[Path, int], object] | None" = None
    apart: bool = False
    absent: tuple[int, ...] = ()
    common: list = field(default_factory=list)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(folder: Path, setup: Setup, port: int) -> dict[int, subprocess.Popen]:
    """Starts the processes of a set-up."""
    processes = {}
    for index in range(2):
        place = folder / f"host-{index}" if setup.apart else folder
        place.mkdir(exist_ok=True)
        if index in setup.absent:
            continue
        environment = os.environ | {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        }
        changes = setup.environment[index]
        environment |= {key: value and value.replace("{port}", str(port)) for key, value in changes.items()}
        processes[index] = subprocess.Popen(
            [sys.executable, "-m", "mmtune", *RUN, "--out", "run", *setup.common, *setup.words[index]],
            cwd=place,
            env={key: value for key, value in environment.items() if value is not None},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    return processes


def ends(folder: Path, setup: Setup) -> dict[int, Ended]:
    """Runs a set-up and returns how each process ended."""
    port = free_port()
    with ExitStack() as stack:
        if setup.prepare is not None and (closing := setup.prepare(folder, port)) is not None:
            stack.callback(closing)
        began = time.monotonic()
        processes = start(folder, setup, port)
        found = {}
        while len(found) < len(processes):
            for index, process in processes.items():
                if index not in found and process.poll() is not None:
                    found[index] = Ended(process.returncode, process.communicate()[1], time.monotonic() - began)
            if time.monotonic() - began > AT_MOST:
                for process in processes.values():
                    process.kill()
                raise AssertionError(f"{setup.name}: still running after {AT_MOST} s")
            time.sleep(0.05)
    return found


def listener(answer: bytes):
    """Returns what puts another program at the coordinator's port."""

    def prepare(folder, port):
        del folder
        program = (
            "import socket, sys\n"
            f"server = socket.create_server(('127.0.0.1', {port}))\n"
            "print('here', flush=True)\n"
            "while True:\n"
            "    connection, _ = server.accept()\n"
            f"    connection.sendall({answer!r})\n"
            "    connection.recv(99999)\n"
            "    connection.close()\n"
        )
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        other.stdout.readline()

        def end():
            other.kill()
            other.wait()

        return end

    return prepare


def two_models(folder, port):
    """Puts a checkpoint into each working directory, one of which has another embedding."""
    del port
    import numpy as np
    from safetensors.numpy import load_file, save_file

    import mmtune

    mmtune.load("tiny").export(folder / "host-0" / "model")
    shutil.copytree(folder / "host-0" / "model", folder / "host-1" / "model")
    file = folder / "host-1" / "model" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name] = np.asarray(tensors[name] * 1.5, tensors[name].dtype)
    save_file(tensors, file)
    shared(folder, 0)


def two_data_sets(folder, port):
    """Puts a data set into each working directory: the second one lacks the last record."""
    del port
    for index in range(2):
        data = folder / f"host-{index}" / "data"
        words = ["data", "convert", f"shapes:train?n={4 - index}&max_objects=2", str(data), "--format", "coco"]
        subprocess.run([sys.executable, "-m", "mmtune", *words], check=True, capture_output=True)
    shared(folder, 0)


def one_data_set(folder, port):
    """Takes the data set of the second process away."""
    two_data_sets(folder, port)
    shutil.rmtree(folder / "host-1" / "data")


def shared(folder, port):
    """Makes the run's folder one for both, though the working directories differ."""
    del port
    (folder / "shared").mkdir()
    for index in range(2):
        (folder / f"host-{index}").mkdir(exist_ok=True)
        (folder / f"host-{index}" / "run").symlink_to(folder / "shared")


DIFFER = "start all of them with the same command, files and versions"
SOON = ["--join-seconds", "8"]

SETUPS = [
    # What the processes are to do.
    Setup(
        "optimizer.learning_rate differs",
        ["the processes differ in optimizer.learning_rate: not given in process 0; 0.001 in process 1", DIFFER],
        words=([], ["--set", "optimizer.learning_rate=1e-3"]),
    ),
    Setup(
        "augment.flip differs",
        ["the processes differ in augment.flip: ", DIFFER],
        words=([], ["--set", "augment.flip=0.5"]),
    ),
    Setup(
        "seeds differ", ["the processes differ in seed: 0 in process 0; 4 in process 1"], words=([], ["--seed", "4"])
    ),
    Setup(
        "one is to resume",
        ["process 1 of 2 cannot begin: --resume: run holds no run to go on with"],
        words=([], ["--resume"]),
    ),
    Setup(
        "one has a key that does not exist",
        ["process 1 of 2 cannot begin: unknown key 'optimizer.lr'"],
        words=([], ["--set", "optimizer.lr=1"]),
    ),
    Setup(
        "numbers of devices differ",
        ["the processes differ in number of devices: 4 in process 0; 2 in process 1"],
        environment=({}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}),
    ),
    Setup(
        "settings of JAX differ",
        ["the processes differ in setting jax_default_matmul_precision: None in process 0; 'highest' in process 1"],
        environment=({}, {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}),
    ),
    Setup(
        "the model's files differ",
        ["the processes differ in model file model: model.safetensors: ", DIFFER],
        apart=True,
        prepare=two_models,
        common=["--model", "model"],
    ),
    Setup(
        "data differ",
        ["training data: 4 examples with the digest ", " in process 0; 3 examples with the digest "],
        apart=True,
        prepare=two_data_sets,
        common=["--data", "data"],
    ),
    Setup(
        "one does not find the data",
        ["process 1 of 2 on ", " cannot go on: data: ", "mmtune: data: "],
        apart=True,
        prepare=one_data_set,
        common=["--data", "data"],
    ),
    # The run's folder.
    Setup(
        "two folders",
        ["run: the run's folder must be one that all processes see and write to: process 1 on ", "host-1/run"],
        apart=True,
    ),
    Setup(
        "the names of folders differ",
        ["the processes differ in out: 'run' in process 0; 'other' in process 1"],
        words=([], ["--out", "other"]),
    ),
    # Joining.
    Setup(
        "unknown host",
        ["did not come", "the host name 'no-such-host.invalid' is unknown"],
        code=(1, 1),
        environment=({}, {"JAX_COORDINATOR_ADDRESS": "no-such-host.invalid:9911"}),
        common=SOON,
    ),
    Setup(
        "unreachable coordinator",
        ["did not come", "process 0 was not found at 192.0.2.1:9911 within 8 s (--join-seconds): "],
        code=(1, 1),
        environment=({}, {"JAX_COORDINATOR_ADDRESS": "192.0.2.1:9911"}),
        common=SOON,
    ),
    Setup(
        "process 0 is not on the coordinator's machine",
        ["192.0.2.1 is no address of this machine, on which process 0 runs"],
        code=(1,),
        environment=({"JAX_COORDINATOR_ADDRESS": "192.0.2.1:{port}"}, {}),
        absent=(1,),
        common=SOON,
    ),
    Setup(
        "taken port",
        ["cannot listen at 127.0.0.1:", "is not a run that this process can join"],
        prepare=listener(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ),
    Setup(
        "taken port, by a program that says nothing",
        ["cannot listen at 127.0.0.1:", "is not a run that this process can join"],
        prepare=listener(b""),
    ),
    Setup(
        "a number is given twice",
        ["process 0 of 2 was started twice", "give each process a number of its own"],
        environment=({}, {"JAX_PROCESS_ID": "0"}),
    ),
    Setup(
        "counts differ",
        ["the processes differ in how many they are: process 0 (", " says 2, process 1 (", " says 3"],
        environment=({}, {"JAX_NUM_PROCESSES": "3"}),
    ),
    Setup(
        "a process never comes",
        ["waiting for process 1 of 2 at 127.0.0.1:", "process 1 of 2 did not come to 127.0.0.1:"],
        code=(1,),
        absent=(1,),
        common=SOON,
    ),
    Setup(
        "process 0 never comes",
        ["waiting for process 0 at 127.0.0.1:", "was not found at 127.0.0.1:", "nothing listens there"],
        code=(1,),
        absent=(0,),
        common=SOON,
    ),
    Setup(
        "one knows of no other",
        ["process 1 of 2 did not come"],
        code=(1, 0),
        environment=({}, {"JAX_NUM_PROCESSES": "1"}),
        words=([], ["--out", "alone", "--mesh", "data=2", "--steps", "1"]),
        common=SOON,
    ),
    # Launchers.
    Setup(
        "no launcher joins them, one folder",
        ["trains in this folder: wait until it ends, stop it, or choose another --out"],
        code=(0, 2),
        environment=(
            {"JAX_COORDINATOR_ADDRESS": None, "JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None},
            {"JAX_COORDINATOR_ADDRESS": None, "JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None},
        ),
        common=["--mesh", "data=2"],
    ),
    Setup(
        "Open MPI 5 on several machines",
        ["Open MPI started 2 processes (OMPI_COMM_WORLD_RANK=", "set JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0"],
        environment=tuple(
            {"JAX_COORDINATOR_ADDRESS": None, "JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None}
            | {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": str(index), "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
            for index in range(2)
        ),
    ),
    Setup(
        "a pod of an indexed Kubernetes job",
        ["an indexed Kubernetes job may have started several processes (JOB_COMPLETION_INDEX="],
        environment=tuple(
            {"JAX_COORDINATOR_ADDRESS": None, "JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None}
            | {"JOB_COMPLETION_INDEX": str(index)}
            for index in range(2)
        ),
    ),
]


def main(names):
    """Prints a line a set-up."""
    for setup in SETUPS:
        if names and not any(name in setup.name for name in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            for index, ended in sorted(ends(Path(folder), setup).items()):
                said = [line for line in ended.errors.splitlines() if line.strip()]
                print(f"{setup.name} | {index} | {ended.code} | {ended.seconds:.1f} s | {said[-1] if said else ''}")


if __name__ == "__main__":
    main(sys.argv[1:])
