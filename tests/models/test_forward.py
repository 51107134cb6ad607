"""Our forward pass against KerasHub's own call, family by family."""

import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make

from mmtune.errors import ModelError
from mmtune.models.forward import decode_layers, embed, empty_cache, logits
from mmtune.models.spec import read_spec
from mmtune.models.vision import encode_images
from mmtune.models.weights import model_variables, values

TEXT = ["gemma", "gemma2", "llama3"]
LENGTH, PREFIX = 12, 5


def token_ids(rows=3, length=LENGTH, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (rows, length)).astype("int32")


def images(rows=3, seed=2):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 28, 28, 3)).astype("float32")


def inputs(backbone, ids, pictures=None):
    spec = read_spec(backbone)
    weights = values(model_variables(backbone))
    x = embed(weights["text"], spec.text, jnp.asarray(ids), jnp.float32)
    if spec.vision is not None:
        x = jnp.concatenate([encode_images(weights["vision"], spec.vision, jnp.asarray(pictures)), x], axis=1)
    positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
    return spec, weights["text"], x, positions


def causal(length):
    return np.tril(np.ones((length, length), bool))


def assert_close(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("family", TEXT)
def test_text_families_match_kerashub(family):
    backbone = make(family)
    ids = token_ids()
    spec, weights, x, positions = inputs(backbone, ids)
    mask = jnp.broadcast_to(causal(LENGTH), (3, LENGTH, LENGTH))
    hidden, _ = decode_layers(weights, spec.text, x, positions=positions, mask=mask)
    theirs = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    assert_close(hidden, theirs)
    assert_close(logits(weights, spec.text, hidden), backbone.token_embedding(theirs, reverse=True))


def test_the_epsilon_of_norms_is_the_backbones():
    """KerasHub's Gemma backbone does not hand it on to its layers, Llama's does."""
    backbone = make("llama3", num_layers=1, layer_norm_epsilon=0.1)
    ids = token_ids()
    spec, weights, x, positions = inputs(backbone, ids)
    mask = jnp.broadcast_to(causal(LENGTH), (3, LENGTH, LENGTH))
    hidden, _ = decode_layers(weights, spec.text, x, positions=positions, mask=mask)
    assert_close(hidden, backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}))


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_paligemma_matches_kerashub_with_padding(family):
    backbone = make(family)
    ids, pictures = token_ids(), images()
    valid = np.arange(LENGTH)[None] < np.array([12, 10, 7])[:, None]
    response = (np.arange(LENGTH)[None] >= PREFIX) & valid
    spec, weights, x, positions = inputs(backbone, ids, pictures)
    count = spec.image_tokens
    prefix = np.concatenate([np.ones((3, count), bool), np.broadcast_to(np.arange(LENGTH) < PREFIX, (3, LENGTH))], 1)
    alive = np.concatenate([np.ones((3, count), bool), valid], 1)
    mask = (causal(count + LENGTH)[None] | prefix[:, None, :]) & alive[:, None, :]
    hidden, _ = decode_layers(weights, spec.text, x, positions=positions, mask=jnp.asarray(mask))
    theirs = np.asarray(
        backbone({"images": pictures, "token_ids": ids, "padding_mask": valid * 1, "response_mask": response * 1})
    )
    assert_close(np.asarray(hidden)[alive], theirs[alive])


def test_window_is_shorter_than_the_sequence():
    """Guards the tests above: without the window the result is another one."""
    backbone = make("gemma2")
    ids = token_ids()
    _, weights, x, positions = inputs(backbone, ids)
    mask = jnp.broadcast_to(causal(LENGTH), (3, LENGTH, LENGTH))
    wide = read_spec(make("gemma2", sliding_window_size=100))
    theirs = np.asarray(backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    hidden, _ = decode_layers(weights, wide.text, x, positions=positions, mask=mask)
    assert np.abs(np.asarray(hidden) - theirs).max() > 1e-2


def test_query_scale_of_gemma_2_27b():
    """hidden / heads = 12, head_dim = 16: the flag must change the result, which KerasHub's block forgets."""
    spec = read_spec(make("gemma2", query_head_dim_normalize=False))
    assert spec.text.query_scale == pytest.approx(12**-0.5)
    assert read_spec(make("gemma2")).text.query_scale == pytest.approx(16**-0.5)


@pytest.mark.parametrize("family", [*TEXT, "paligemma2"])
def test_cache_gives_the_same_hidden_states(family):
    backbone = make(family)
    ids = token_ids()
    spec, weights, x, positions = inputs(backbone, ids, images())
    length = x.shape[1]
    mask = jnp.broadcast_to(causal(length), (3, length, length))
    whole, _ = decode_layers(weights, spec.text, x, positions=positions, mask=mask)
    cache = empty_cache(spec.text, 3, length, jnp.float32)
    steps = [slice(0, 6), *(slice(i, i + 1) for i in range(6, length))]
    for step in steps:
        hidden, cache = decode_layers(
            weights,
            spec.text,
            x[:, step],
            positions=positions[:, step],
            mask=mask[:, step],
            cache=cache,
            slot=step.start,
        )
        assert_close(hidden, whole[:, step])


@pytest.mark.parametrize("family", ["gemma2", "llama3"])
@pytest.mark.parametrize("rematerialise", ["none", "dots", "full"])
def test_targets_equal_the_gathered_whole(family, rematerialise):
    backbone = make(family)
    spec, weights, x, positions = inputs(backbone, token_ids())
    mask = jnp.broadcast_to(causal(LENGTH), (3, LENGTH, LENGTH))
    targets = jnp.asarray([[3, 4, 11], [0, 0, 5], [7, 2, 9]])
    whole, _ = decode_layers(weights, spec.text, x, positions=positions, mask=mask)
    some, _ = decode_layers(
        weights, spec.text, x, positions=positions, mask=mask, targets=targets, rematerialise=rematerialise
    )
    assert_close(some, jnp.take_along_axis(whole, targets[..., None], axis=1))


def test_llama_3_1_frequencies_match_kerashub():
    changes = {
        "rope_frequency_adjustment_factor": 8.0,
        "rope_low_freq_factor": 1.0,
        "rope_high_freq_factor": 4.0,
        "rope_pretraining_sequence_length": 64,
    }
    backbone = make("llama3", **changes)
    ids = token_ids()
    spec, weights, x, positions = inputs(backbone, ids)
    mask = jnp.broadcast_to(causal(LENGTH), (3, LENGTH, LENGTH))
    hidden, _ = decode_layers(weights, spec.text, x, positions=positions, mask=mask)
    assert_close(hidden, backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}))


def test_unknown_backbone_is_refused():
    with pytest.raises(ModelError, match="class object is not supported"):
        read_spec(object())
