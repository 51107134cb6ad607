"""Where the processes of a run meet before JAX joins them: all are there, each once, and all say the same.

Process 0 listens at the coordinator's port, which JAX takes over afterwards; the others connect to it. What is wrong is
said in a sentence by all that have come.
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mmtune.distributed.agreement import Statement, differences, disagreement
from mmtune.distributed.cluster_env import Cluster
from mmtune.distributed.host_names import addresses
from mmtune.distributed.link import LIMIT, Link, Message, NoMessageError
from mmtune.distributed.processes import named
from mmtune.errors import UsageError

_PROTOCOL = 1
_ATTEMPT = 5.0  # seconds for one attempt to connect, and for a stranger's first line
_PAUSE = 0.5
_LINGER = 3.0  # how long process 0 tells those that come late why the run cannot begin
_LINES = (5.0, 10.0, 20.0)  # seconds after which a waiting process says so, then every _EVERY
_EVERY = 30.0


class AbsentError(Exception):
    """Processes that did not come in time."""


class LeftError(Exception):
    """A process was stopped by a signal while the others were still awaited.

    Args:
        signal: Name of the signal.
    """

    def __init__(self, signal: str):
        self.signal = signal
        super().__init__(f"stopped by {signal} before all processes had come")


@dataclass
class Met:
    """The processes that have met.

    Attributes:
        links: To the others by index: all of them at process 0, the one to process 0 elsewhere.
        hosts: Their host names by index, as far as they are known.
    """

    links: dict[int, Link] = field(default_factory=dict)
    hosts: dict[int, str] = field(default_factory=dict)


async def meet(
    cluster: Cluster,
    statement: Statement,
    seconds: float,
    say: Callable[[str], None],
    problem: str = "",
    met: Met | None = None,
) -> Met:
    """Returns when all processes are there and state the same.

    Args:
        cluster: This process' place.
        statement: What must be the same in all.
        seconds: How long to wait for the others.
        say: Takes a line now and then about what is waited for.
        problem: Why this process cannot take part, which the others are told.
        met: Takes the links while processes come, for a process that is stopped meanwhile and tells the others.

    Raises:
        UsageError: When something is set up wrongly: a port that is taken, a number given twice, counts or statements
            that differ.
        AbsentError: When a process does not come in time.
        LeftError: When another process was stopped by a signal.
    """
    met = Met() if met is None else met
    waiting = _Waiting(seconds, say)
    if cluster.index:
        return await _come(cluster, _hello(cluster, statement, problem), waiting, met)
    return await _Host(cluster, statement, waiting, problem, met).gather()


class _Waiting:
    """The time that is left, and the lines about it."""

    def __init__(self, seconds: float, say: Callable[[str], None]):
        self.seconds, self._say = seconds, say
        self._began, self._lines = time.monotonic(), 0

    @property
    def waited(self) -> float:
        return time.monotonic() - self._began

    @property
    def over(self) -> bool:
        return self.waited >= self.seconds

    def tell(self, text: str) -> None:
        """Prints a line."""
        self._say(text)

    def say(self, text: str) -> None:
        """Prints a line if one is due."""
        due = _LINES[self._lines] if self._lines < len(_LINES) else _LINES[-1] + _EVERY * (self._lines - 2)
        if self.waited >= due:
            self._lines += 1
            self._say(f"{text} ({self.waited:.0f} s)")


class _Host:
    """Process 0."""

    def __init__(self, cluster: Cluster, statement: Statement, waiting: _Waiting, problem: str, met: Met):
        self._cluster, self._waiting, self._met = cluster, waiting, met
        self._statements: dict[int, Statement] = {0: statement}
        met.hosts[0] = socket.gethostname()
        self._came: dict[int, str] = {0: _self_name()}
        self._refusal = _unable(0, cluster.count, problem)
        self._changed = asyncio.Event()
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._left = ""

    async def gather(self) -> Met:
        """Waits for the others."""
        cluster = self._cluster
        try:
            server = await asyncio.start_server(self._receive, _interface(cluster), cluster.port, limit=LIMIT)
        except OSError as error:
            raise UsageError(await self._taken(error)) from error
        try:
            await self._wait_for_all(await _elsewhere(cluster))
        finally:
            server.close()  # not awaited: that would last until the links are closed too, as of Python 3.12
            await self._end_watches()
        for link in self._met.links.values():
            link.send({"go": self._met.hosts})
        return self._met

    async def _wait_for_all(self, warning: str) -> None:
        """Returns when all have come and state the same."""
        cluster = self._cluster
        while len(self._came) < cluster.count and not self._refusal:
            missing = [index for index in range(cluster.count) if index not in self._came]
            if self._waiting.over:
                after = f"within {self._waiting.seconds:g} s (--join-seconds)"
                sentence = f"{named(missing, cluster.count)} did not come to {cluster.coordinator} {after}"
                await self._refuse(f"{sentence}{warning}", absent=True)
            self._waiting.say(f"waiting for {named(missing, cluster.count)} at {cluster.coordinator}{warning}")
            for link in self._met.links.values():
                link.send({"missing": missing})
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _PAUSE)
            if self._left:
                for link in self._met.links.values():
                    link.send({"stop": self._left})
                raise LeftError(self._left)
        if not self._refusal:
            lines = differences([self._statements[index] for index in sorted(self._statements)])
            self._refusal = str(disagreement(lines)) if lines else ""
        if self._refusal:
            await self._refuse(self._refusal)

    async def _watch(self, index: int, link: Link) -> None:
        """Forgets a process that ends before all have come, so that it can come again."""
        with contextlib.suppress(NoMessageError):
            while message := await link.receive():
                if "stop" in message:
                    self._left = str(message["stop"])
                    self._changed.set()
        del self._came[index], self._statements[index], self._met.links[index]
        host = self._met.hosts.pop(index)
        if not self._left:
            self._waiting.tell(f"{named([index], self._cluster.count)} on {host} ended while it waited for the others")
        self._changed.set()

    async def _end_watches(self) -> None:
        """Leaves what the links bring to others."""
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        try:
            hello = await asyncio.wait_for(link.receive(), _ATTEMPT)
        except (TimeoutError, NoMessageError):
            hello = None
        if hello is None or not _is_hello(hello):
            await link.close()  # somebody who looks for open ports
            return
        if problem := self._problem(hello):
            self._refusal = self._refusal or problem
            link.send({"refused": self._refusal})
            self._changed.set()
            return
        index = hello["index"]
        self._met.links[index], self._met.hosts[index] = link, hello["host"]
        self._came[index], self._statements[index] = hello["name"], hello["statement"]
        self._watches[index] = asyncio.ensure_future(self._watch(index, link))
        self._changed.set()

    def _problem(self, hello: Message) -> str:
        """Returns what is wrong with a process that comes."""
        index, count, name = hello["index"], hello["count"], hello["name"]
        if self._refusal:
            return self._refusal
        if count != self._cluster.count:
            return (
                f"the processes differ in how many they are: process 0 ({self._came[0]}) says {self._cluster.count}, "
                f"process {index} ({name}) says {count}: start all with the same number"
            )
        if index in self._came:
            return (
                f"process {index} of {count} was started twice, as {self._came[index]} and as {name}: "
                "give each process a number of its own"
            )
        return _unable(index, count, hello["problem"])

    async def _refuse(self, sentence: str, absent: bool = False) -> None:
        """Tells all that have come, and those that come in the next seconds, why there is no run."""
        self._refusal = sentence
        await self._end_watches()
        for link in self._met.links.values():
            link.send({"refused": sentence, "absent": absent})
        await asyncio.sleep(0.2 if len(self._came) == self._cluster.count else _LINGER)
        for link in self._met.links.values():
            await link.close()
        raise AbsentError(sentence) if absent else UsageError(sentence)

    async def _taken(self, error: OSError) -> str:
        """Returns why the port cannot be had; another process 0 that has it is told of this one."""
        cluster = self._cluster
        if error.errno != errno.EADDRINUSE:
            return f"process 0 cannot listen at {cluster.coordinator}: {error.strerror or error}"
        with contextlib.suppress(OSError, TimeoutError, NoMessageError):
            reader, writer = await asyncio.wait_for(_connection(cluster), _ATTEMPT)
            link = Link(reader, writer)
            link.send(_hello(cluster, {}, ""))
            answer = await asyncio.wait_for(link.receive(), _ATTEMPT)
            await link.close()
            if answer is not None and "refused" in answer:
                return str(answer["refused"])
        return f"process 0 cannot listen at {cluster.coordinator}: another program has the port: choose another one"


async def _come(cluster: Cluster, hello: Message, waiting: _Waiting, met: Met) -> Met:
    """Connects to process 0 and waits for its word."""
    reason = ""
    while not waiting.over:
        try:
            left = max(0.1, min(_ATTEMPT, waiting.seconds - waiting.waited))
            reader, writer = await asyncio.wait_for(_connection(cluster), left)
        except (OSError, TimeoutError) as error:
            reason = _unreached(cluster, error)
            waiting.say(f"waiting for process 0 at {cluster.coordinator}: {reason}")
            await asyncio.sleep(_PAUSE)
            continue
        met.links[0] = Link(reader, writer)
        met.hosts |= await _wait_for_word(cluster, hello, waiting, met.links[0])
        return met
    raise AbsentError(
        f"process 0 was not found at {cluster.coordinator} within {waiting.seconds:g} s (--join-seconds): {reason}"
    )


async def _wait_for_word(cluster: Cluster, hello: Message, waiting: _Waiting, link: Link) -> dict[int, str]:
    """Returns the hosts of all processes when process 0 says that they have come."""
    link.send(hello)
    heard = False
    while True:
        try:
            # Process 0 says every half second whom it waits for.
            word = await asyncio.wait_for(link.receive(), 4 * _ATTEMPT)
        except NoMessageError:
            word: Message | None = {"refused": _stranger(cluster)}
        except TimeoutError:
            word = {"refused": f"process 0 at {cluster.coordinator} does not answer" if heard else _stranger(cluster)}
        if word is None:
            said = f"process 0 at {cluster.coordinator} ended before all had come" if heard else _stranger(cluster)
            word = {"refused": said, "absent": heard}
        heard = True
        match word:
            case {"refused": str(sentence)}:
                raise AbsentError(sentence) if word.get("absent") else UsageError(sentence)
            case {"stop": str(name)}:
                raise LeftError(name)
            case {"go": dict(hosts)}:
                return {int(index): str(host) for index, host in hosts.items()}
            case {"missing": [*missing]}:
                waiting.say(f"waiting for {named(missing, cluster.count)} at {cluster.coordinator}")
            case _:
                raise UsageError(_stranger(cluster))


async def _connection(cluster: Cluster) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns a connection to process 0, at whichever address of its host answers first."""
    errors: list[OSError] = []
    for address in await addresses(cluster.host):
        try:
            return await asyncio.open_connection(address, cluster.port, limit=LIMIT)
        except OSError as error:
            errors.append(error)
    raise errors[0]


