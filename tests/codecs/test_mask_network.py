"""The network of the mask codec against convolutions computed pixel by pixel."""

import jax.numpy as jnp
import numpy as np
import pytest
from mask_networks import NARROW, PUBLIC_WIDTHS, naive_decode, naive_encode, random_arrays

from mmtune.codecs import mask_network as network


@pytest.mark.parametrize("xp", [pytest.param(np, id="numpy"), pytest.param(jnp, id="jax")])
def test_network_equals_naive_convolutions(xp):
    arrays = random_arrays(NARROW)
    rng = np.random.default_rng(1)
    masks = rng.random((2, 64, 64)).astype(np.float32)
    vectors = rng.normal(size=(2, 4, 4, NARROW.embedding)).astype(np.float32)
    weights = network.matrices(arrays, xp)
    encoded = np.asarray(network.encode(weights, xp.asarray(masks), xp))
    decoded = np.asarray(network.decode(weights, xp.asarray(vectors), xp))
    np.testing.assert_allclose(encoded, [naive_encode(arrays, mask) for mask in masks], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(decoded, [naive_decode(arrays, vector) for vector in vectors], rtol=1e-4, atol=1e-4)
    assert encoded.std() > 0.01
    assert decoded.std() > 0.01


def test_nearest_is_the_smallest_distance():
    rng = np.random.default_rng(0)
    codebook, vectors = rng.normal(size=(128, 5)), rng.normal(size=(3, 4, 4, 5))
    distances = ((vectors[..., None, :] - codebook) ** 2).sum(-1)
    assert (network.nearest(codebook, vectors) == distances.argmin(-1)).all()


def test_names_and_shapes_of_the_public_file():
    shapes = network.shapes(PUBLIC_WIDTHS)
    expected = {"_vq_vae._embedding"}
    for layer in (0, 2, 4, 6, 10):
        expected |= {f"encoder.{layer}.{part}" for part in ("weight", "bias")}
    for layer in (0, 4, 6, 8, 10, 12):
        expected |= {f"decoder.{layer}.{part}" for part in ("weight", "bias")}
    for block in ("encoder.8", "encoder.9", "decoder.2", "decoder.3"):
        expected |= {f"{block}.net.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")}
    assert set(shapes) == set(network.names()) == expected
    assert shapes["_vq_vae._embedding"] == (128, 512)
    assert shapes["decoder.0.weight"] == (128, 512, 1, 1)
    # A transposed convolution's kernel has the input first.
    assert shapes["decoder.6.weight"] == (128, 64, 4, 4)
    assert shapes["decoder.12.weight"] == (1, 16, 1, 1)


@pytest.mark.parametrize("widths", [NARROW, PUBLIC_WIDTHS], ids=["narrow", "public"])
def test_widths_are_read_off_the_arrays(widths):
    arrays = {name: np.empty(shape, np.float16) for name, shape in network.shapes(widths).items()}
    assert network.read_widths(arrays) == widths
