"""Processes meet at a port: here several in one event loop, each as the others see it."""

import asyncio
import gc
import json
import socket
import time
from typing import Any

import pytest

from mmtune.distributed import rendezvous
from mmtune.distributed.cluster_env import Cluster
from mmtune.distributed.host_names import addresses
from mmtune.distributed.link import LIMIT
from mmtune.distributed.rendezvous import AbsentError, LeftError, Met, meet
from mmtune.errors import UsageError

SAME = {"seed": "0"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rendezvous, "_LINGER", 0.5)
    monkeypatch.setattr(rendezvous, "_PAUSE", 0.05)
    monkeypatch.setattr(rendezvous, "_LINES", (0.2, 0.4, 0.6))


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def cluster(port, index, count=3):
    return Cluster("test", f"127.0.0.1:{port}", count, index)


def together(*meetings) -> list[Any]:
    """Returns what each meeting gives or raises."""

    async def run():
        return await asyncio.gather(*meetings, return_exceptions=True)

    return asyncio.run(run())


def come(port, index, statement=SAME, count=3, seconds=5, lines=None, problem="", met=None):
    lines = [] if lines is None else lines
    return meet(cluster(port, index, count), statement, seconds, lines.append, problem, met)


async def later(delay, meeting):
    await asyncio.sleep(delay)
    return await meeting


def test_all_meet_and_have_links(port):
    first, second, third = together(later(0.3, come(port, 0)), come(port, 1), come(port, 2))
    assert set(first.links) == {1, 2}
    assert set(second.links) == set(third.links) == {0}
    assert first.hosts == third.hosts == dict.fromkeys(range(3), socket.gethostname())


def test_links_carry_messages(port):
    async def run():
        first, second = await asyncio.gather(come(port, 0, count=2), come(port, 1, count=2))
        second.links[0].send({"doing": "step 3"})
        first.links[1].send({"stop": "SIGTERM"})
        heard = await first.links[1].receive(), await second.links[0].receive()
        await second.links[0].close()
        return [*heard, await first.links[1].receive()]

    assert asyncio.run(run()) == [{"doing": "step 3"}, {"stop": "SIGTERM"}, None]


def test_the_port_is_free_when_all_have_met(port):
    async def run():
        first, _ = await asyncio.gather(come(port, 0, count=2), come(port, 1, count=2))
        with socket.socket() as again:  # as JAX' service binds it
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
            again.listen()
        return first.links[1]

    assert asyncio.run(run())


def test_what_differs_is_told_to_all(port):
    found = together(come(port, 0), come(port, 1, {"seed": "7"}), come(port, 2))
    assert all(isinstance(error, UsageError) for error in found)
    assert len({str(error) for error in found}) == 1
    assert "seed: 0 in processes 0, 2; 7 in process 1" in str(found[0])


def test_a_problem_of_one_is_told_to_all(port):
    for index in range(3):
        problems = ["no such key" if other == index else "" for other in range(3)]
        found = together(*(come(port, other, problem=problems[other]) for other in range(3)))
        assert {str(error) for error in found} == {f"process {index} of 3 cannot begin: no such key"}


def test_who_never_comes_is_named(port):
    lines = []
    first, third = together(come(port, 0, seconds=1, lines=lines), come(port, 2, seconds=9))
    assert isinstance(first, AbsentError)
    assert isinstance(third, AbsentError)
    assert str(first) == str(third)
    assert str(first).startswith(f"process 1 of 3 did not come to 127.0.0.1:{port} within 1 s (--join-seconds)")
    assert lines
    assert all(line.startswith(f"waiting for process 1 of 3 at 127.0.0.1:{port} (") for line in lines)


def test_a_coordinator_that_is_not_there(port):
    lines = []
    (alone,) = together(come(port, 1, seconds=1, lines=lines))
    assert isinstance(alone, AbsentError)
    assert "nothing listens there" in str(alone)
    assert "nothing listens there (" in lines[0]


def test_an_unknown_host():
    (alone,) = together(meet(Cluster("test", "no-such-host.invalid:99", 2, 1), SAME, 1, print))
    assert "the host name 'no-such-host.invalid' is unknown" in str(alone)


@pytest.mark.parametrize("number", [1, 2])
def test_a_number_given_twice(port, number):
    found = together(come(port, 0), come(port, number), later(0.2, come(port, number)))
    assert all(isinstance(error, UsageError) for error in found)
    assert all(f"process {number} of 3 was started twice" in str(error) for error in found)


def test_two_that_call_themselves_the_first(port):
    found = together(come(port, 0, count=2), later(0.2, come(port, 0, count=2)))
    assert all("process 0 of 2 was started twice" in str(error) for error in found)


def test_a_process_that_ended_may_come_again(port):
    async def came_and_went():
        coming = asyncio.ensure_future(come(port, 1))
        await asyncio.sleep(0.3)
        coming.cancel()

    async def run():
        first = asyncio.ensure_future(come(port, 0))
        await asyncio.gather(later(0.1, came_and_went()))
        gc.collect()  # closes what the cancelled process had open
        await asyncio.sleep(0.2)
        return await asyncio.gather(first, come(port, 1), come(port, 2))

    assert set(asyncio.run(run())[0].links) == {1, 2}


def test_counts_that_differ(port):
    found = together(
        come(port, 0), come(port, 1), later(0.2, come(port, 2, count=4)), later(0.4, come(port, 3, count=4))
    )
    assert all("differ in how many they are: process 0 (" in str(error) for error in found)
    assert all(" says 3, process 2 (" in str(error) and " says 4" in str(error) for error in found)


