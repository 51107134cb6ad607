"""Training of the small mask codec, and the masks it learns from."""

from dataclasses import replace

import numpy as np
from mask_networks import NARROW

from mmtune.codecs import mask_network as network
from mmtune.data.mask_samples import mask_samples
from mmtune.models.train_masks import Plan, train_codec

PLAN = Plan(samples=64, batch=16, plain_steps=12, steps=12, decoder_steps=4)


def test_training_learns_and_repeats_itself():
    said = []
    arrays = train_codec(PLAN, NARROW, said.append)
    again = train_codec(PLAN, NARROW, lambda _: None)
    other = train_codec(replace(PLAN, plain_steps=2, steps=2, decoder_steps=1, seed=1), NARROW, lambda _: None)
    assert {name: array.shape for name, array in arrays.items()} == network.shapes(NARROW)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all((arrays[name] == again[name]).all() for name in arrays)
    assert (arrays["encoder.0.weight"] != other["encoder.0.weight"]).any()
    losses = [float(line.split()[3]) for line in said if line.startswith("plain")]
    assert losses[1] < 0.9 * losses[0]


def test_the_last_stage_leaves_codes_alone():
    short = replace(PLAN, plain_steps=2, steps=3, decoder_steps=0)
    before, after = (train_codec(replace(short, decoder_steps=n), NARROW, lambda _: None) for n in (0, 3))
    for name, array in before.items():
        same = (array == after[name]).all()
        assert same == (not name.startswith("decoder")), name


def test_samples_fill_their_boxes_and_differ():
    masks = mask_samples(60, 3)
    assert masks.shape == (60, 64, 64)
    assert masks.dtype == np.uint8
    # A mask touches every side of its own box.
    for mask in masks:
        for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
            assert side.max() > 0
    assert len({mask.tobytes() for mask in masks}) > 55
    assert (masks == mask_samples(60, 3)).all()
    assert (masks[:20] == mask_samples(20, 3)).all()
    assert (masks != mask_samples(60, 4)).any()
