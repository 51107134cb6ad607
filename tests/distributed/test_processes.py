"""Values are exchanged through the store that all processes have; a wait has an end and names who is missing."""

import threading
import time

import jax
import pytest

from mmtune.distributed import processes
from mmtune.distributed.processes import end_waits_in, exchange, set_wait
from mmtune.errors import UsageError


class Store:
    """JAX' key-value store, for threads that stand for processes."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        assert key not in self.values, "JAX refuses to set a key twice"
        self.values[key] = value

    def key_value_dir_get(self, place):
        return [(key, value) for key, value in self.values.items() if key.startswith(f"{place}/")]

    def blocking_key_value_get(self, key, milliseconds):
        until = time.monotonic() + milliseconds / 1000
        while time.monotonic() < until:
            if key in self.values:
                return self.values[key]
            time.sleep(0.005)
        raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")


@pytest.fixture
def three(monkeypatch):
    """Three processes, as threads; returns what runs a function in some of them."""
    store, own = Store(), threading.local()
    monkeypatch.setattr(processes, "_client", lambda: store)
    monkeypatch.setattr(processes, "is_distributed", lambda: True)
    monkeypatch.setattr(processes, "_SLICE", 0.05)
    monkeypatch.setattr(processes, "_FIRST_LINE", 0.2)
    monkeypatch.setattr(processes, "_wait_seconds", 1.0)
    monkeypatch.setattr(processes, "_latest", float("inf"))
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: own.index)

    class Counters:
        """Each process counts for itself."""

        def setdefault(self, what, start):
            if not hasattr(own, "counters"):
                own.counters = {}
            return own.counters.setdefault(what, start)

    monkeypatch.setattr(processes, "_counters", Counters())

    def run(function, indices=range(3)):
        found = {}

        def work(index):
            own.index = index
            try:
                found[index] = function(index)
            except UsageError as error:
                found[index] = error

        threads = [threading.Thread(target=work, args=[index]) for index in indices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return run


def test_all_get_all_values_in_order(three):
    found = three(lambda index: [exchange("counted", {"index": index}), exchange("counted", index * index)])
    assert found == {key: [[{"index": 0}, {"index": 1}, {"index": 2}], [0, 1, 4]] for key in range(3)}


def test_who_is_missing_is_named_and_said_meanwhile(three, capsys):
    began = time.monotonic()
    found = three(lambda _: exchange("read the data", None), [0, 2])
    assert 0.9 < time.monotonic() - began < 5
    assert [str(error) for error in found.values()] == ["process 1 of 3 has not read the data after 1 s"] * 2
    assert "mmtune: waiting for process 1 of 3 to have read the data (0 s)" in capsys.readouterr().err


def test_several_that_are_missing(three):
    assert str(three(lambda _: exchange("joined", None), [1])[1]) == "processes 0, 2 of 3 have not joined after 1 s"


def test_a_late_process_is_waited_for(three):
    def late(index):
        time.sleep(0.6 * (index == 1))
        return exchange("come", index)

    assert three(late) == {key: [0, 1, 2] for key in range(3)}


def test_a_run_that_is_stopped_does_not_wait_long(three):
    set_wait(60)
    end_waits_in(0.3)
    began = time.monotonic()
    assert "has not saved" in str(three(lambda _: exchange("saved", None), [0, 2])[0])
    assert time.monotonic() - began < 5


def test_one_process_has_its_own_value():
    assert exchange("anything", (1, {"a": 2})) == [[1, {"a": 2}]]
    exchange("anything", None)
