"""Runs `mmtune train` and tells which records went into each step and what its loss was.

    python tests/training/cut_program.py CUT WORDS ...

CUT: the step after which the process sends itself SIGTERM; 0: none. The last line of standard output is JSON:
{"steps": [[step, loss, [record, ...]], ...]}.
"""

import json
import os
import signal
import sys

import mmtune.training.fit as fitting
from mmtune.cli import main
from mmtune.training import plan
from mmtune.training.callbacks import Watch

cut = int(sys.argv[1])
steps, fed, ids = [], [], {}
collate, load_batches, ended = plan.collate, fitting.load_batches, Watch.on_train_batch_end


def noted_collate(rows, *more):
    """Keeps the record ids of a batch's rows."""
    inputs, labels = collate(rows, *more)
    ids[id(inputs["token_ids"])] = [row.record for row in rows]
    return inputs, labels


def noted_batches(*more, **named):
    """Notes the batches in the order in which they are handed out."""
    for inputs, labels in load_batches(*more, **named):
        fed.append(ids[id(inputs["token_ids"])])
        yield inputs, labels


def noted_end(self, batch, logs=None):
    """Notes a step."""
    ended(self, batch, logs)
    steps.append([self._progress.step, float(logs["loss"]), fed[len(steps)]])
    if self._progress.step == cut:
        os.kill(os.getpid(), signal.SIGTERM)


plan.collate, fitting.load_batches, Watch.on_train_batch_end = noted_collate, noted_batches, noted_end
try:
    main(sys.argv[2:])
finally:
    print(json.dumps({"steps": steps}), flush=True)
