"""The fastest ways to train a model on so many devices, among those that fit.

What cannot fit or cannot be faster by arithmetic is not compiled; the rest is, the most promising first, until the time
is up.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mmtune.planning.bounds import Bounds

SCHEMES: tuple[str | None, ...] = (None, "int8", "int4")
REMATERIALISE = ("none", "dots", "full")


class Family(NamedTuple):
    """Ways that differ in their batch size alone."""

    mesh: str
    quantize: str | None
    rematerialise: str


class Way(NamedTuple):
    """A family with a batch size."""

    family: Family
    batch_size: int


class Taken(NamedTuple):
    """What a way takes: bytes on each device, and seconds of a step."""

    bytes: float
    seconds: float


@dataclass(frozen=True)
class Tried:
    """A way that was compiled."""

    way: Way
    taken: Taken

    @property
    def per_example(self) -> float:
        """Seconds of a row."""
        return self.taken.seconds / self.way.batch_size


@dataclass
class Found:
    """What a search found.

    Attributes:
        fitting: Those that fit, the fastest for each example first.
        left: Families of which nothing is among them, and why.
        compiled: How many ways were compiled.
    """

    fitting: list[Tried] = field(default_factory=list)
    left: dict[Family, str] = field(default_factory=dict)
    compiled: int = 0


def meshes(devices: int) -> list[str]:
    """Returns every way to lay devices out along data and model.

    >>> meshes(4)
    ['data=4,model=1', 'data=2,model=2', 'data=1,model=4']
    """
    return [f"data={devices // size},model={size}" for size in range(1, devices + 1) if devices % size == 0]


def batch_sizes(most: int, data: int) -> list[int]:
    """Returns a row for each of `data` devices, two, four and so on, up to `most` rows."""
    sizes, size = [], data
    while size <= most:
        sizes.append(size)
        size *= 2
    return sizes


def search(
    families: Iterable[Family],
    sizes: Callable[[Family], Sequence[int]],
    bound: Callable[[Way], Bounds],
    measure: Callable[[Way], Taken],
    memory: float,
    seconds: float,
    on_step: Callable[[int, int, Tried | None, Way], None] = lambda *_: None,
) -> Found:
    """Returns the ways that fit, of each family that with the largest batch.

    Args:
        families: What may be tried.
        sizes: Batch sizes of a family, rising.
        bound: What a way takes at least.
        measure: Compiles a way.
        memory: Bytes of a device.
        seconds: After which nothing more is begun; one way is compiled in any case.
        on_step: Told how many families are done of how many, the best so far, and what is compiled next.
    """
    end = time.monotonic() + seconds
    found = Found()
    open_families = list(_possible(families, sizes, bound, memory, found))
    # Wide weights before those in few bits: only what they give up is asked for what it costs.
    open_families.sort(key=lambda one: (SCHEMES.index(one[0].quantize), _estimate(one, bound)))
    of = len(open_families)
    whole: dict[tuple[str, str | None], int] = {}  # of a mesh and a scheme the least redone that fits the largest batch
    while open_families:
        best = found.fitting[0] if found.fitting else None
        family, possible = one = _next(open_families, bound, found)
        open_families.remove(one)
        key, redone = (family.mesh, family.quantize), REMATERIALISE.index(family.rematerialise)
        largest = Way(family, possible[-1])
        if redone > whole.get(key, redone):
            found.left[family] = "not needed: it fits at the largest batch with less computed twice"
        elif best is not None and bound(largest).seconds / largest.batch_size >= best.per_example:
            found.left[family] = "cannot be faster than the best"
        elif found.compiled and time.monotonic() > end:
            found.left[family] = "not tried: the time was up (--search-seconds)"
        else:
            told = partial(on_step, of - len(open_families) - 1, of, best)
            tried = _largest(family, possible, measure, memory, end, found, told)
            if tried is None:
                continue
            found.fitting = sorted([*found.fitting, tried], key=lambda one: one.per_example)
            if tried.way.batch_size == sizes(family)[-1]:
                whole[key] = min(redone, whole.get(key, redone))
    return found


def _next(
    families: Sequence[tuple[Family, list[int]]], bound: Callable[[Way], Bounds], found: Found
) -> tuple[Family, list[int]]:
    """Returns the most promising family; where that did not fit, the one that needs least, until something fits."""
    if found.compiled and not found.fitting:
        return min(families, key=lambda one: bound(Way(one[0], one[1][0])).bytes)
    return families[0]


def _possible(
    families: Iterable[Family],
    sizes: Callable[[Family], Sequence[int]],
    bound: Callable[[Way], Bounds],
    memory: float,
    found: Found,
) -> Iterator[tuple[Family, list[int]]]:
    """Yields families with the batch sizes that may fit, and notes why others do not."""
    for family in families:
        possible = sizes(family)
        least = [bound(Way(family, size)).bytes for size in possible]
        fitting = [size for size, needed in zip(possible, least, strict=True) if needed <= memory]
        if fitting:
            yield family, fitting
        elif possible:
            found.left[family] = f"does not fit: at least {_gib(least[0])} with a batch of {possible[0]}"
        else:
            found.left[family] = "no batch size up to the largest can be divided over its data axis"


def _estimate(one: tuple[Family, list[int]], bound: Callable[[Way], Bounds]) -> float:
    family, sizes = one
    return bound(Way(family, sizes[-1])).estimate / sizes[-1]


def _largest(
    family: Family,
    sizes: Sequence[int],
    measure: Callable[[Way], Taken],
    memory: float,
    end: float,
    found: Found,
    on_step: Callable[[Way], None],
) -> Tried | None:
    """Returns the way with the largest batch that fits; None with the reason noted where there is none."""
    left = list(sizes)
    while left:
        way = Way(family, left.pop())
        on_step(way)
        taken = measure(way)
        found.compiled += 1
        if taken.bytes <= memory:
            found.left.pop(family, None)
            return Tried(way, taken)
        found.left[family] = f"does not fit: {_gib(taken.bytes)} with a batch of {way.batch_size}"
        if time.monotonic() > end:
            found.left[family] += ", smaller ones were not tried: the time was up (--search-seconds)"
            return None
        # What is too much by far with this batch is so with half of it: temporary buffers grow with the batch at most.
        left = [size for size in left if taken.bytes * size / way.batch_size <= memory] or left[:1]
    return None


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
