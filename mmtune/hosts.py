"""Several processes, one a host, that run the same program on one mesh. A plain single run is one of one."""

import itertools
import pickle
from typing import Any

import numpy as np


def several() -> bool:
    """Whether there is more than one process."""
    import jax

    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks."""
    import jax

    return jax.process_index() == 0


def whole(value: Any) -> np.ndarray:
    """Returns an array as numpy has it, also where parts of it lie on other hosts; then all processes must ask."""
    import jax

    if not isinstance(value, jax.Array) or value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


_meetings = itertools.count()
_LONG = 7 * 24 * 3600 * 1000  # milliseconds; the watcher ends a wait for somebody who is dead


def meet() -> None:
    """Waits until all processes are here: exchanges between devices give up on somebody who comes late."""
    if several():
        from jax._src import distributed

        client: Any = distributed.global_state.client
        client.wait_at_barrier(f"mmtune/meeting/{next(_meetings)}", _LONG)


def gathered(value: Any) -> list[Any]:
    """Returns the values that the processes give, in their order; all must ask."""
    if not several():
        return [value]
    from jax.experimental import multihost_utils

    meet()
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.array([len(data)])))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(data)] = data
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [pickle.loads(row[: int(size)].tobytes()) for row, size in zip(rows, sizes.ravel(), strict=True)]
