"""Several processes, one a host, that run the same program on one mesh. A plain single run is one of one."""

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
