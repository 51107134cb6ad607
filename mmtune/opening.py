"""Pictures of records that a model is about to be asked about, opened while it answers about those before."""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mmtune.data.batch import NO_PIXELS
from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError
from mmtune.model import Model
from mmtune.records import WHOLE, Part, Query, Record
from mmtune.task import Task

THREADS = 2
_FEWEST, _MOST = 64, 512  # looks at pictures in a chunk
_BYTES = 1 << 26  # of a chunk's pictures, two of which are held at a time


class Opened(NamedTuple):
    """A record that is ready to be asked about.

    Attributes:
        record: With its size, as the task prepares it.
        queries: What is asked.
        pictures: The whole picture, and each part that is asked about, as the model takes it; `NO_PIXELS` where a model
            that sees is asked without a picture, None for a text model.
    """

    record: Record
    queries: tuple[Query, ...]
    pictures: Mapping[Part, np.ndarray | None]


def opened(model: Model, task: Task, record: Record) -> Opened:
    """Opens a record's picture.

    Raises:
        DataError: When it cannot be opened.
        UsageError: When the record has not what the task asks about.
    """
    if model.image_size is None or not task.needs_picture or record.picture is None:
        return Opened(record, tuple(task.queries(record)), {WHOLE: None if model.image_size is None else NO_PIXELS})
    image = record.picture.open()
    record = task.prepared(replace(record, size=record.size or image.size))
    queries = tuple(task.queries(record))
    parts = dict.fromkeys([WHOLE, *(query.look.part for query in queries)])
    return Opened(record, queries, {part: model.pixels(image, part) for part in parts})


def opened_ahead(
    model: Model, task: Task, records: Sequence[Record], log: FaultLog
) -> Generator[tuple[int, list[Opened | None]], None, None]:
    """Yields chunks of records with their pictures: the place of the first, and an entry a record.

    Those that cannot be asked about are None and logged.
    """
    size = chunk_size(model, task, records)
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


def chunk_size(model: Model, task: Task, records: Sequence[Record]) -> int:
    """Returns how many records are opened at once: many, so that rows of a batch seldom wait for the last answers."""
    if model.image_size is None:
        return _MOST
    asked = next((record for record in records if task.unasked(record) is None), None)
    looks = 1 if asked is None else max(1, len({query.look for query in task.queries(asked)}))
    fit = _BYTES // (3 * model.image_size**2)
    return max(1, min(_MOST, max(_FEWEST, fit)) // looks)


class _NotAsked(NamedTuple):
    """Why a record is left out: kind and problem of its fault."""

    kind: str
    problem: str


def _prepared(model: Model, task: Task, record: Record) -> Opened | _NotAsked:
    if (problem := task.unasked(record)) is not None:
        return _NotAsked("no prompt", f"{problem}; the record was left out")
    if task.needs_picture and record.picture is None:
        return _NotAsked("unreadable picture", f"record {record.id} has no picture")
    try:
        return opened(model, task, record)
    except DataError as error:
        return _NotAsked("unreadable picture", str(error))


def _logged(record: Record, ready: Opened | _NotAsked, log: FaultLog) -> Opened | None:
    if isinstance(ready, _NotAsked):
        log.add(record.source, record.id, ready.kind, ready.problem)
        return None
    return ready
