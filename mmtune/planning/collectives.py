"""What devices exchange in a compiled step."""

from typing import NamedTuple

from mmtune.planning.hlo import Program, calls

_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Traffic(NamedTuple):
    """Collectives of one kind: how many, and the bytes that each device has of their results."""

    count: float
    bytes: float


def traffic(program: Program) -> dict[str, Traffic]:
    """Returns the collectives of a program by kind, those in loops once a round.

    >>> from mmtune.planning.hlo import parse
    >>> traffic(parse("%a = f32[2,3]{1,0} all-reduce(%b), channel_id=1"))
    {'all-reduce': Traffic(count=1, bytes=24)}
    """
    found: dict[str, Traffic] = {}
    for name, places in calls(program).items():
        runs = sum(place.runs for place in places)
        for one in program.computations.get(name, ()):
            kind = one.opcode.removesuffix("-start")
            if kind in _KINDS:
                before = found.get(kind, Traffic(0, 0))
                size = sum(shape.bytes for shape in one.shapes)
                found[kind] = Traffic(before.count + runs, before.bytes + runs * size)
    return found
