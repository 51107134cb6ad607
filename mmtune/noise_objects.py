"""Made-up objects among real ones, in the manner of Pix2Seq (arXiv 2109.10852).

They teach a model to say of a box that it is nothing, so that it can go on listing for as long as there is room and
rank what it lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtune.codecs.boxes import NOISE_LABEL
from mmtune.records import Box


@dataclass(frozen=True)
class NoisyObjects:
    """Real objects and noise, in the order of the target.

    Attributes:
        boxes: The real ones as they were given, noise under the noise label.
        sources: For each the place, among those given, of the real object that it is or is made from; -1: none.
    """

    boxes: tuple[Box, ...]
    sources: tuple[int, ...]

    def shown(self, boxes: Sequence[Box], labels: Sequence[str], rng: np.random.Generator) -> list[str | None]:
        """Returns the label that the decoder reads behind each box in place of its own; None: its own.

        Decoding writes real labels only. So behind a noise box too a real one is read: a noise label in front would
        tell what is to come, and never stands there when it counts.

        Args:
            boxes: The real boxes.
            labels: What to choose from where noise is made from nothing.
            rng: Source of randomness.
        """
        read: list[str | None] = []
        for box, source in zip(self.boxes, self.sources, strict=True):
            invented = str(rng.choice(labels)) if labels and source < 0 else None
            label = boxes[source].label if source >= 0 else invented
            read.append(label if box.label == NOISE_LABEL else None)
        return read


def with_noise(
    boxes: Sequence[Box], size: tuple[int, int], count: int, rng: np.random.Generator, raster: bool = False
) -> NoisyObjects:
    """Returns real boxes filled up with noise.

    A random number of the made-up ones are near copies of real boxes (each edge moved by up to a tenth of the side),
    which teaches not to list an object twice; of the rest, half are real boxes moved elsewhere, half are random. Noise
    lies in whole pixels unless real boxes do not: otherwise any location between two pixels would give it away, unseen.

    Noise follows the real boxes, as published. Where these are in raster order, it stands among them in the same order
    instead, a near copy behind its original: behind a list that is in order, a box out of order could be nothing else.

    Args:
        boxes: The real boxes in the order of the target; without any, all noise is random.
        size: (width, height) of the picture in pixels.
        count: How many objects to fill up to.
        rng: Source of randomness.
        raster: Whether the real boxes are in raster order.
    """
    real = list(range(len(boxes)))
    noise, sources, copies = _made(boxes, size, count - len(boxes), rng)
    everything = [*boxes, *noise]
    order = list(range(len(everything)))
    if raster:
        standing = [everything[place] for place in real] + [
            boxes[source] if copy else box for box, source, copy in zip(noise, sources, copies, strict=True)
        ]
        order.sort(key=lambda place: (standing[place].y0, standing[place].x0, place))
    sources = [*real, *sources]
    return NoisyObjects(tuple(everything[place] for place in order), tuple(sources[place] for place in order))


def _made(
    boxes: Sequence[Box], size: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[list[Box], list[int], list[bool]]:
    """Returns noise, which real box each is made from, and whether it is a near copy of it."""
    if count <= 0:
        return [], [], []
    limits = np.array([*size, *size], float)
    made = rng.uniform(0, 1, (count, 2, 2))
    made.sort(axis=1)
    edges = made.reshape(count, 4) * limits
    whole = all(edge.is_integer() for box in boxes for edge in map(float, (box.x0, box.y0, box.x1, box.y1)))
    sources, copies = np.full(count, -1), np.zeros(count, bool)
    if boxes:
        sources = rng.integers(0, len(boxes), count)
        real = np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes])[sources]
        sides = np.tile(real[:, 2:] - real[:, :2], 2)
        jittered = real + sides * rng.uniform(-0.1, 0.1, (count, 4))
        centres = (real[:, :2] + real[:, 2:]) / 2
        shifted = real + np.tile(rng.uniform(0, 1, (count, 2)) * limits[:2] - centres, 2)
        copies = rng.permutation(np.arange(count) < rng.integers(0, count + 1))
        moved = rng.random(count) < 0.5
        edges = np.where(copies[:, None], jittered, np.where(moved[:, None], shifted, edges))
    edges = np.clip(np.round(edges) if whole else edges, 0, limits)
    noise = [Box(NOISE_LABEL, x0, y0, x1, y1) for x0, y0, x1, y1 in edges.tolist()]
    return noise, sources.tolist(), copies.tolist()