def _stranger(cluster: Cluster) -> str:
    return (
        f"what answers at {cluster.coordinator} is not a run that this process can join: it has begun already, or "
        "another program has the port"
    )


def _unable(index: int, count: int, problem: str) -> str:
    return f"{named([index], count)} cannot begin: {problem}" if problem else ""


def _hello(cluster: Cluster, statement: Mapping[str, str], problem: str) -> Message:
    return {
        "mmtune": _PROTOCOL,
        "index": cluster.index,
        "count": cluster.count,
        "host": socket.gethostname(),
        "name": _self_name(),
        "statement": dict(statement),
        "problem": problem,
    }


def _is_hello(message: Message) -> bool:
    """Whether a message is one of `_hello`: what listens for processes hears other programs too."""
    match message:
        case {"mmtune": version, "index": int(index), "count": int(count), "statement": dict(statement)}:
            texts = [message.get(key) for key in ("host", "name", "problem")]
            same = version == _PROTOCOL and 0 <= index < count
            return same and all(isinstance(text, str) for text in [*texts, *statement.values()])
    return False


def _self_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _unreached(cluster: Cluster, error: Exception) -> str:
    """Returns why an attempt to connect failed."""
    if isinstance(error, socket.gaierror):
        return f"the host name '{cluster.host}' is unknown"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "the host does not answer"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _interface(cluster: Cluster) -> str | None:
    """Returns the address to listen at: this machine's own where the coordinator's is one, else all (None)."""
    return cluster.host if cluster.host in ("127.0.0.1", "::1", "localhost") else None


async def _elsewhere(cluster: Cluster) -> str:
    """Returns a warning where the coordinator's address is no address of this machine, where process 0 runs."""
    try:
        places = await asyncio.wait_for(addresses(cluster.host), _ATTEMPT)
    except socket.gaierror:
        return f"; the host name '{cluster.host}' is unknown on this machine"
    except TimeoutError:
        return f"; nothing on this machine tells what the host name '{cluster.host}' stands for"
    for place in places:
        family = socket.AF_INET6 if ":" in place else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((place, 0))
            return ""
    return f"; {cluster.host} is no address of this machine, on which process 0 runs"
