"""Supervisors end together, whatever happens to their workers: here several in one event loop, with stand-ins."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections import deque

import pytest

from mmtune.cli.train import _end_worker
from mmtune.distributed import supervisor, worker
from mmtune.distributed.cluster_env import Cluster
from mmtune.distributed.processes import say
from mmtune.distributed.supervisor import Limits

AT_MOST = 20


class Worker:
    """Stands for the process that trains; `acts` is what it does, by index."""

    acts: dict = {}  # noqa: RUF012

    def __init__(self, cluster, wait, on_word):
        del wait
        self.index, self.on_word = cluster.index, on_word
        self.kind, self.doing, self.connected = "steps", "step 1", True
        self.heard = self.progressed = time.monotonic()
        self.longest_step, self.failure = 0.1, None
        self.library_output = deque()
        self.runs, self.stopped = True, []

    async def run(self):
        return await self.acts[self.index](self)

    def stop(self, name):
        self.stopped.append(name)

    async def end(self):
        self.runs = False


@pytest.fixture
def supervised(monkeypatch):
    """Returns what runs supervisors with their workers' acts, and other things beside them; gives their exit codes."""
    monkeypatch.setattr(supervisor, "WorkerProcess", Worker)
    monkeypatch.setattr(supervisor, "_ANSWER", 3.0, raising=False)

    def run(*acts, beside=None):
        Worker.acts = dict(enumerate(acts))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        async def all_of_them():
            clusters = [Cluster("test", f"127.0.0.1:{port}", len(acts), index) for index in range(len(acts))]
            them = [supervisor._Supervisor(cluster, None, Limits(5, 60)) for cluster in clusters]
            runs = [one.run({}, "") for one in them]
            codes = await asyncio.wait_for(asyncio.gather(*runs, *([beside(them)] if beside else [])), AT_MOST)
            return codes[: len(acts)], them

        return asyncio.run(all_of_them())

    return run


async def waits(worker):
    del worker
    await asyncio.sleep(600)


def ends(code, after=0.5, kind=None):
    async def act(worker):
        if kind is not None:
            worker.kind = kind
        await asyncio.sleep(after)
        return code

    return act


def raises(error):
    async def act(worker):
        del worker
        raise error

    return act


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("unforeseen")])
def test_a_worker_that_cannot_be_started_ends_all(supervised, capsys, where, error):
    acts: list = [waits, waits]
    acts[where] = raises(error)
    codes, _ = supervised(*acts)
    assert codes == [1, 1]
    said = capsys.readouterr().err
    assert f"process {where} of 2 on {socket.gethostname()} cannot be" in said or "cannot start the process" in said
    assert str(error.args[-1]) in said


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize(("code", "kind"), [(-15, "start"), (-15, "steps"), (143, "wait")])
def test_a_signal_to_a_worker_alone_ends_all(supervised, where, code, kind):
    acts: list = [waits, waits]
    acts[where] = ends(code, kind=kind)
    assert supervised(*acts)[0] == [143, 143]


def test_workers_that_were_stopped_after_a_step_are_waited_for(supervised):
    assert supervised(ends(143, 0.2), ends(143, 1.5))[0] == [143, 143]


@pytest.mark.parametrize("where", [0, 1])
def test_a_command_that_trained_nothing_is_no_success(supervised, capsys, where):
    async def nothing(worker):
        worker.connected = False
        return 0

    acts: list = [waits, waits]
    acts[where] = nothing
    assert supervised(*acts)[0] == [2, 2]
    assert "must be a file, not standard input" in capsys.readouterr().err


def test_all_end_as_process_0_says(supervised):
    """Process 1 fails while process 0 is ended by something else."""

    def fails(code, after):
        async def act(worker):
            await asyncio.sleep(after)
            worker.failure = "cannot read", code
            worker.on_word(worker.failure)
            await asyncio.sleep(600)

        return act

    codes, _ = supervised(fails(1, 0.5), fails(2, 0.5), waits)
    assert len(set(codes)) == 1
    codes, _ = supervised(fails(1, 1.0), fails(2, 0.5), waits)
    assert len(set(codes)) == 1


def test_one_signal_to_each_is_no_second_signal(supervised):
    """Launchers send one to every process, and not at the same moment; what was trained is kept."""

    async def beside(them):
        await asyncio.sleep(0.5)
        them[0]._take_signal(signal.SIGTERM)
        await asyncio.sleep(1.5)
        them[1]._take_signal(signal.SIGTERM)

    codes, them = supervised(ends(143, 2.5), ends(143, 3), beside=beside)
    assert codes == [143, 143]
    assert [one._worker.stopped for one in them] == [["SIGTERM"], ["SIGTERM"]]
    assert all(one._verdict.result().sentence == "" for one in them)


def test_a_second_signal_to_one_ends_all(supervised):
    async def beside(them):
        await asyncio.sleep(0.5)
        them[1]._take_signal(signal.SIGTERM)
        await asyncio.sleep(1.2)
        them[1]._take_signal(signal.SIGTERM)

    began = time.monotonic()
    assert supervised(waits, waits, beside=beside)[0] == [143, 143]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_while_others_are_awaited(monkeypatch, index):
    monkeypatch.setattr(supervisor, "WorkerProcess", Worker)

    async def run():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        them = [
            supervisor._Supervisor(Cluster("test", f"127.0.0.1:{port}", 3, i), None, Limits(30, 60)) for i in (0, 1)
        ]
        runs = asyncio.gather(*(one.run({}, "") for one in them))
        await asyncio.sleep(1)
        them[index]._take_signal(signal.SIGTERM)
        return await asyncio.wait_for(runs, 5)

    assert asyncio.run(run()) == [143, 143]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_are_opened(closed):
    program = (
        "import os, sys; from mmtune.distributed.standard_streams import open_standard_streams as opened; opened();"
        "print('a', file=sys.stderr); print('b'); sys.stdout.flush();"
        "sys.exit(0 if os.pipe()[0] > 2 and sys.stdin.read() == '' else 3)"
    )
    command = f'"{sys.executable}" -c "{program}" < /dev/null {closed}'
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 0


def test_a_sentence_that_nobody_reads(monkeypatch):
    class Closed:
        def write(self, _):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stderr", Closed())
    say("nothing")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SystemExit(1), 1, "left the training"),  # rich, where its pipe is closed
        (NotADirectoryError(20, "Not a directory", "f/run"), 2, "f/run: Not a directory"),
        (BrokenPipeError(32, "Broken pipe"), 1, "ended: [Errno 32] Broken pipe"),
    ],
)
def test_what_ends_a_worker_is_told(monkeypatch, error, code, sentence):
    told = []

    class EndedError(Exception):
        pass

    class Teller:
        supervised = True

        def fail(self, sentence, code):
            told.append((sentence, code))

        def exit(self, code):
            raise EndedError(code)

    monkeypatch.setattr(worker, "worker", Teller)
    with pytest.raises(EndedError, match=str(code)):
        _end_worker(error)
    assert told[0][0].startswith(sentence)
    assert told[0][1] == code
