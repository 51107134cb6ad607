"""Supervises the process that trains, where it is one of several: all begin together and all end together.

What trains (the worker) can be stuck in an exchange with a process that has died, or be ended by JAX in the middle of a
line. So the command starts it as a child and stays outside: it meets the others, tells them how its worker fares, ends
it when one of theirs has failed, and exits with the code that all agree on.
"""

import asyncio
import contextlib
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from mmtune.distributed.agreement import Statement
from mmtune.distributed.cluster_env import Cluster
from mmtune.distributed.link import Message
from mmtune.distributed.processes import say
from mmtune.distributed.rendezvous import AbsentError, LeftError, Met, meet
from mmtune.distributed.worker_process import WorkerProcess
from mmtune.errors import UsageError
from mmtune.run_files import RECIPE

_BEAT = 2.0
_SILENT = 30.0  # seconds without a message after which a process is taken for dead
_STOPPING, _STEPS = 20.0, 5.0  # a step's end is awaited so many seconds, or so many times the longest step
_OTHERS = 5.0  # a worker that JAX ends has met the death of another process, of which word is on its way
_ANSWER = 5.0  # process 0 says within this how the run ends that another process has found to be over
_PROBLEM = 20.0  # how long a process that cannot begin looks for the others, to tell them
FAULT, UNUSABLE = 1, 2
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@dataclass(frozen=True)
class Limits:
    """How long processes wait for each other.

    Attributes:
        join: Seconds until all have to be there.
        wait: Seconds without progress, once they have begun.
    """

    join: float
    wait: float


@dataclass(frozen=True)
class Verdict:
    """How a run ends, for all processes.

    Attributes:
        code: The exit code.
        sentence: What happened to the process `index`, without a subject, or that the run was stopped; empty when it
            ended as it should.
        index: Of the process in which it happened.
    """

    code: int
    sentence: str = ""
    index: int = 0

    def message(self) -> Message:
        """Returns it as a message."""
        return {"verdict": self.code, "sentence": self.sentence, "index": self.index}


def supervise(cluster: Cluster, statement: Statement, out: Path | None, limits: Limits, problem: str = "") -> int:
    """Runs this very command again as a worker, together with the other processes, and returns the exit code.

    Args:
        cluster: This process' place.
        statement: What must be the same in all processes.
        out: The run's folder; None with a problem.
        limits: How long the processes wait for each other.
        problem: Why this process cannot begin: the others are told, and none begins.
    """
    return asyncio.run(_Supervisor(cluster, out, limits).run(statement, problem))


