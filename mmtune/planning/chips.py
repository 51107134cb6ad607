"""What chips can do, as their makers state it, for the roofline of a plan."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
        flops: Dense bfloat16 operations a second.
        bandwidth: Bytes a second from and to its memory.
        links: Bytes a second to the other devices of a mesh, one way.
        memory: GiB.
    """

    flops: float
    bandwidth: float
    links: float
    memory: float


CHIPS = {
    "v5e": Chip(197e12, 819e9, 200e9, 16),
    "v5p": Chip(459e12, 2765e9, 600e9, 95),
    "v6e": Chip(918e12, 1640e9, 448e9, 32),
    "A100": Chip(312e12, 2039e9, 300e9, 80),
    "H100": Chip(989e12, 3350e9, 450e9, 80),
    "H200": Chip(989e12, 4800e9, 450e9, 141),
}
"""By name. Links: of a TPU all its inter-chip links together, of a GPU half of what NVLink states for both ways."""


def step_seconds(chip: Chip, flops: float, moved: float, exchanged: float) -> float:
    """Returns the least time of a step: the slower of computing and memory, then what is exchanged.

    Args:
        chip: The device.
        flops, moved: Operations, and bytes read and written, on each device.
        exchanged: Bytes of the results of collectives on each device.
    """
    return max(flops / chip.flops, moved / chip.bandwidth) + exchanged / chip.links
