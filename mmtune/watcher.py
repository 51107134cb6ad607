"""Watches over the processes of a run on several hosts: one that dies ends all others, with a sentence that names it.

Each process renews a value in the key-value store of `jax.distributed` every few seconds and looks at those of the
others. JAX' own heartbeats take longer and end a process without saying which one is missing.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

_EVERY = 2.0
_SILENT = 20.0
_SUSPECT = 8.0
_PLACE = "mmtune/beat/"
# The sentence comes from the watching thread: whoever meets the other's death first waits for it this long.
_PATIENCE = 45.0
FAULT = 1


class Watcher:
    """A thread that beats and listens.

    Args:
        client: JAX' client of the key-value store.
        number: This process.
        count: How many there are.

    Attributes:
        silent: Seconds without a beat after which a process is dead; fewer once an exchange with it has failed.
    """

    def __init__(self, client: Any, number: int, count: int):
        self._client, self._number, self._count = client, number, count
        self._ended = False
        self.silent = _SILENT
        self._names: dict[int, str] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="watcher")

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def leave(self, reason: str = "") -> None:
        """Tells the others that this process ends: because it is done, or why it cannot go on."""
        self._ended = True
        try:
            self._set(f"left {reason}")
        except Exception:  # nobody is there to be told
            return

    def _set(self, text: str) -> None:
        value = f"{socket.gethostname()} {text}"
        self._client.key_value_set(f"{_PLACE}{self._number}", value, allow_overwrite=True)

    def _run(self) -> None:
        began = time.monotonic()
        heard: dict[int, tuple[str, float]] = dict.fromkeys(range(self._count), ("", began))
        beat, answered = 0, began
        while not self._ended:
            beat += 1
            try:
                self._set(str(beat))
                values = {int(key.rsplit("/", 1)[1]): text for key, text in self._client.key_value_dir_get(_PLACE)}
                answered = time.monotonic()
            except Exception:
                if time.monotonic() - answered > self.silent and not self._ended:
                    self._end(0, "does not answer any more")
                time.sleep(_EVERY)
                continue
            self._look(values, heard)
            time.sleep(_EVERY)

    def _look(self, values: dict[int, str], heard: dict[int, tuple[str, float]]) -> None:
        now = time.monotonic()
        for number, text in values.items():
            if heard[number][0] != text:
                heard[number] = text, now
                self._names[number] = text.split(" ", 1)[0]
        for number, (text, since) in heard.items():
            said = text.split(" ", 2)[1:]
            if number == self._number or self._ended or said == ["left", ""]:
                continue
            if said[:1] == ["left"]:
                self._end(number, f"ended: {said[1]}")
            if now - since > self.silent:
                self._end(number, f"was not heard of for {self.silent:.0f} seconds")

    def _end(self, number: int, what: str) -> None:
        where = f" on {self._names[number]}" if number in self._names else ""
        print(
            f"\nmmtune: process {number} of {self._count}{where} {what}: this process ends too; "
            "start all of them again with --resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(FAULT)


_held: list[Watcher] = []


def watch(arguments: dict[str, Any]) -> None:
    """Joins the other processes and begins to watch over them.

    Args:
        arguments: Of `jax.distributed.initialize`.

    Raises:
        RuntimeError: When they are not found.
    """
    import jax
    from jax._src import distributed  # the store has no public way in

    module: Any = distributed._jax  # pyright: ignore[reportPrivateImportUsage]
    make = module.get_distributed_runtime_service
    module.get_distributed_runtime_service = _Service
    try:
        jax.distributed.initialize(**arguments)
    finally:
        module.get_distributed_runtime_service = make
    state = distributed.global_state
    watcher = Watcher(state.client, int(state.process_id or 0), int(state.num_processes or 1))
    _held.append(watcher)
    watcher.start()


# JAX ends a process on the spot, and names nobody, when the store does not answer. So the store outlives process 0 by
# as long as the others take to notice.
_STORE = """
import os, signal, sys, time, json
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
from jax._src.lib import _jax
service = _jax.get_distributed_runtime_service(sys.argv[1], int(sys.argv[2]), **json.loads(sys.argv[3]))
while os.getppid() == int(sys.argv[4]):
    time.sleep(0.5)
time.sleep(60)
os._exit(0)
"""


class _Service:
    """The key-value store of `jax.distributed`, in a process of its own.

    Args:
        address: Where it listens.
        count: Number of processes.
        **settings: As JAX gives them.
    """

    def __init__(self, address: str, count: int, **settings: Any):
        words = [sys.executable, "-c", _STORE, address, str(count), json.dumps(settings), str(os.getpid())]
        # Not our pipes: who reads them would wait for the store after we have died.
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdout=nowhere, stderr=nowhere, start_new_session=True)

    def shutdown(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def part(code: int, reason: str) -> None:
    """Ends this process of several: all together when nothing is wrong, otherwise at once.

    Args:
        code: The exit code; 0: it waits until all others are done too.
        reason: What is wrong, for the others.
    """
    import jax

    if not _held:
        return
    if code == 0:
        _held[0].leave()
        jax.distributed.shutdown()
        return
    _held[0].leave(reason)
    time.sleep(2 * _EVERY)  # the store is to live until they have read it
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def await_verdict(error: Exception) -> None:
    """Waits for the watcher to name who died, when an exchange with the others has failed; it ends the process."""
    import jax

    if _held and isinstance(error, jax.errors.JaxRuntimeError):
        _held[0].silent = _SUSPECT
        time.sleep(_PATIENCE)
