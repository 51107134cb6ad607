"""What a contender measures of itself, in a process of its own, and prints as one line of JSON."""

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What `mmtune` begins its commands with: large buffers of malloc in huge pages."""


@dataclass(frozen=True)
class Measured:
    """One contender's run.

    Attributes:
        seconds: Of each repetition, by the clock.
        cpu: Of each repetition, of all cores together.
        first: Seconds of the first one, which compiles.
        peak_gib: Most memory of the device where it has its own, else of the process.
        started: Seconds from the start of the process to the end of the first one.
        tokens: What was written, for a check that contenders agree; empty where nothing is.
        trainable: Trained parameters.
    """

    seconds: list[float]
    cpu: list[float]
    first: float
    peak_gib: float
    started: float
    tokens: list[list[int]] = field(default_factory=list)
    trainable: int = 0


def host_peak() -> float:
    """Returns the process's most memory so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def jax_peak() -> float:
    """Returns the most memory so far of what JAX computes on, in GiB: the accelerator's own, or the process's."""
    import jax

    statistics = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return statistics["peak_bytes_in_use"] / 2**30 if statistics else host_peak()


def timed(run: Callable[[], object], times: int) -> list[float]:
    """Returns the seconds of each run of what JAX computes, until it is there, after a first one that compiles."""
    import jax

    jax.block_until_ready(run())
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(
    begun: float,
    run: Callable[[int], object],
    repetitions: int,
    block: int = 1,
    warm: bool = True,
    peak: Callable[[], float] = host_peak,
    **more: object,
) -> None:
    """Measures and prints.

    Args:
        begun: `time.time()` when the process was started.
        run: Does the work so many times and returns when it is done, on the device too.
        repetitions: How often a block is measured.
        block: Times that the work is done in one measurement: what a trainer does once a call is shared out.
        warm: Whether it is done once more before anything is measured.
        peak: Returns the most memory so far, in GiB.
        **more: Further members of `Measured`.
    """
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    started = time.time() - begun
    if warm:
        run(1)
    seconds, cpu = [], []
    for _ in range(repetitions):
        clock, process = time.perf_counter(), time.process_time()
        run(block)
        seconds.append((time.perf_counter() - clock) / block)
        cpu.append((time.process_time() - process) / block)
    found = Measured(seconds, cpu, first, peak(), started, **more)  # pyright: ignore[reportArgumentType]
    print(json.dumps(asdict(found)), flush=True)
