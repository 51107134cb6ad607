"""The loss and its gradient with gathered targets, against the naive masked loss over all positions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.data.batch import Row, choose_buckets, collate
from mmtune.models.forward import decode_layers, embed, logits
from mmtune.models.modules import text_path
from mmtune.models.scorer import segment_mask, target_logits
from mmtune.models.spec import read_spec
from mmtune.models.vision import encode_images
from mmtune.models.weights import model_variables, values
from mmtune.recipe import Optimizer
from mmtune.training.loss import weighted_loss

PLAIN = Optimizer()


def make_rows(count=4, seed=0, suffixes=1, weighted=False):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        targets = [rng.integers(2, 256, rng.integers(1, 9)).tolist() for _ in range(suffixes)]
        weights = [
            (rng.integers(0, 2, len(t)) if weighted else np.ones(len(t))).astype(float).tolist() for t in targets
        ]
        image = rng.integers(0, 256, (28, 28, 3), np.uint8)
        rows.append(Row(rng.integers(2, 256, rng.integers(2, 7)).tolist(), targets, weights, image))
    return rows


def setting(family):
    backbone = make(family)
    return read_spec(backbone), values(model_variables(backbone))


@partial(jax.jit, static_argnames=("spec", "dtype"))
def loss(weights, inputs, labels, spec, dtype):
    return weighted_loss(target_logits(weights, spec, inputs, dtype=dtype), labels, PLAIN)


def loss_of(spec, rows, text_length=None, target_length=None, dtype=jnp.float32):
    batch = jax.tree.map(jnp.asarray, collate(rows, spec.image_tokens, text_length, target_length))
    return lambda weights: loss(weights, *batch, spec, dtype)


def full_logits_loss(spec, rows, dtype=jnp.float32):
    """Logits at every position of the same batch, scattered weights: what gathering targets saves."""
    inputs, labels = collate(rows, spec.image_tokens)
    count, length = len(rows), spec.image_tokens + inputs["token_ids"].shape[1]
    everywhere = np.broadcast_to(np.arange(length), (count, length))
    full = {**inputs, "targets": everywhere.astype(np.int32)}

    def loss(weights):
        logprobs = jax.nn.log_softmax(target_logits(weights, spec, jax.tree.map(jnp.asarray, full), dtype=dtype))
        total = 0.0
        for row in range(count):
            picked = logprobs[row, inputs["targets"][row], labels["labels"][row]]
            total -= jnp.sum(picked * labels["weights"][row])
        return total / labels["weights"].sum()

    return loss


def separate_loss(spec, rows, dtype):
    """Each suffix in a row of its own without padding, its mask written out; a Python loop over tokens."""

    def loss(weights):
        losses = []
        for row in rows:
            for suffix, token_weights in zip(row.suffixes, row.weights, strict=True):
                if sum(token_weights) == 0:
                    continue
                x = embed(weights["text"], spec.text, jnp.asarray([[*row.prefix, *suffix]]), dtype)
                if spec.vision is not None:
                    image = jnp.asarray(row.image[None], jnp.float32) / 127.5 - 1
                    x = jnp.concatenate([encode_images(weights["vision"], spec.vision, image, dtype=dtype), x], 1)
                n = x.shape[1]
                start = n - len(suffix)
                mask = np.tril(np.ones((n, n), bool))
                if spec.text.bidirectional_prefix:
                    mask[:, :start] = True
                positions = jnp.arange(n)[None]
                hidden, _ = decode_layers(
                    weights["text"],
                    spec.text,
                    x,
                    positions=positions,
                    mask=jnp.asarray(mask[None]),
                    path=text_path(spec),
                )
                logprobs = jax.nn.log_softmax(logits(weights["text"], spec.text, hidden))[0]
                picked = [
                    w * logprobs[start - 1 + i, t] for i, (t, w) in enumerate(zip(suffix, token_weights, strict=True))
                ]
                losses.append(-sum(picked) / sum(token_weights))
        return sum(losses) / len(losses)

    return loss


def assert_same(ours, reference, weights, tolerance):
    (loss, gradient), (naive, naive_gradient) = (jax.jit(jax.value_and_grad(f))(weights) for f in (ours, reference))
    assert float(loss) == pytest.approx(float(naive), rel=tolerance)
    flat, naive_flat = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (gradient, naive_gradient))
    assert np.linalg.norm(flat - naive_flat) <= tolerance * np.linalg.norm(naive_flat)


CASES = [("paligemma", 1, False), ("paligemma2", 3, True), ("gemma2", 2, False), ("llama3", 1, True)]


@pytest.mark.parametrize(("family", "suffixes", "weighted"), CASES)
def test_gathered_targets_equal_full_logits(family, suffixes, weighted):
    spec, weights = setting(family)
    rows = make_rows(3, suffixes=suffixes, weighted=weighted)
    assert_same(loss_of(spec, rows), full_logits_loss(spec, rows), weights, 1e-6)


@pytest.mark.parametrize(("family", "suffixes", "weighted"), CASES[1:3])
def test_segments_equal_rows_of_their_own_in_double_precision(family, suffixes, weighted):
    """In float64 nothing hides behind rounding: only the image's own division stays in float32, on both sides."""
    spec, weights = setting(family)
    rows = make_rows(2, suffixes=suffixes, weighted=weighted)
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda w: jnp.asarray(np.asarray(w), jnp.float64), weights)
        ours = loss_of(spec, rows, dtype=jnp.float64)
        assert_same(ours, separate_loss(spec, rows, jnp.float64), weights, 1e-7)


