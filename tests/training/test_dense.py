"""Dense supervision: targets patch by patch, the loss against plain loops, and a run that uses it."""

import json
import math

import numpy as np
import pytest

import mmtune
from mmtune.codecs.boxes import LOCATIONS
from mmtune.data.dense import EDGES, Objects, dense_targets, objects_of
from mmtune.errors import RecipeError
from mmtune.recipe import Dense, Recipe
from mmtune.records import Box
from mmtune.training.plan import Batch, Shape, Supervised
from mmtune.training.updates import Updates

pytestmark = pytest.mark.usefixtures("quick_compiles")

SIDE = 10


def _objects(*rows: tuple[float, float, float, float, int]) -> Objects:
    table = np.array(rows, float).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(int))


def test_a_patch_belongs_to_the_object_over_it() -> None:
    objects = _objects((0.2, 0.4, 0.6, 0.8, 3))
    labels = dense_targets([objects], SIDE, np.random.default_rng(0)).labels[0].reshape(SIDE, SIDE)
    # The inner seven tenths of the box span 0.26..0.54 down and 0.46..0.74 across: centres .35 .45 and .55 .65.
    wanted = np.zeros((SIDE, SIDE), int)
    wanted[3:5, 5:7] = 3
    wanted[4, 6] = 3
    assert (labels == wanted).all()


def test_the_smaller_object_wins_and_a_speck_owns_the_patch_of_its_centre() -> None:
    objects = _objects((0, 0, 1, 1, 1), (0.42, 0.42, 0.44, 0.44, 2))
    labels = dense_targets([objects], SIDE, np.random.default_rng(0)).labels[0].reshape(SIDE, SIDE)
    assert labels[4, 4] == 2
    assert labels[5, 5] == 1


