"""Data too large to look at before the first step: made when asked for, trained as if it had been looked at."""

from dataclasses import replace
from functools import partial

import pytest
from backbones import make

import mmtune
import mmtune.training.fit as fitting
from mmtune.data.dataset import FaultLog
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Record
from mmtune.registry import task_class
from mmtune.training.example_stream import gather
from mmtune.training.plan import Plan, Shape, choose_shapes

pytestmark = pytest.mark.usefixtures("quick_compiles")


def texts(count, longest=None):
    """Conversations of one word each, one of them longer where that is asked for."""
    records = [Record(str(n), prefix="say it", texts=("red " * (1 + n % 7),)) for n in range(count)]
    if longest:
        records[longest] = replace(records[longest], texts=("red " * 300,))
    return records


def gathered(records, looked_at, max_tokens=None):
    task = task_class("instruct")((), None)
    return gather(records, task, tiny_tokenizer(), FaultLog(), max_tokens, looked_at)


def trained(folder, data, **settings):
    model = Model(make("paligemma", vocabulary_size=2176, num_layers=2), tiny_tokenizer(), name="small")
    out = folder / "run"
    return mmtune.train(
        model, task="captioning", data=data, out=out, steps=7, batch_size=4, log_every=1, verbose=False, **settings
    )


def losses(folder):
    return [line.split(",")[2] for line in (folder / "run" / "log.csv").read_text().splitlines()]


def test_a_million_scenes_are_there_at_once_and_made_when_asked_for():
    data = mmtune.read("shapes:train?n=10000000", task="ocr")
    assert len(data) == 10_000_000
    last = data[9_999_999]
    assert last.texts[0]
    assert last == mmtune.read("shapes:train?n=10000000", task="ocr")[9_999_999]
    assert [record.id for record in data[3:5]] == ["train-0-000003", "train-0-000004"]


def test_a_scene_does_not_depend_on_how_many_there_are():
    few, many = (mmtune.read(f"shapes:val?n={n}", task="vqa") for n in (40, 400))
    assert list(few) == list(many[:40])
    assert len({record.picture.index for record in many}) == 400


def test_a_part_of_generated_records_is_split_off_by_their_ids(monkeypatch):
    from mmtune.data import shapes
    from mmtune.data.read import split_off

    whole = mmtune.read("shapes:train?n=50", task="captioning")
    monkeypatch.setattr(shapes, "make_scene", pytest.fail)  # none has to be laid out for it
    rest, part = split_off(whole, 0.2, seed=3)
    monkeypatch.undo()
    listed = split_off(replace(whole, records=tuple(whole)), 0.2, seed=3)
    assert (list(rest), list(part)) == tuple(map(list, listed))
    assert (len(rest), len(part)) == (40, 10)


def test_training_goes_as_if_all_had_been_looked_at(tmp_path, monkeypatch):
    data = mmtune.read("shapes:train?n=30&max_objects=3", task="captioning")
    trained(tmp_path / "listed", data)
    monkeypatch.setattr(fitting, "gather", partial(gather, looked_at=10))
    trained(tmp_path / "streamed", data, cache={"features": "off"})
    assert losses(tmp_path / "streamed") == losses(tmp_path / "listed")
    assert len(losses(tmp_path / "listed")) == 8


def test_a_record_at_fault_has_no_weight_and_is_listed(tmp_path, monkeypatch):
    data = mmtune.read("shapes:train?n=30&max_objects=3", task="captioning")
    records = [replace(record, texts=()) if n % 5 == 0 else record for n, record in enumerate(data)]
    monkeypatch.setattr(fitting, "gather", partial(gather, looked_at=10))
    run = trained(tmp_path, records, cache={"features": "off"})
    at_fault = {fault.record for fault in run.faults}
    assert at_fault <= {record.id for record in records if not record.texts}
    assert len(at_fault) >= 4  # of six, in 28 rows drawn from 30 records
    assert {fault.kind for fault in run.faults} == {"unusable for the task"}


def test_rows_that_no_planned_shape_holds_get_their_own():
    records = texts(60, longest=17)
    task = task_class("instruct")((), None)
    sample = gathered(records[:17], 100)
    shapes = choose_shapes(sample.known, 2)
    everything = gather(records, task, tiny_tokenizer(), FaultLog())
    plan = list(Plan(everything.all, shapes, 4, steps=30, seed=1))
    used = [member for batch in plan for member in batch.members]
    assert len(used) == len(set(used)) == 120
    for batch in plan:
        for index, _ in batch.members:
            example = everything.all[index]
            assert example.text_length <= batch.shape.text_length
            assert example.target_length <= batch.shape.target_length
    odd = {batch.shape for batch in plan} - set(shapes)
    (example,) = [e for e in everything.all if e.record.id == "17"]
    assert odd == {Shape(-(-example.text_length // 64) * 64, -(-example.target_length // 64) * 64)}
    assert sum(batch.shape in odd for batch in plan) == 2  # the epoch's others are not padded to it


def test_targets_far_beyond_the_sample_are_at_fault_when_their_turn_comes():
    records = texts(2_000)
    seen = {int(example.record.id) for example in gathered(records, 100).known}
    place = next(place for place in range(2_000) if place not in seen)
    records[place] = replace(records[place], texts=("red " * 900,))
    found = gathered(records, 100)
    assert len(found.all) == 2_000
    assert found.all[next(iter(seen))].fault is None
    fault = found.all[place].fault
    assert fault is not None
    assert fault.kind == "target too long"
    assert found.longest >= max(example.longest for example in found.known)
    assert gathered(records, 100, max_tokens=4_000).all[place].fault is None


def test_other_data_has_another_fingerprint():
    one, other = gathered(texts(2_000), 100), gathered(texts(2_001), 100)
    assert one.fingerprint == gathered(texts(2_000), 100).fingerprint != other.fingerprint
