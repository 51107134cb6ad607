"""The demo page before a crowd and under attack: minutes, so run by hand with `-m soak`."""

import pytest

from benchmarks.demo import batching, crowd, hostile

pytestmark = pytest.mark.soak


def test_fifty_clients_get_their_own_answers():
    found = crowd(clients=50, seconds=60)
    assert (found["lost"], found["mixed up"]) == (0, 0), found
    assert found["different answers"] == 50
    assert found["answered"] > 50


def test_decoding_together_gets_more_done():
    assert batching()["ratio"] > 1


def test_attacks_cost_nothing():
    found = hostile(500)
    assert found["alive"]
    assert found["leaks"] == 0
    assert found["memory"] < 1.1, found
