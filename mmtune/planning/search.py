"""The fastest ways to train a model on so many devices, among those that fit.

What cannot fit or cannot be faster by arithmetic is not compiled. The rest is: first what is likely to fit, and of that
the most promising.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmtune.planning.bounds import Bounds

SCHEMES: tuple[str | None, ...] = (None, "int8", "int4")
REMATERIALISE = ("none", "dots", "full")

_MORE = 1.3  # what a way takes over what it takes at least, until one was compiled


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
        untried: Families of which nothing was found to fit yet, and something still may.
        compiled: How many ways were compiled.
    """

    fitting: list[Tried] = field(default_factory=list)
    left: dict[Family, str] = field(default_factory=dict)
    untried: list[Family] = field(default_factory=list)
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


def schemes_of(quantize: str | None, full: bool) -> tuple[str | None, ...]:
    """Returns the quantizations that may be tried: the one that is asked for, and none where all weights train."""
    return (quantize,) if quantize or full else SCHEMES


def families_of(devices: int, schemes: Iterable[str | None]) -> list[Family]:
    """Returns every way to train on so many devices, batch sizes apart."""
    return [Family(*parts) for parts in product(meshes(devices), schemes, REMATERIALISE)]


def search(
    families: Iterable[Family],
    sizes: Callable[[Family], Sequence[int]],
    bound: Callable[[Way], "Bounds"],
    measure: Callable[[Way], Taken],
    memory: float,
    on_step: Callable[[Found, Way | None], None] = lambda *_: None,
) -> Found:
    """Returns the ways that fit, of each family that with the largest batch.

    Args:
        families: What may be tried.
        sizes: Batch sizes of a family, rising.
        bound: What a way takes at least.
        measure: Compiles a way.
        memory: Bytes of a device.
        on_step: Told what is known so far and what is compiled next, None at the end.
    """
    found, bound = Found(), cache(bound)
    likely = _Likely(bound, memory)
    open_sizes = dict(_possible(families, sizes, bound, memory, found))
    fitting: dict[Family, Tried] = {}
    whole: dict[tuple[str, str | None], int] = {}  # of a mesh and a scheme the least redone that fits the largest batch
    while True:
        found.fitting = sorted(fitting.values(), key=lambda one: one.per_example)
        best = found.fitting[0] if fitting else None
        for family, possible in list(open_sizes.items()):
            reason = _needless(Way(family, possible[-1]), bound, best, whole) if possible else ""
            if reason or not possible:
                del open_sizes[family]
                if reason and family not in fitting:
                    found.left[family] = reason
        found.untried = [family for family in open_sizes if family not in fitting]
        if not open_sizes:
            on_step(found, None)
            return found
        family = min(open_sizes, key=lambda one: likely.rank(one, open_sizes[one], bool(fitting)))
        way = Way(family, likely.largest(family, open_sizes[family]))
        on_step(found, way)
        taken = measure(way)
        found.compiled += 1
        likely.learn(way, taken)
        if taken.bytes <= memory:
            fitting[family] = Tried(way, taken)
            open_sizes[family] = [size for size in open_sizes[family] if size > way.batch_size]
            found.left.pop(family, None)
            if way.batch_size == sizes(family)[-1]:
                key, redone = (family.mesh, family.quantize), REMATERIALISE.index(family.rematerialise)
                whole[key] = min(redone, whole.get(key, redone))
            continue
        if family not in fitting:
            found.left[family] = f"does not fit: {_gib(taken.bytes)} with a batch of {way.batch_size}"
        # What is too much by far with this batch is so with half of it: buffers grow with the batch at most.
        open_sizes[family] = [
            size
            for size in open_sizes[family]
            if size < way.batch_size and taken.bytes * size / way.batch_size <= memory
        ]


def _needless(
    largest: Way, bound: Callable[[Way], "Bounds"], best: Tried | None, whole: Mapping[tuple[str, str | None], int]
) -> str:
    """Returns why nothing of a family need be compiled; empty: it may be the best."""
    family, redone = largest.family, REMATERIALISE.index(largest.family.rematerialise)
    if redone > whole.get((family.mesh, family.quantize), redone):
        return "not needed: it fits at the largest batch with less computed twice"
    if best is not None and bound(largest).seconds / largest.batch_size >= best.per_example:
        return "cannot be faster than the best"
    return ""


class _Likely:
    """What is likely to fit: the least that a way takes, and as much more as ways like it were found to take.

    Args:
        bound: What a way takes at least.
        memory: Bytes of a device.
    """

    def __init__(self, bound: Callable[[Way], "Bounds"], memory: float):
        self._bound, self._memory = bound, memory
        self._more: dict[str, float] = {}
        self._last = _MORE

    def learn(self, way: Way, taken: Taken) -> None:
        """Notes what a way took."""
        least = self._bound(way).bytes
        if least > 0:
            self._more[way.family.rematerialise] = self._last = taken.bytes / least

    def needs(self, way: Way) -> float:
        """Returns the bytes that a way is likely to take."""
        return self._bound(way).bytes * self._more.get(way.family.rematerialise, self._last)

    def fits(self, way: Way) -> bool:
        """Whether a way is likely to fit."""
        return self.needs(way) <= self._memory

    def largest(self, family: Family, sizes: Sequence[int]) -> int:
        """Returns the largest batch size that is likely to fit, the smallest one where none is."""
        return next((size for size in reversed(sizes) if self.fits(Way(family, size))), sizes[0])

    def rank(self, family: Family, sizes: Sequence[int], found: bool) -> tuple[bool, float, float]:
        """Returns what a family is sorted by: what is likely to fit comes first, wide weights before quantized ones.

        Until something was found, families that are not likely to fit are sorted by what they need.
        """
        way = Way(family, self.largest(family, sizes))
        bounds = self._bound(way)
        if not found and not self.fits(way):
            return True, self.needs(way), 0.0
        return not self.fits(way), SCHEMES.index(family.quantize), bounds.estimate / way.batch_size


def _possible(
    families: Iterable[Family],
    sizes: Callable[[Family], Sequence[int]],
    bound: Callable[[Way], "Bounds"],
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


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
