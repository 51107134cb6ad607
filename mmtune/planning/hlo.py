"""The text of a compiled program as computations of instructions, and how often each computation runs."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# "  ROOT %x.1 = (f32[8,4]{1,0}, s32[]) while(%tuple), condition=%c, body=%b, backend_config={...}"
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<opcode>[a-z][\w\-]*)\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) .*\{$")
_ARRAY = re.compile(r"(?P<dtype>pred|[a-z]+\d+)[a-z0-9]*\[(?P<sizes>[\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?P<how>\w+)=(?:(?P<one>%[\w.\-]+)|\{(?P<several>%[^}]*)\})")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

# What runs instruction by instruction; all else that is called lies within one instruction, such as a fusion.
_STEPWISE = ("body", "condition", "branch_computations", "true_computation", "false_computation")


class Shape(NamedTuple):
    """One array of an instruction's result."""

    sizes: tuple[int, ...]
    bits: int

    @property
    def bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.sizes) * self.bits // 8


class Instruction(NamedTuple):
    """One instruction of a computation.

    Attributes:
        shapes: The arrays of its result.
        operands: Names of instructions of the same computation.
        attributes: The rest of its line.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str

    @property
    def trip_count(self) -> int:
        """Rounds of a loop; 1 where the compiler does not know them, and for all other instructions."""
        match = _TRIP_COUNT.search(self.attributes) if self.opcode == "while" else None
        return int(match[1]) if match else 1

    @property
    def called(self) -> list[tuple[str, bool]]:
        """Names of the computations that it calls, and whether each runs instruction by instruction."""
        found = []
        for match in _CALLED.finditer(self.attributes):
            stepwise = match["how"] in _STEPWISE or self.opcode == "call"
            found += [(name, stepwise) for name in _NAME.findall(match["one"] or match["several"])]
        return found


class Program(NamedTuple):
    """Computations by name; the entry's name, which is "" in text without computations."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str


class Call(NamedTuple):
    """One place from which a computation is called.

    Attributes:
        runs: How often it runs in one execution of the program.
        rounds_once: The same if every loop had one round, as XLA's cost analysis counts.
        stepwise: Whether its instructions run one by one, not within a fusion.
        loop: The innermost loop around it, or None.
    """

    runs: int
    rounds_once: int
    stepwise: bool
    loop: Instruction | None


def parse(text: str) -> Program:
    """Returns the program of an HLO module's text."""
    found: dict[str, list[Instruction]] = defaultdict(list)
    entry = name = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name = header["name"]
            entry = name if header["entry"] else entry
        elif match := _INSTRUCTION.match(line):
            operands = tuple(_NAME.findall(match["operands"]))
            found[name].append(
                Instruction(match["name"], match["opcode"], _shapes(match["shape"]), operands, match["rest"])
            )
    return Program(dict(found), entry)


def calls(program: Program) -> dict[str, list[Call]]:
    """Returns the places from which each computation is called; the entry is called once."""
    found: dict[str, list[Call]] = defaultdict(list)
    waiting = [(program.entry, Call(1, 1, True, None))]
    while waiting:
        name, call = waiting.pop()
        found[name].append(call)
        for one in program.computations.get(name, ()):
            loop = one if one.opcode == "while" else call.loop
            for called, stepwise in one.called:
                runs = call.runs * one.trip_count
                waiting.append((called, Call(runs, call.rounds_once, call.stepwise and stepwise, loop)))
    return dict(found)


def _shapes(text: str) -> tuple[Shape, ...]:
    found = []
    for match in _ARRAY.finditer(text):
        bits = 8 if match["dtype"] == "pred" else int(re.sub(r"\D", "", match["dtype"]))
        found.append(Shape(tuple(int(size) for size in match["sizes"].split(",") if size), bits))
    return tuple(found)
