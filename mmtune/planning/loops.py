"""What loops cost beyond their first round.

XLA's cost analysis counts the body of a while loop once, whatever its trip count: it leaves out the other rounds of the
loss, whose logits are computed in parts. A loop whose trip count the compiler does not know, such as that over the
tokens of an answer, stays at one round.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mmtune.planning.hlo import Call, Instruction, Program, Shape, calls

_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_MOVES_NOTHING = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "call")


class Repeated(NamedTuple):
    """What the rounds of all loops after their first cost.

    Attributes:
        flops: Operations of matrix products, a multiplication and an addition being two.
        moved: Bytes that instructions read and write.
    """

    flops: float
    moved: float


def repeated(program: Program) -> Repeated:
    """Returns what XLA's cost analysis of a program leaves out."""
    flops = moved = 0.0
    for name, places in calls(program).items():
        body = program.computations.get(name, ())
        for place in places:
            rounds = place.runs - place.rounds_once
            if rounds:
                flops += rounds * _product_flops(body)
                moved += rounds * _moved(body, place) if place.stepwise else 0
    return Repeated(flops, moved)


def _product_flops(body: Sequence[Instruction]) -> int:
    shapes = {one.name: one.shapes for one in body}
    total = 0
    for one in body:
        if one.opcode == "dot" and (match := _CONTRACTED.search(one.attributes)):
            left = shapes[one.operands[0]][0].sizes
            contracted = math.prod(left[int(axis)] for axis in match[1].split(",") if axis)
            total += 2 * math.prod(one.shapes[0].sizes) * contracted
    return total


def _moved(body: Sequence[Instruction], place: Call) -> float:
    """Returns the bytes that one round reads and writes: of what the loop slices or stacks up, one row."""
    shapes = {one.name: one.shapes for one in body}
    loop = place.loop
    carried = {shape.sizes for shape in loop.shapes} if loop is not None else set()

    def size(shape: Shape) -> float:
        rows = loop.trip_count if loop is not None else 1
        return shape.bytes / rows if shape.sizes in carried and shape.sizes[:1] == (rows,) else shape.bytes

    total = 0.0
    for one in body:
        if one.opcode not in _MOVES_NOTHING:
            read = (shape for name in one.operands for shape in shapes.get(name, ()))
            total += sum(map(size, one.shapes)) + sum(map(size, read))
    return total
