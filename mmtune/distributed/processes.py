"""The processes that run the same program on one mesh: which one this is, waiting for the others, exchanging values."""

import contextlib
import itertools
import json
import sys
import time
from typing import Any

import numpy as np

from mmtune.errors import UsageError

WAIT_SECONDS = 1800.0
"""How long a process waits for the others, unless `set_wait` changes it."""

_SLICE = 1.0  # seconds; between two slices of a wait signals are taken
_FIRST_LINE, _LINE_EVERY = 10.0, 30.0

_counters: dict[str, "itertools.count[int]"] = {}
_wait_seconds = WAIT_SECONDS
_latest = float("inf")


def set_wait(seconds: float) -> None:
    """Sets how long this process waits for the others."""
    global _wait_seconds
    _wait_seconds = seconds


def end_waits_in(seconds: float) -> None:
    """Lets no wait last longer than this from now on: the run was asked to stop."""
    global _latest
    _latest = time.monotonic() + seconds


def is_distributed() -> bool:
    """Whether there is more than one process."""
    import jax

    return jax.process_count() > 1


def is_main_process() -> bool:
    """Whether this process is the one that writes files and speaks."""
    import jax

    return jax.process_index() == 0


def fetch_global_array(value: Any) -> np.ndarray:
    """Returns an array as numpy has it, also where parts of it lie on other hosts; then all processes must ask."""
    import jax

    if not isinstance(value, jax.Array) or value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def exchange(what: str, value: Any) -> list[Any]:
    """Returns the values that the processes give, in their order; all must ask. No device takes part.

    A wait that is long is told of, with the processes that are waited for.

    Args:
        what: What the processes have done when they ask, such as "read the data"; each has a place of its own.
        value: Anything that JSON can hold.

    Raises:
        UsageError: When a process does not ask within the time that `set_wait` allows.
    """
    if not is_distributed():
        return [json.loads(json.dumps(value))]
    import jax

    client = _client()
    count, mine = jax.process_count(), jax.process_index()
    place = f"mmtune/{what}/{next(_counters.setdefault(what, itertools.count()))}"
    client.key_value_set(f"{place}/{mine}", json.dumps(value))
    began, lines = time.monotonic(), 0
    texts: dict[int, str] = {}
    for index in range(count):
        while index not in texts:
            if (text := _value(client, f"{place}/{index}")) is not None:
                texts[index] = text
                continue
            now = time.monotonic()
            waited = now - began
            there = {key.rpartition("/")[2] for key, _ in client.key_value_dir_get(place)}
            missing = [other for other in range(count) if str(other) not in there]
            if missing and (waited > _wait_seconds or now > _latest):
                has = "has" if len(missing) == 1 else "have"
                raise UsageError(f"{named(missing, count)} {has} not {what} after {waited:.0f} s")
            if missing and waited > _FIRST_LINE + lines * _LINE_EVERY:
                lines += 1
                say(f"waiting for {named(missing, count)} to have {what} ({waited:.0f} s)")
    return [json.loads(texts[index]) for index in range(count)]


def all_gather_objects(what: str, value: Any) -> list[Any]:
    """Returns the Python objects that the processes give, in their order; all must ask.

    Args:
        what: As of `exchange`.
        value: What can be pickled.
    """
    import pickle

    if not is_distributed():
        return [value]
    from jax.experimental import multihost_utils

    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = exchange(what, len(data))
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(data)] = data
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def say(text: str) -> None:
    """Prints a sentence to standard error, if anybody reads that; further lines of it are indented."""
    first, *more = text.split("\n")
    with contextlib.suppress(OSError):
        print("\n  ".join([f"mmtune: {first}", *more]), file=sys.stderr, flush=True)


def named(indices: list[int], count: int) -> str:
    """Returns processes in words.

    >>> named([1, 3], 4)
    'processes 1, 3 of 4'
    """
    return f"process{'es' * (len(indices) > 1)} {', '.join(map(str, indices))} of {count}"


def _client() -> Any:
    from jax._src import distributed  # read only: the store has no public way in

    return distributed.global_state.client


def _value(client: Any, key: str) -> str | None:
    """Returns the value of a key of the store, None when nobody has set it within a slice of the wait."""
    import jax

    try:
        return client.blocking_key_value_get(key, round(1000 * _SLICE))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None
