"""What the log says of single steps: a row's mean, and that dropout draws anew in each."""

import csv

import numpy as np
import pytest
from backbones import make

import mmtune
from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quick_compiles")


@pytest.fixture(scope="module")
def scenes():
    return mmtune.read("shapes:train?n=2&max_objects=1&seed=1", task="detection")


def logged(folder, data, column, dropout=0.0, log_every=1, rate=1e-30):
    mmtune.train(
        Model(make("paligemma", vocabulary_size=2176, num_layers=1), tiny_tokenizer(), name="small"),
        task="detection",
        data=data,
        out=folder,
        steps=4,
        batch_size=2,
        buckets=1,
        log_every=log_every,
        save_every=4,  # a row is written before each checkpoint
        verbose=False,
        lora=mmtune.LoRA(rank=2, dropout=dropout),
        optimizer={"learning_rate": rate, "schedule": "constant", "warmup": 0.0},
    )
    with (folder / "log.csv").open() as file:
        return np.array([float(row[column]) for row in csv.DictReader(file)])


def test_training_drops_other_inputs_in_every_step(tmp_path, scenes):
    """The weights stay where they are and the batch is the same, so that dropout alone moves the gradient."""
    still = logged(tmp_path / "still", scenes, "gradient_norm")
    assert np.ptp(still) < 1e-4 * still[0]
    moved = logged(tmp_path / "moved", scenes, "gradient_norm", dropout=0.5)
    assert np.abs(moved[:, None] - moved)[~np.eye(4, dtype=bool)].min() > 1e-3 * still[0]


def test_a_row_of_the_log_is_the_mean_of_its_steps(tmp_path, scenes):
    each = logged(tmp_path / "each", scenes, "loss", rate=0.01)
    assert np.abs(np.diff(each)).min() > 1e-3
    pairs = logged(tmp_path / "pairs", scenes, "loss", rate=0.01, log_every=2)
    np.testing.assert_allclose(pairs, each.reshape(2, 2).mean(1), rtol=1e-5)