def test_control_positions_that_do_not_restart_give_another_loss():
    """What the test above would miss if suffixes were one after the other: the check can fail."""
    spec, weights = setting("paligemma2")
    rows = make_rows(suffixes=3)
    inputs, labels = collate(rows, spec.image_tokens)
    inputs["positions"] = np.broadcast_to(
        spec.image_tokens + np.arange(inputs["positions"].shape[1]), inputs["positions"].shape
    )
    wrong = loss(weights, inputs, labels, spec, jnp.float32)
    right = loss_of(spec, rows)(weights)
    assert abs(float(wrong) - float(right)) > 1e-3


@pytest.mark.parametrize("family", ["paligemma2", "gemma2"])
def test_padding_bucket_and_order_do_not_change_a_sample(family):
    spec, weights = setting(family)
    rows = make_rows(4)
    alone = [float(loss_of(spec, [row])(weights)) for row in rows]
    padded = [float(loss_of(spec, [row], 40, 24)(weights)) for row in rows]
    np.testing.assert_allclose(padded, alone, atol=1e-6, rtol=1e-6)
    for order in (range(4), reversed(range(4)), [3, 0, 1, 2]):
        chosen = list(order)
        together = float(loss_of(spec, [rows[i] for i in chosen], 33)(weights))
        assert together == pytest.approx(np.mean(alone), abs=1e-6, rel=1e-6)


def test_rows_without_weight_count_for_nothing():
    spec, weights = setting("paligemma")
    rows = make_rows(2)
    dead = Row(rows[1].prefix, rows[1].suffixes, [[0.0] * len(rows[1].suffixes[0])], rows[1].image)
    with_dead = float(loss_of(spec, [rows[0], dead])(weights))
    assert with_dead == pytest.approx(float(loss_of(spec, [rows[0]])(weights)), rel=1e-6)
    assert float(loss_of(spec, [dead])(weights)) == 0.0


def test_smoothing_equals_cross_entropy_with_a_soft_target():
    rng = np.random.default_rng(0)
    predicted = jnp.asarray(rng.normal(size=(2, 3, 2000)).astype("float32"))
    target = rng.integers(0, 2000, (2, 3))
    target[0, 0], target[0, 1] = 900, 1923  # the first and the last location token
    target[1, 0], target[1, 1] = 899, 1924  # and what stands beside them
    weights = rng.uniform(0.1, 1, (2, 3)).astype("float32")
    loc, deviation, share = 900, 4.0, 0.1
    logprobs = np.asarray(jax.nn.log_softmax(predicted), np.float64)
    total = 0.0
    for r in range(2):
        for i in range(3):
            soft = np.zeros(2000)
            if loc <= target[r, i] < loc + 1024:
                near = [place for place in range(target[r, i] - 10, target[r, i] + 11) if loc <= place < loc + 1024]
                kernel = np.exp(-0.5 * ((np.array(near) - target[r, i]) / deviation) ** 2)
                soft[near] = kernel / kernel.sum()
            else:
                soft[target[r, i]] = 1
            soft = (1 - share) * soft + share / 2000
            total -= weights[r, i] * (soft @ logprobs[r, i])
    options = Optimizer(label_smoothing=share, location_smoothing=deviation)
    ours = weighted_loss(predicted, {"labels": jnp.asarray(target), "weights": jnp.asarray(weights)}, options, loc)
    assert float(ours) == pytest.approx(total / weights.sum(), rel=1e-5)


def test_segment_mask_by_hand():
    """One image token, prompt of two, suffixes of two and one, one padding."""
    segments = jnp.asarray([[0, 0, 1, 1, 2, -1]])
    expected = [
        "1110000",
        "1110000",
        "1110000",
        "1111000",
        "1111100",
        "1110010",
        "1110000",
    ]
    mask = np.asarray(segment_mask(segments, 1, bidirectional_prefix=True))[0]
    assert ["".join("01"[v] for v in row) for row in mask.astype(int)] == expected
    causal = np.asarray(segment_mask(segments, 1, bidirectional_prefix=False))[0]
    assert ["".join("01"[v] for v in row) for row in causal[:3].astype(int)] == ["1000000", "1100000", "1110000"]


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_buckets_are_the_cheapest(most):
    import itertools

    rng = np.random.default_rng(most)
    lengths = rng.integers(1, 80, 40).tolist()
    sizes = sorted({-(-n // 8) * 8 for n in lengths})

    def cost(buckets):
        return sum(next(b for b in buckets if b >= n) for n in lengths)

    chosen = choose_buckets(lengths, most)
    assert len(chosen) <= most
    best = min(
        cost([*inner, sizes[-1]])
        for k in range(min(most, len(sizes)))
        for inner in itertools.combinations(sizes[:-1], k)
    )
    assert cost(chosen) == best


def test_by_tokens_every_token_counts_alike():
    spec, weights = setting("paligemma2")
    rows = make_rows(suffixes=2, weighted=True, seed=8)
    inputs, labels = collate(rows, spec.image_tokens, by_tokens=True)
    found = loss(weights, inputs, labels, spec, jnp.float32)
    total = count = 0.0
    for row in rows:
        for suffix, shares in zip(row.suffixes, row.weights, strict=True):
            if sum(shares):
                alone = Row(row.prefix, [suffix], [shares], row.image)
                whole = float(loss_of(spec, [alone], 24, 16)(weights)) * sum(
                    shares
                )  # a mean over the tokens that count
                total, count = total + whole, count + sum(shares)
    assert float(found) == pytest.approx(total / count, rel=1e-5)
    assert float(loss_of(spec, rows)(weights)) != pytest.approx(total / count, rel=1e-3)
