"""Pictures of records that a model is about to be asked about, opened while it answers about those before."""

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mmtune.data.batch import NO_PIXELS
from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError
from mmtune.model import Model
from mmtune.records import Record
from mmtune.task import Task

THREADS = 2
_FEWEST, _MOST = 64, 512  # records of a chunk
_BYTES = 1 << 26  # of a chunk's pictures, two of which are held at a time

Ready = tuple[Record, np.ndarray | None]


def opened(model: Model, task: Task, record: Record) -> Ready:
    """Returns a record with its size, as the task prepares it, and its picture as the model takes it.

    Returns:
        Pixels, `NO_PIXELS` where a model that sees is asked without a picture, or None for a text model.

    Raises:
        DataError: When the picture cannot be opened.
    """
    if model.image_size is None:
        return record, None
    if not task.needs_picture or record.picture is None:
        return record, NO_PIXELS
    image = record.picture.open()
    return task.prepared(replace(record, size=record.size or image.size)), model.pixels(image)


def opened_ahead(
    model: Model, task: Task, records: Sequence[Record], log: FaultLog
) -> Generator[tuple[int, list[Ready | None]], None, None]:
    """Yields chunks of records with their pictures: the place of the first, and an entry a record.

    Those that cannot be asked about are None and logged.
    """
    size = chunk_size(model)
    pool = ThreadPoolExecutor(THREADS)

    def begin(start: int) -> list[tuple[Record, Future]]:
        chunk = records[start : start + size]
        return [(record, pool.submit(_prepared, model, task, record)) for record in chunk]

    try:
        following = begin(0)
        for start in range(0, len(records), size):
            now, following = following, begin(start + size)
            yield start, [_logged(record, ready.result(), log) for record, ready in now]
    finally:
        pool.shutdown(cancel_futures=True)


def chunk_size(model: Model) -> int:
    """Returns how many records are opened at once: many, so that rows of a batch seldom wait for the last answers."""
    if model.image_size is None:
        return _MOST
    return min(_MOST, max(_FEWEST, _BYTES // (3 * model.image_size**2)))


class _NotAsked(NamedTuple):
    """Why a record is left out: kind and problem of its fault."""

    kind: str
    problem: str


def _prepared(model: Model, task: Task, record: Record) -> Ready | _NotAsked:
    if (problem := task.unasked(record)) is not None:
        return _NotAsked("no prompt", f"{problem}; the record was left out")
    if task.needs_picture and record.picture is None:
        return _NotAsked("unreadable picture", f"record {record.id} has no picture")
    try:
        return opened(model, task, record)
    except DataError as error:
        return _NotAsked("unreadable picture", str(error))


def _logged(record: Record, ready: Ready | _NotAsked, log: FaultLog) -> Ready | None:
    if isinstance(ready, _NotAsked):
        log.add(record.source, record.id, ready.kind, ready.problem)
        return None
    return ready
