"""What devices exchange in a compiled step, read off its text."""

import math
import re
from typing import NamedTuple

_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# "%x = (f32[8,4]{1,0}, f32[2]{0}) all-reduce(...)" or "%x = bf16[16]{0} all-gather-start(...)".
_LINE = re.compile(rf"= (?P<shapes>\(?[^=]*?) (?P<kind>{'|'.join(_KINDS)})(?:-start)?\(")
_SHAPE = re.compile(r"(?P<dtype>pred|[a-z]+\d+)[a-z0-9]*\[(?P<sizes>[\d,]*)\]")


class Traffic(NamedTuple):
    """Collectives of one kind: how many, and the bytes that each device has of their results."""

    count: float
    bytes: float


def traffic(text: str) -> dict[str, Traffic]:
    """Returns the collectives of an HLO module's text by kind.

    >>> traffic("%a = f32[2,3]{1,0} all-reduce(%b), channel_id=1")
    {'all-reduce': Traffic(count=1, bytes=24)}
    """
    found: dict[str, Traffic] = {}
    for match in _LINE.finditer(text):
        sizes = [_bytes(shape["dtype"], shape["sizes"]) for shape in _SHAPE.finditer(match["shapes"])]
        before = found.get(match["kind"], Traffic(0, 0))
        found[match["kind"]] = Traffic(before.count + 1, before.bytes + sum(sizes))
    return found


def _bytes(dtype: str, sizes: str) -> int:
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    return math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
