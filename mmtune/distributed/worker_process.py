"""The worker as its supervisor sees it: started, listened to, stopped, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from mmtune.distributed.cluster_env import Cluster
from mmtune.distributed.link import LIMIT, Link, Message
from mmtune.distributed.worker import ENVIRONMENT, description

_GRACE = 3.0  # seconds for a worker that has nothing to keep and is asked to end
_LAST_WORDS = 10.0  # for one that has failed and prints why
_DRAIN = 2.0  # its children may hold its pipes open
_KEPT = 100  # lines of what libraries print


class WorkerProcess:
    """The child process that trains.

    Args:
        cluster: Its place among the others.
        wait: Seconds that it may wait for them.
        on_word: Called when it says something: None, or why it has failed and the exit code for that.

    Attributes:
        kind: What it does, as `mmtune.distributed.worker.Kind`.
        doing: The same in words.
        connected: Whether it has ever said something: before, it is no more than a command that begins.
        heard: When it sent a message last, in seconds of `time.monotonic`.
        progressed: When it said last that something was done.
        longest_step: Seconds of the longest training step so far.
        failure: Why it has failed, which it prints itself; None: it has not.
        library_output: The last lines that the libraries beneath Python printed as errors. They are shown only where
            they may say why it ended: JAX prints a stack for the death of each other process too.
    """

    def __init__(self, cluster: Cluster, wait: float, on_word: Callable[[tuple[str, int] | None], None]):
        self._cluster, self._wait, self._on_word = cluster, wait, on_word
        self.kind, self.doing, self.connected = "start", "starting", False
        self.heard = self.progressed = time.monotonic()
        self.longest_step = 0.0
        self.failure: tuple[str, int] | None = None
        self.library_output: deque[str] = deque(maxlen=_KEPT)
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None
        self._ended = asyncio.Event()

    @property
    def runs(self) -> bool:
        """Whether it has begun and not ended."""
        return self._process is not None and not self._ended.is_set()

    async def run(self) -> int:
        """Runs it to its end and returns its exit code, that of a signal negative."""
        ours, its = socket.socketpair()
        printed, prints = os.pipe()
        with its:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                env=os.environ | {ENVIRONMENT: description(its.fileno(), prints, self._cluster, self._wait)},
                pass_fds=[its.fileno(), prints],
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # signals of the terminal come to the supervisor alone
            )
        self._link = Link(*await asyncio.open_connection(sock=ours, limit=LIMIT))
        os.close(prints)
        reading = asyncio.gather(self._listen(self._link), self._keep_output(printed))
        code = await process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, _DRAIN)
        self._ended.set()
        return code

    def stop(self, name: str) -> None:
        """Asks it to stop and to keep what it has."""
        assert self._process is not None
        assert self._link is not None
        self._link.send({"stop": name})
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)  # JAX takes it, and lets all processes agree on a step

    async def end(self) -> None:
        """Ends it if it still runs: one that has failed prints why first, one that has nothing to keep is asked."""
        if self._process is None:
            return
        if self.failure is not None:
            await self._ends_within(_LAST_WORDS)
        elif self.kind == "start" and self.connected and self.runs:  # before, it would print a stack
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
            await self._ends_within(_GRACE)
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ends_within(_LAST_WORDS)

    async def _ends_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def _keep_output(self, printed: int) -> None:
        reader = asyncio.StreamReader()
        pipe = os.fdopen(printed, "rb")
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while chunk := await reader.read(2**16):
            self.library_output.extend(chunk.decode(errors="replace").splitlines())

    async def _listen(self, link: Link) -> None:
        async for message in link.messages():
            self._take(message)

    def _take(self, message: Message) -> None:
        now = self.heard = time.monotonic()
        self.connected = True
        if not message:
            return
        if message.get("step") and self.kind == "steps":
            self.longest_step = max(self.longest_step, now - self.progressed)
        self.progressed = now
        self.kind = str(message.get("kind", self.kind))
        self.doing = str(message.get("doing", self.doing))
        if "failed" in message:
            self.failure = str(message["failed"]), int(message["code"])
        self._on_word(self.failure if "failed" in message else None)
