"""What the processes of a run on several hosts share out: the rows of a batch, the records of an evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import keras

from mmtune.distributed.processes import all_gather_objects, is_distributed
from mmtune.distributed.worker import worker
from mmtune.evaluation import Evaluation, evaluate_records
from mmtune.model import Model
from mmtune.records import Record
from mmtune.sharding.local import local_model
from mmtune.task import Task
from mmtune.training.stopping import Interrupted


def own_rows(batch_size: int) -> slice:
    """Returns the rows of a batch that this process feeds: those that lie on its devices."""
    layouts = keras.distribution.distribution()
    if not is_distributed() or layouts is None:
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

    Raises:
        Interrupted: In all processes, when one of them was asked to stop.
    """
    if not is_distributed():
        return evaluate_records(model, task, records, on_done=on_done)
    count, number = jax.process_count(), jax.process_index()
    places = range(number, len(records), count)
    mine, stop = None, ""

    def on_share(done: int) -> None:
        worker().progress(f"evaluating, {done} of {len(places)}")
        if worker().stop:
            raise Interrupted(worker().stop)
        on_done(done * count)

    with local_model(model) as view:
        if places:
            share = [records[place] for place in places]
            try:
                mine = evaluate_records(view, task, share, on_done=on_share)
            except Interrupted as interrupted:
                stop = interrupted.by
    told = []
    if mine is not None:
        left = iter(places)
        for record, prediction in mine.pairs:
            place = next(place for place in left if records[place].id == record.id)
            told.append((place, replace(record, picture=None), prediction))
    gathered = all_gather_objects("evaluated its records", (stop, told, mine.faults if mine is not None else ()))
    if stop := next((stop for stop, *_ in gathered if stop), ""):
        raise Interrupted(stop)
    adapter = mine.adapter if mine is not None else task.for_tokenizer(model.tokenizer)
    answers = sorted((answer for _, part, _ in gathered for answer in part), key=lambda answer: answer[0])
    metric = adapter.metric()
    used = []
    for place, record, prediction in answers:
        record = replace(record, picture=records[place].picture)
        metric.update(record, prediction)
        used.append(record)
    faults = tuple(fault for *_, faults in gathered for fault in faults)
    return Evaluation(task.name, metric.compute(), tuple(used), tuple(a[2] for a in answers), faults, adapter)