def test_offsets_and_bins_lead_to_the_objects_edges() -> None:
    rng = np.random.default_rng(1)
    edges = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1).reshape(6, 4)
    targets = dense_targets([Objects(edges, np.arange(1, 7))], SIDE, rng)
    centres = (np.arange(SIDE) + 0.5) / SIDE
    for patch in np.flatnonzero(targets.labels[0]):
        y, x = centres[patch // SIDE], centres[patch % SIDE]
        up, left, down, right = targets.offsets[patch] * 0.2
        found = (y - up, x - left, y + down, x + right)
        np.testing.assert_allclose(found, edges[targets.labels[0, patch] - 1], atol=1e-6)
    for patch, bins in zip(targets.patches, targets.bins, strict=True):
        label = targets.labels[0, patch]
        assert label > 0
        assert bins.tolist() == [round(edge * (LOCATIONS - 1)) for edge in edges[label - 1].tolist()]


def test_a_picture_without_objects_asks_for_no_edges() -> None:
    targets = dense_targets([_objects(), _objects()], SIDE, np.random.default_rng(0))
    assert targets.weight == 0
    assert targets.labels.shape == (2, SIDE * SIDE)
    assert not targets.labels.any()
    assert targets.patches.shape == (EDGES,)


def test_boxes_become_objects_by_class() -> None:
    boxes = [Box("dog", -10, 5, 50, 20), Box("bird", 0, 0, 1, 1), Box("cat", 10, 0, 20, 40)]
    objects = objects_of(boxes, (100, 40), ("cat", "dog"))
    np.testing.assert_allclose(objects.edges, [(0.125, 0, 0.5, 0.5), (0, 0.1, 1, 0.2)])
    assert objects.labels.tolist() == [2, 1]


def test_the_loss_equals_plain_loops() -> None:
    import jax.numpy as jnp

    from mmtune.data.dense import DenseTargets
    from mmtune.training.dense import dense_loss, make_head

    rng = np.random.default_rng(2)
    width, counts, batch = 8, (4, 3), 2
    head = make_head(width, counts, rng)
    features = rng.normal(size=(batch, SIDE * SIDE, width)).astype(np.float32)
    locations = rng.normal(size=(LOCATIONS, width)).astype(np.float32)
    pictures = [
        dense_targets([_objects((0.1, 0.1, 0.5, 0.6, 3)), _objects((0.2, 0.2, 0.9, 0.9, 1))], SIDE, rng),
        dense_targets([_objects(), _objects()], SIDE, rng),
    ]
    targets = DenseTargets(*(np.stack(members) for members in zip(*pictures, strict=True)))
    loss, right = dense_loss(head, jnp.asarray(features), jnp.asarray(locations), targets, counts)

    out = features @ np.asarray(head.kernel) + np.asarray(head.bias)
    wanted = 0.0
    for number, (start, end) in enumerate(((0, 4), (4, 7))):
        total = weights = 0.0
        for b in range(batch):
            for p in range(SIDE * SIDE):
                label = targets.labels[b, number, p]
                weight = 1.0 if label else 0.2
                logits = out[b, p, start:end].astype(float)
                total -= weight * (logits[label] - math.log(np.exp(logits).sum()))
                weights += weight
        wanted += total / weights
    shown = targets.labels[:, 0] > 0
    wanted += 2 * np.abs(out[..., 7:] - targets.offsets)[shown].sum() / (shown.sum() + 1)
    edge_losses = []
    for patch, bins in zip(targets.patches[0], targets.bins[0], strict=True):
        for edge, bin_ in enumerate(bins):
            scores = (features[0, patch] @ np.asarray(head.edges)[edge]) @ locations.T
            logs = scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
            near = [place for place in range(bin_ - 9, bin_ + 10, 3) if 0 <= place < 1024]
            kernel = np.exp(-0.5 * ((np.array(near) - bin_) / 4) ** 2)
            edge_losses.append(-(kernel / kernel.sum() * logs[near]).sum())
    wanted += np.mean(edge_losses)  # the picture without objects counts for nothing
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert right.shape == (2,)


def test_the_plan_begins_without_answers_and_its_weight_falls_to_zero() -> None:
    plan = [Batch(Shape(8, 8), ((i, 0),)) for i in range(20)]
    made = list(Supervised(plan, Updates(20, dense=10), 0.5))
    assert [batch.answers for batch in made] == [False] * 10 + [True] * 10
    assert [batch.dense for batch in made[:10]] == [1.0] * 10
    assert [batch.dense for batch in made[10:]] == pytest.approx([0.5 * max(0, 1 - i / 8) for i in range(10)])
    assert [batch.members for batch in made] == [batch.members for batch in plan]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense": Dense(steps=5)}, "set full, without freeze_vision"),
        ({"dense": Dense(weight=0.1), "full": True, "freeze_vision": True}, "set full, without freeze_vision"),
        ({"dense": Dense(steps=5), "full": True, "steps": 5}, "leave none for the answers"),
        ({"dense": Dense(steps=-1), "full": True}, "dense.steps: expected 0 or more"),
        ({"dense": Dense(weight=-1.0), "full": True}, "dense.weight: expected 0 or more"),
        ({"dense": Dense(steps=1, learning_rate=0.0), "full": True}, "dense.learning_rate: expected a number above 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(task="detection", data="shapes", **changes)


def test_a_task_without_boxes_is_refused(tmp_path) -> None:
    with pytest.raises(RecipeError, match="the task captioning has no boxes"):
        mmtune.train(
            "tiny", task="captioning", data="shapes:train?n=4&size=64", out=tmp_path, steps=4, full=True,
            dense={"steps": 2},
        )  # fmt: skip


def test_a_run_learns_to_see_and_keeps_no_head(tmp_path) -> None:
    out = tmp_path / "run"
    mmtune.train(
        "tiny", task="detection", data="shapes:train?n=8&size=64&max_objects=2", val=None, out=out, steps=10,
        batch_size=4, full=True, dense={"steps": 8, "weight": 0.5}, log_every=1,
    )  # fmt: skip
    rows = (out / "log.csv").read_text().splitlines()
    losses = [float(row.split(",")[2]) for row in rows[1:]]
    assert losses[7] < 0.8 * losses[0]
    from safetensors import safe_open

    with safe_open(out / "weights.safetensors", "numpy") as tensors:
        assert not [key for key in tensors.keys() if key.startswith("trainer")]  # noqa: SIM118
    assert json.loads((out / "metrics.json").read_text())["step"] == 10
    loaded = mmtune.load(str(out))
    assert loaded.predict(np.zeros((64, 64, 3), np.uint8), task="detection") is not None
