"""Epochs: the same examples in another order, with other random numbers."""

from dataclasses import replace

import numpy as np
import pytest

import mmtune
from mmtune.codecs.boxes import NOISE_LABEL
from mmtune.data.augment import Augment
from mmtune.data.dataset import FaultLog
from mmtune.data.images import BytesPicture
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Query, Record
from mmtune.registry import task_class
from mmtune.training.examples import Example, RowMaker, list_examples
from mmtune.training.plan import Plan, choose_shapes


def test_order_is_another_one_in_each_epoch():
    examples = [Example(Record(str(n)), Query("detect"), 20, 17, 17) for n in range(16)]
    orders = {}
    for seed in (5, 6):
        used = [
            m for batch in Plan(examples, choose_shapes(examples, 1), 4, steps=12, seed=seed) for m in batch.members
        ]
        for epoch in range(3):
            orders[seed, epoch] = tuple(index for index, e in used if e == epoch)
            assert sorted(orders[seed, epoch]) == list(range(16))
    assert len(set(orders.values())) == 6
    assert tuple(range(16)) not in orders.values()


def test_random_changes_are_others_in_each_epoch_and_row():
    data = mmtune.read("shapes:train?n=1&max_objects=1", task="detection")
    task = task_class("detection")(data.classes, None)
    examples = list_examples([data[0], data[0]], task, tiny_tokenizer(), FaultLog())
    changes = Augment(brightness=0.5)

    def images(seed):
        rows = RowMaker(examples, task, tiny_tokenizer(), 28, changes, seed)
        return {(index, epoch): rows(index, epoch).image.tobytes() for index in (0, 1) for epoch in range(4)}

    first = images(1)
    assert len(set(first.values())) == 8
    assert images(1) == first
    assert not set(images(2).values()) & set(first.values())


def test_noise_boxes_are_others_in_each_epoch():
    data = mmtune.read("shapes:train?n=1&max_objects=1", task="detection")
    cls = task_class("detection")
    task = cls(data.classes, cls.Options(noise_boxes=3))
    examples = list_examples(list(data), task, tiny_tokenizer(), FaultLog())
    rows = RowMaker(examples, task, tiny_tokenizer(), 28, Augment(), 1)
    made = [rows(0, epoch) for epoch in range(4)]
    assert len({np.concatenate(row.suffixes).tobytes() for row in made}) == 4
    # Behind the places of each noise box a real label is read, and the noise label's first token is to be predicted.
    first = tiny_tokenizer().encode(f" {NOISE_LABEL}")[0]
    for row in made:
        read, taught = np.concatenate(row.suffixes), np.concatenate(row.labels)
        assert taught[read != taught].tolist() == [first, first]


@pytest.mark.parametrize("changes", [Augment(), Augment(flip=0.5)])
def test_a_picture_that_cannot_be_read_has_no_weight(changes):
    data = mmtune.read("shapes:train?n=1&max_objects=1", task="detection")
    broken = replace(data[0], id="broken", picture=BytesPicture(b"no picture", "b"))
    task = task_class("detection")(data.classes, None)
    examples = list_examples([data[0], broken], task, tiny_tokenizer(), FaultLog())
    rows = RowMaker(examples, task, tiny_tokenizer(), 28, changes, 1)
    sound, black = rows(0, 0), rows(1, 0)
    assert all(sum(weights) > 0 for weights in sound.weights)
    assert all(sum(weights) == 0 for weights in black.weights)
    assert (black.image.shape, black.image.max()) == ((28, 28, 3), 0)
    assert list(rows.faults) == ["broken"]
