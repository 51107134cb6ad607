"""Batches of generated scenes, drawn ahead in processes of their own and sorted into few shapes."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import jax
import numpy as np

from mmtune.data.batch import Arrays, Row, collate
from mmtune.data.dense import DenseTargets
from mmtune.models.tiny import TINY, tiny_tokenizer
from mmtune.training.pretrain_scenes import Sample, SampleMaker

_CHUNK = 64  # scenes that a process draws at once
_AHEAD = 6  # chunks that may wait, a process
_USUAL = 40  # tokens of an ordinary list of objects
LONG, SHORT = (56, 104, 168, 232, 640), (28, 72)
"""Text tokens that rows are padded to."""


@dataclass(frozen=True)
class PictureBatch:
    """Pictures, with rows in the second stage.

    Attributes:
        images: (batch, size, size, 3) uint8.
        dense: Targets of the dense head.
        long, short: What `collate` returns for the long rows and for the short ones, of which a picture has several.
    """

    images: np.ndarray
    dense: DenseTargets
    long: tuple[Arrays, Arrays] | None = None
    short: tuple[Arrays, Arrays] | None = None

    def arrays(self) -> dict[str, Any]:
        """Returns all of it as one tree."""
        tree: dict[str, Any] = {"images": self.images, "dense": self.dense}
        for name, rows in (("long", self.long), ("short", self.short)):
            if rows is not None:
                tree |= {name: rows[0], f"{name}_labels": rows[1]}
        return tree


class Feed:
    """An endless stream of batches; to be used as a context.

    Args:
        dense_batch, batch: Pictures a batch of the first and the second stage.
        next_scene: Where in the stream of scenes to begin.
        workers: Processes that draw.
        lengths: Text tokens that long rows are padded to, and short ones, ascending.
        lesson: Options of `SampleMaker`.
    """

    def __init__(
        self,
        dense_batch: int,
        batch: int,
        next_scene: int,
        workers: int,
        lengths: tuple[Sequence[int], Sequence[int]] = (LONG, SHORT),
        **lesson: Any,
    ):
        self.next_scene = next_scene
        self._lengths = lengths
        self._ahead = _AHEAD * workers
        self._sizes = {True: dense_batch, False: batch}
        self._image_tokens = (TINY.image_size // TINY.patch_size) ** 2
        self._drawn_to = next_scene
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (lesson,))
        self._coming: deque[Future[list[Sample]]] = deque()
        self._waiting: dict[tuple[int, ...], list[Sample]] = {}
        self._ready: dict[bool, deque[list[Sample]]] = {True: deque(), False: deque()}

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self, dense_only: bool) -> PictureBatch:
        """Returns the next batch; without rows for the first stage."""
        size, ready = self._sizes[dense_only], self._ready[dense_only]
        while not ready:
            for sample in self._draw():
                shape = (-1, -1) if dense_only else self._shape(sample)
                waiting = self._waiting.setdefault(shape, [])
                waiting.append(sample)
                if len(waiting) >= size:
                    ready.append(waiting)
                    del self._waiting[shape]
        return self._batch(ready.popleft(), dense_only)

    def _draw(self) -> list[Sample]:
        while len(self._coming) < self._ahead:
            self._coming.append(self._pool.submit(_make, self._drawn_to))
            self._drawn_to += _CHUNK
        self.next_scene += _CHUNK
        return self._coming.popleft().result()

    def _batch(self, samples: list[Sample], dense_only: bool) -> PictureBatch:
        images = np.stack([sample.pixels for sample in samples])
        dense = jax.tree.map(lambda *parts: np.stack(parts), *(sample.dense for sample in samples))
        if dense_only:
            return PictureBatch(images, dense)
        long, short = self._shape(samples[0])
        asked = self._collate([row for sample in samples for row in sample.short], short)
        rows = [row for sample in samples for row in sample.long]
        if not rows:
            return PictureBatch(images, dense, None, asked)
        listed = self._collate(rows, long)
        # A crowd is as much work as several ordinary pictures and counts for more than one.
        listed[1]["weights"] *= np.sqrt([[row.target_length / _USUAL] for row in rows], dtype=np.float32)
        return PictureBatch(images, dense, listed, asked)

    def _shape(self, sample: Sample) -> tuple[int, ...]:
        longest = (max((row.text_length for row in rows), default=0) for rows in (sample.long, sample.short))
        return tuple(
            next(n for n in (0, *lengths) if most <= n) for most, lengths in zip(longest, self._lengths, strict=True)
        )

    def _collate(self, rows: Sequence[Row], length: int) -> tuple[Arrays, Arrays]:
        return collate(rows, self._image_tokens, length, length)


_maker: SampleMaker


def _prepare(lesson: dict[str, Any]) -> None:
    global _maker
    _maker = SampleMaker(tiny_tokenizer(), TINY.image_size, TINY.patch_size, **lesson)


def _make(first: int) -> list[Sample]:
    return [_maker(index) for index in range(first, first + _CHUNK)]