class _Supervisor:
    """One process' part in a run of several."""

    def __init__(self, cluster: Cluster, out: Path | None, limits: Limits):
        self._cluster, self._out, self._limits = cluster, out, limits
        self._index = cluster.index
        self._met = Met()
        self._worker = WorkerProcess(cluster, limits.wait, self._on_worker)
        self._stop, self._stopped_at = "", 0.0
        self._signaled_at = 0.0  # when this process itself was sent a signal first
        self._joined = False
        self._own: Verdict | None = None  # told process 0, which has not answered yet
        self._done: dict[int, int] = {}
        self._heard: dict[int, float] = {}
        self._doing: dict[int, str] = {}
        self._verdict: asyncio.Future[Verdict]

    async def run(self, statement: Statement, problem: str) -> int:
        """Returns the exit code."""
        loop = asyncio.get_running_loop()
        self._verdict = loop.create_future()
        for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
            if signal.getsignal(number) != signal.SIG_IGN:  # `nohup`
                loop.add_signal_handler(number, self._take_signal, number)
        try:
            joined = await self._join(statement, problem)
            return await self._train() if joined is None else joined
        finally:
            for link in self._met.links.values():
                await link.close()

    async def _join(self, statement: Statement, problem: str) -> int | None:
        """Meets the others; returns an exit code where that fails, or is broken off by a signal."""
        seconds = min(self._limits.join, _PROBLEM) if problem else self._limits.join
        meeting = asyncio.ensure_future(meet(self._cluster, statement, seconds, say, problem, self._met))
        await asyncio.wait({meeting, self._verdict}, return_when=asyncio.FIRST_COMPLETED)
        if self._verdict.done():
            meeting.cancel()
            await asyncio.wait({meeting}, timeout=1)
            say(str(LeftError(self._stop)))
            return self._verdict.result().code
        self._joined = True
        try:
            meeting.result()
        except LeftError as error:
            say(str(error))
            return 128 + signal.Signals[error.signal]
        except UsageError as error:
            say(str(error))
            return UNUSABLE
        except AbsentError as error:
            say(problem or str(error))
            return UNUSABLE if problem else FAULT
        return None

    async def _train(self) -> int:
        """Runs the worker until all processes are done, or one has failed."""
        self._heard = dict.fromkeys(self._met.links, time.monotonic())
        tasks = [asyncio.ensure_future(self._listen(index)) for index in self._met.links]
        tasks += [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._work())]
        for task in tasks:
            task.add_done_callback(self._on_task)
        try:
            verdict = await self._verdict
            if self._index == 0:
                self._tell_all(verdict.message())
            await self._worker.end()
        finally:
            for task in tasks:
                task.cancel()
        if verdict.sentence and not self._worker.failure:  # of its own failure the worker has told
            say(self._sentence(verdict))
        return verdict.code

    def _on_task(self, task: "asyncio.Task[None]") -> None:
        """Ends the run where a task of this supervisor failed: nobody else would notice."""
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error)
            self._report(f"cannot be supervised ({type(error).__name__}: {error})", FAULT)

    # The worker of this process.

    async def _work(self) -> None:
        try:
            code = await self._worker.run()
        except OSError as error:  # no memory, too many processes or open files
            self._report(f"cannot start the process that trains ({error.strerror or error})", FAULT)
            return
        if code in (-signal.SIGABRT, FAULT) and not self._worker.failure:
            await asyncio.sleep(_OTHERS)
        if self._verdict.done():
            return
        stops = {-number: 128 + number for number in SIGNALS} | {128 + number: 128 + number for number in SIGNALS}
        if code == 0 and not self._worker.connected:
            said = "the command, started a second time to train, ended without training: a program that calls it "
            self._report(f"{said}must be a file, not standard input", UNUSABLE)
        elif code in stops and not self._stop and (code < 0 or self._worker.kind in ("start", "wait")):
            name = signal.Signals(-code if code < 0 else code - 128).name  # by others than its supervisor
            self._report(f"stopped by {name} before a step ended", stops[code])
        elif code in stops:
            code = 128 + signal.Signals[self._stop] if self._stop else stops[code]
            self._finish(self._index, code)
        elif code < 0:
            name = signal.Signals(-code).name
            memory = ", which is how a machine ends a process when its memory is used up" if name == "SIGKILL" else ""
            self._show_library_output()
            self._report(f"was ended by {name}{memory}", FAULT)
        elif code:
            self._show_library_output()
            self._report(f"ended with exit code {code}", code)
        else:
            self._finish(self._index, code)

    def _on_worker(self, failure: tuple[str, int] | None) -> None:
        """Takes word of the worker: that it does something else now, or why it has failed."""
        if failure is not None:
            self._report(*failure)
        elif self._index:
            self._met.links[0].send({"doing": self._worker.doing})

    # The other processes.

    async def _listen(self, index: int) -> None:
        """Takes another process' messages until it is gone."""
        async for message in self._met.links[index].messages():
            self._heard[index] = time.monotonic()
            if "doing" in message:
                self._doing[index] = str(message["doing"])
            if "stop" in message:
                self._stop_all(str(message["stop"]))
            if "done" in message:
                self._finish(index, int(message["done"]))
            if "verdict" in message:
                verdict = Verdict(int(message["verdict"]), str(message["sentence"]), int(message["index"]))
                if verdict.code == UNUSABLE and self._worker.runs:
                    await asyncio.sleep(1)  # what is wrong is often wrong here too, and said in its own words
                self._conclude(verdict)
        if index not in self._done and not self._verdict.done():
            await asyncio.sleep(0.1)
            if self._own is not None:
                self._conclude(self._own)
            self._report("is gone: it was killed, or its machine was shut down", FAULT, index)

    async def _watch(self) -> None:
        """Tells the others that this process lives, and looks for what takes too long."""
        while True:
            await asyncio.sleep(_BEAT)
            now = time.monotonic()
            self._tell_all({})
            for index, heard in self._heard.items():
                if index not in self._done and now - heard > _SILENT:
                    self._report(f"was not heard of for {_SILENT:.0f} seconds", FAULT, index)
            worker, still = self._worker, now - self._worker.progressed
            if self._index in self._done:
                continue
            if self._stop and now - max(worker.heard, self._stopped_at) > _STOPPING:
                said = f"stopped by {self._stop}, and process {self._index} does not answer ({worker.doing})"
                self._report(said, 128 + signal.Signals[self._stop])
            elif self._stop and worker.kind == "steps":
                limit = max(_STOPPING, _STEPS * worker.longest_step)
                if min(now - self._stopped_at, still) > limit:
                    said = f"stopped by {self._stop}, and no step ended within {limit:.0f} s ({worker.doing})"
                    self._report(said, 128 + signal.Signals[self._stop])
            elif worker.kind != "start" and still > self._limits.wait:
                said = f"made no progress for {self._limits.wait:g} s (--wait-seconds; {worker.doing})"
                self._report(said, FAULT)

    def _report(self, sentence: str, code: int, index: int | None = None) -> None:
        """Says what happened to a process, this one unless another is named: it ends all of them."""
        verdict = Verdict(code, sentence, self._index if index is None else index)
        if not self._index or not verdict.index:
            self._conclude(verdict)
        elif self._own is None:  # process 0 decides: others may have told it something else at the same time
            self._own = verdict
            self._met.links[0].send(verdict.message())
            asyncio.get_running_loop().call_later(_ANSWER, self._conclude, verdict)

    def _conclude(self, verdict: Verdict) -> None:
        if not self._verdict.done():
            self._verdict.set_result(verdict)

    def _finish(self, index: int, code: int) -> None:
        """Notes that a process is done; when all are, the run ends."""
        self._done[index] = code
        if self._index:
            self._met.links[0].send({"done": code})
        elif len(self._done) == self._cluster.count:
            self._conclude(Verdict(max(self._done.values())))

    def _tell_all(self, message: Message) -> None:
        for link in self._met.links.values():
            link.send(message)

    # Signals.

    def _take_signal(self, number: int) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if not self._stop:
            self._signaled_at = now
            self._stop_all(name)
        elif not self._signaled_at:  # the others have told it already: whoever stops all processes sends one to each
            self._signaled_at = now
        elif now - self._signaled_at > 1:  # a launcher may send one twice
            self._report(f"stopped by {name}, sent twice", 128 + number)

    def _stop_all(self, name: str) -> None:
        """Asks all workers to stop: one that has nothing to keep is ended."""
        if self._stop or name not in signal.Signals.__members__:
            return
        self._stop, self._stopped_at = name, time.monotonic()
        self._tell_all({"stop": name})
        if not self._joined:
            self._conclude(Verdict(128 + signal.Signals[name]))
        elif self._worker.kind in ("start", "wait"):
            self._report(f"stopped by {name} before the first step", 128 + signal.Signals[name])
        else:
            self._worker.stop(name)

    def _show_library_output(self) -> None:
        if self._worker.library_output:
            with contextlib.suppress(OSError):
                print("\n".join(self._worker.library_output), file=sys.stderr, flush=True)

    def _sentence(self, verdict: Verdict) -> str:
        """Returns how the run ended, and how to go on."""
        begun = self._out is not None and (self._out / RECIPE).is_file()
        again = "start all of them again" + (" with --resume" if begun else "")
        if verdict.code > 128:
            return f"{verdict.sentence}{f': {again}' if begun else ''}"
        host = self._met.hosts.get(verdict.index)
        who = f"process {verdict.index} of {self._cluster.count}{f' on {host}' if host else ''}"
        if verdict.code == UNUSABLE:
            return f"{who} cannot go on: {verdict.sentence}"
        others = ""
        if "no progress" in verdict.sentence:
            others = "".join(f"; process {other}: {doing}" for other, doing in sorted(self._doing.items()))
        return f"{who} {verdict.sentence}{others}: {again}"