def test_strangers_at_the_port_are_no_processes(port):
    async def stranger(data):
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    hello = {"mmtune": 1, "index": 1, "count": 2, "host": "a", "name": "b", "statement": {}, "problem": ""}
    wrong = [{"index": "1"}, {"index": -1}, {"index": 2}, {"count": None}, {"statement": []}, {"mmtune": 2}]
    noise = [json.dumps(hello | change).encode() + b"\n" for change in wrong]
    noise += [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 99, b"[]\n", b"", json.dumps({"mmtune": 1}).encode() + b"\n"]
    found = together(come(port, 0, count=2), *map(stranger, noise), later(0.6, come(port, 1, count=2)))
    assert set(found[0].links) == {1}
    assert found[1:-1] == [b""] * len(noise)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"\x00\x00\x12\x04\n"])
def test_another_program_at_the_port(port, answer):
    async def run():
        async def serve(reader, writer):
            await reader.readline()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            return await asyncio.gather(come(port, 0), come(port, 1), return_exceptions=True)

    first, second = asyncio.run(run())
    assert "another program has the port: choose another one" in str(first)
    assert isinstance(first, UsageError)
    assert "is not a run that this process can join" in str(second)


@pytest.mark.parametrize("host", ["node..1", "n" * 70 + ".invalid"])
def test_what_is_no_host_name(host):
    first, second = together(*(meet(Cluster("test", f"{host}:99", 2, index), SAME, 1, print) for index in range(2)))
    assert isinstance(first, AbsentError | UsageError)
    assert isinstance(second, AbsentError)
    assert f"the host name '{host}' is unknown" in str(second)


def test_a_name_server_that_does_not_answer_holds_up_nothing(monkeypatch):
    """The wait ends in time, and so does the event loop, which waits for asyncio's own threads."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20) or [])
    began = time.monotonic()
    (alone,) = together(meet(Cluster("test", "slow.invalid:99", 2, 1), SAME, 0.5, print))
    assert "the host does not answer" in str(alone)
    assert time.monotonic() - began < 5


def test_addresses():
    assert asyncio.run(addresses("127.0.0.1")) == ["127.0.0.1"]
    assert asyncio.run(addresses("::1")) == ["::1"]
    assert set(asyncio.run(addresses("localhost"))) <= {"127.0.0.1", "::1"}


def test_the_listener_is_not_awaited(port, monkeypatch):
    """As of Python 3.12 that lasts until the links are closed, which is when the run ends."""

    async def forever(_):
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.base_events.Server, "wait_closed", forever)

    async def run():
        return await asyncio.wait_for(asyncio.gather(come(port, 0, count=2), come(port, 1, count=2)), 10)

    first, second = asyncio.run(run())
    assert set(first.links) == {1}
    assert set(second.links) == {0}


def test_a_process_that_ends_while_it_waits_may_come_again(port):
    lines = []

    async def dies():
        meeting = asyncio.ensure_future(come(port, 1, met=(met := Met())))
        await asyncio.sleep(0.5)
        meeting.cancel()
        await met.links[0].close()

    found = together(come(port, 0, lines=lines), dies(), later(1, come(port, 1)), later(1.5, come(port, 2)))
    assert set(found[0].links) == {1, 2}
    assert set(found[2].links) == set(found[3].links) == {0}
    assert any(line.startswith("process 1 of 3 on ") and "ended while it waited" in line for line in lines)


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_is_stopped_while_it_waits_stops_the_others(port, index):
    async def stopped():
        meeting = asyncio.ensure_future(come(port, index, met=(met := Met())))
        await asyncio.sleep(0.5)
        for link in met.links.values():
            link.send({"stop": "SIGTERM"})
        await asyncio.wait({meeting}, timeout=1)
        meeting.cancel()

    # The third one never comes.
    _, *others = together(stopped(), come(port, 1 - index))
    assert all(isinstance(error, LeftError) and error.signal == "SIGTERM" for error in others), others
    assert str(others[0]) == "stopped by SIGTERM before all processes had come"


HELLO = {"mmtune": 1, "index": 1, "count": 2, "host": "h", "name": "n", "statement": {}, "problem": ""}


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": "1"},
        {"index": -1},
        {"index": 2},
        {"index": None},
        {"count": []},
        {"statement": 3},
        {"statement": {"seed": 3}},
        {"host": 1},
        {"problem": None},
        {"mmtune": 2},
    ],
)
def test_a_greeting_of_wrong_types_is_a_strangers(port, wrong):
    async def stranger():
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(json.dumps(HELLO | wrong).encode() + b"\n")
        answer = await reader.read()
        writer.close()
        return answer

    found = together(come(port, 0, count=2), stranger(), later(0.5, come(port, 1, count=2)))
    assert set(found[0].links) == {1}
    assert found[1] == b""


def test_a_line_without_end_is_a_strangers(port):
    async def stranger():
        await asyncio.sleep(0.2)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 3 * LIMIT)
        await asyncio.sleep(0.5)
        writer.close()

    assert set(together(come(port, 0, count=2), stranger(), later(0.5, come(port, 1, count=2)))[0].links) == {1}


@pytest.mark.parametrize("word", [{"go": 3}, {"refused": 3}, {"missing": 3}, {"stop": 3}, {"other": 3}])
def test_an_answer_of_wrong_types_is_a_strangers(port, word):
    async def run():
        async def serve(reader, writer):
            await reader.readline()
            writer.write(json.dumps(word).encode() + b"\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            return await asyncio.gather(come(port, 1), return_exceptions=True)

    assert "is not a run that this process can join" in str(asyncio.run(run())[0])
