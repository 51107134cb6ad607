"""The worker's side of supervision: joining JAX' processes, saying what it does, hearing that it is to stop."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, NoReturn

from mmtune.distributed.cluster_env import Cluster, detect_cluster
from mmtune.distributed.processes import end_waits_in, set_wait
from mmtune.errors import UsageError

ENVIRONMENT = "MMTUNE_WORKER"
"""The variable by which a supervisor tells its worker who it is."""

_EVERY = 0.5  # seconds between two messages about progress
_BEAT = 2.0  # seconds between two messages that say that this process lives
_STOPPED_WAIT = 20.0
_PATIENCE = 45.0  # the supervisor hears of another process' death within this

Kind = Literal["start", "wait", "steps", "work"]
"""What a worker does: preparing on its own; beginning together with the others; training steps; something else with
them (evaluating, saving). What was computed is kept in the last two when the run is stopped."""


def description(descriptor: int, output: int, cluster: Cluster, wait: float) -> str:
    """Returns what a supervisor puts into the worker's environment.

    Args:
        descriptor: Of the socket to the supervisor.
        output: Descriptor of the pipe for what libraries print.
        cluster: The worker's place among the processes.
        wait: Seconds that it may wait for the others.
    """
    return json.dumps({"fd": descriptor, "output": output, "wait": wait, "cluster": asdict(cluster)})


class Worker:
    """A worker's connection with its supervisor; without one nothing is said and nothing is heard.

    Args:
        connection: To the supervisor; None: there is none.

    Attributes:
        stop: Name of the signal by which the run is to stop, empty before.
    """

    def __init__(self, connection: socket.socket | None = None):
        self._connection = connection
        self._progressed = 0.0
        self._lock = threading.Lock()
        self.stop = ""
        if connection is not None:
            threading.Thread(target=self._listen, args=[connection], daemon=True, name="mmtune-listen").start()
            threading.Thread(target=self._beat, daemon=True, name="mmtune-beat").start()

    @property
    def supervised(self) -> bool:
        """Whether there is a supervisor."""
        return self._connection is not None

    def begin(self, kind: Kind, doing: str) -> None:
        """Says that something else is done now."""
        self._send({"kind": kind, "doing": doing})

    def progress(self, doing: str, step: bool = False) -> None:
        """Says how far it is; little is sent of what comes fast."""
        if time.monotonic() - self._progressed > _EVERY:
            self._progressed = time.monotonic()
            self._send({"doing": doing, "step": step})

    def fail(self, sentence: str, code: int) -> None:
        """Says why this process cannot go on, for the others."""
        self._send({"failed": sentence, "code": code})

    def exit(self, code: int) -> NoReturn:
        """Ends this process at once: JAX would wait for the others first."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a pipe that nobody reads any more
                stream.flush()
        os._exit(code)

    def wait_for_peer_failure(self) -> None:
        """Waits for the supervisor to end this process, when an exchange with the others has failed."""
        if self.supervised:
            time.sleep(_PATIENCE)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._connection is None:
            return
        with self._lock:
            try:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:  # the listening thread ends the process
                return

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT)
            self._send({})

    def _listen(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for line in lines:
                self.stop = json.loads(line).get("stop", self.stop)
                if self.stop:
                    end_waits_in(_STOPPED_WAIT)
        os._exit(1)  # the supervisor is gone, and with it whoever could end this process


_worker = Worker()


def worker() -> Worker:
    """Returns this process' connection with its supervisor."""
    return _worker


def is_worker() -> bool:
    """Whether a supervisor has started this process."""
    return ENVIRONMENT in os.environ


def start_worker() -> None:
    """Takes up the connection with the supervisor and joins the processes that it has met, before JAX computes.

    Raises:
        UsageError: When JAX does not find them.
    """
    global _worker
    content = json.loads(os.environ.pop(ENVIRONMENT))
    local = content["cluster"].pop("local_devices")
    os.set_inheritable(content["fd"], False)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)
    _divert_library_output(content["output"])
    set_wait(content["wait"])
    _worker = Worker(socket.socket(fileno=content["fd"]))
    _worker.begin("start", "joining the other processes")
    _initialize(Cluster(**content["cluster"], local_devices=None if local is None else tuple(local)))


def _divert_library_output(descriptor: int) -> None:
    """Lets errors that are printed beneath Python go to the supervisor; what Python prints stays where it goes.

    To standard output gloo alone prints there: a line for each group of devices.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number, name, target in ((1, "stdout", nowhere), (2, "stderr", descriptor)):
        stream = getattr(sys, name)
        stream.flush()
        setattr(sys, name, os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors=stream.errors, buffering=1))
        os.dup2(target, number)
        os.close(target)


def _interrupt(number: int, frame: Any) -> None:
    """Ends what is prepared, for the supervisor; where Python cannot unwind, it ends the process."""
    del number, frame
    sys.unraisablehook = lambda _: None
    raise KeyboardInterrupt


def initialize_distributed() -> bool:
    """Joins the other processes, without a supervisor, before JAX computes, and returns whether there are others.

    Raises:
        UsageError: When the environment contradicts itself, or JAX does not find the others.
    """
    cluster = detect_cluster(os.environ)
    if cluster is not None:
        _initialize(cluster)
    return cluster is not None


def _initialize(cluster: Cluster) -> None:
    import jax

    if cluster.host in ("127.0.0.1", "localhost"):  # nobody else need reach it
        os.environ.setdefault("JAX_COORDINATOR_BIND_ADDRESS", f"127.0.0.1:{cluster.port}")
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.count,
            cluster.index,
            local_device_ids=None if cluster.local_devices is None else list(cluster.local_devices),
            cluster_detection_method="deactivate",
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"JAX did not join the other processes: {reason}") from error
