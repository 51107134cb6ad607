"""What the processes of a run on several hosts share out: the rows of a batch, the records of an evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import keras

from mmtune.evaluation import Evaluation, evaluate_records
from mmtune.hosts import gathered, several
from mmtune.model import Model
from mmtune.records import Record
from mmtune.sharding.local import local_model
from mmtune.task import Task


def own_rows(batch_size: int) -> slice:
    """Returns the rows of a batch that this process feeds: those that lie on its devices."""
    layouts = keras.distribution.distribution()
    if not several() or layouts is None:
        return slice(None)
    sharding: Any = layouts.get_data_layout((batch_size,)).backend_layout
    places = sharding.addressable_devices_indices_map((batch_size,)).values()
    parts = [index[0].indices(batch_size)[:2] for index in places]
    return slice(min(low for low, _ in parts), max(high for _, high in parts))


def shared_evaluation(
    model: Model, task: Task, records: Sequence[Record], on_done: Callable[[int], None]
) -> Evaluation:
    """Returns `evaluate_records` of all records, each process having asked about its share.

    The answers go to all processes and are scored there in the records' order, so that all have one process' metrics.
    """
    if not several():
        return evaluate_records(model, task, records, on_done=on_done)
    count, number = jax.process_count(), jax.process_index()
    places = range(number, len(records), count)
    mine = None
    with local_model(model) as view:
        if places:
            share = [records[place] for place in places]
            mine = evaluate_records(view, task, share, on_done=lambda done: on_done(done * count))
    told = []
    if mine is not None:
        left = iter(places)
        for record, prediction in mine.pairs:
            place = next(place for place in left if records[place].id == record.id)
            told.append((place, replace(record, picture=None), prediction))
    parts = gathered((told, mine.faults if mine is not None else ()))
    adapter = mine.adapter if mine is not None else task.for_tokenizer(model.tokenizer)
    answers = sorted((answer for part, _ in parts for answer in part), key=lambda answer: answer[0])
    metric = adapter.metric()
    used = []
    for place, record, prediction in answers:
        record = replace(record, picture=records[place].picture)
        metric.update(record, prediction)
        used.append(record)
    faults = tuple(fault for _, faults in parts for fault in faults)
    return Evaluation(task.name, metric.compute(), tuple(used), tuple(a[2] for a in answers), faults, adapter)
