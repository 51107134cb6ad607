"""The embedded model before training: its size, its first values, its way through our own pass."""

import random

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from mmtune.data.scene_drawing import draw_scene
from mmtune.data.scenes import make_scene
from mmtune.models.spec import read_spec
from mmtune.models.tiny import TINY, build_tiny, grid_positions, ordinal_embeddings, tiny_tokenizer, tiny_weights_path
from mmtune.models.vision import encode_images
from mmtune.models.weights import text_variables, values, vision_variables


@pytest.fixture(scope="module")
def backbone():
    return build_tiny()


def test_it_is_small_and_as_configured(backbone):
    spec = read_spec(backbone)
    assert 2_500_000 <= backbone.count_params() <= 4_000_000
    assert spec.text.vocabulary_size == TINY.vocabulary_size == tiny_tokenizer().vocabulary_size
    assert (spec.text.hidden_dim, spec.text.num_layers, spec.text.num_heads) == (160, 4, 4)
    assert (spec.text.num_kv_heads, spec.text.head_dim, spec.text.mlp_dim) == (1, 40, TINY.mlp_dim)
    assert text_variables(backbone)["layers"][0]["gate_proj"].shape == (TINY.hidden_dim, TINY.mlp_dim)
    assert spec.text.head_dim % 2 == 0  # rotary positions turn pairs
    assert spec.vision is not None
    assert (spec.vision.image_size, spec.vision.patch_size, spec.image_tokens) == (120, 12, 100)
    assert spec.vision.mlp_dim == TINY.vision_mlp_dim


def test_the_seed_decides_all_weights_and_leaves_global_randomness_alone(backbone):
    random.seed(123)
    expected = random.random()
    random.seed(123)
    again, other = build_tiny(0), build_tiny(1)
    assert random.random() == expected
    same = [np.array_equal(a, b) for a, b in zip(backbone.get_weights(), again.get_weights(), strict=True)]
    differ = [np.array_equal(a, b) for a, b in zip(backbone.get_weights(), other.get_weights(), strict=True)]
    assert all(same)
    kernels = [np.ptp(w) > 0 and w.ndim > 1 for w in backbone.get_weights()]
    constant = sum(not k for k in kernels)
    assert sum(differ) <= constant + 1  # norms, biases and the sines of patch positions


def test_location_embeddings_are_ordinal(backbone):
    table = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
    bins = table[1024:2048]
    unit = bins / np.linalg.norm(bins, axis=1, keepdims=True)
    near, far = (np.mean(np.sum(unit[: 1024 - step] * unit[step:], 1)) for step in (4, 300))
    text = table[300:1000] / np.linalg.norm(table[300:1000], axis=1, keepdims=True)
    assert near > 0.85
    assert abs(far) < 0.5
    assert abs(np.mean(np.sum(text[:-4] * text[4:], 1))) < 0.1
    assert bins.std() == pytest.approx(table[:1024].std(), rel=0.05)


def test_patches_of_real_scenes_start_at_unit_size(backbone):
    tower = values(vision_variables(backbone.vit_encoder))
    pictures = np.stack([np.asarray(draw_scene(make_scene(0, index, 120))) for index in range(8)]) / 127.5 - 1
    cut = pictures.reshape(8, 10, 12, 10, 12, 3).transpose(0, 1, 3, 2, 4, 5).reshape(800, -1)
    patches = cut @ np.asarray(tower["patch"]["kernel"]).reshape(cut.shape[1], -1)
    assert 0.4 < patches.std() < 1.6


def test_positions_tell_rows_from_columns():
    table = grid_positions(10, 160).reshape(10, 10, 160)
    assert np.abs(table).max() <= 1
    # The first half knows the row alone, the second the column alone.
    assert np.ptp(table[:, :, :80], axis=1).max() == 0
    assert np.ptp(table[:, :, 80:], axis=0).max() == 0
    flat = table.reshape(100, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=2) + 10 * np.eye(100)
    assert distances.min() > 1


def test_ordinal_embeddings_have_the_spread_asked_for():
    table = ordinal_embeddings(1024, 64, 0.5, np.random.default_rng(0))
    assert table.shape == (1024, 64)
    assert table.std() == pytest.approx(0.5, rel=0.05)


def test_it_runs_through_our_pass_as_through_kerashub(backbone):
    spec = read_spec(backbone)
    assert spec.vision is not None
    picture = np.asarray(draw_scene(make_scene(0, 1, 120)))[None]
    tower = values(vision_variables(backbone.vit_encoder))
    ours = np.asarray(encode_images(tower, spec.vision, jnp.asarray(picture)))
    theirs = np.asarray(backbone.vit_encoder(picture.astype("float32") / 127.5 - 1))
    assert ours.shape == (1, 100, 160)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_dtype_is_passed_on():
    dtypes = {variable.dtype for variable in build_tiny(dtype="bfloat16").weights}
    assert dtypes == {"bfloat16"}


def test_trained_weights_are_a_file_or_absent():
    path = tiny_weights_path()
    assert path is None or path.is_file()


def test_words_that_were_never_taught_can_be_told_apart():
    """Only what a model can tell apart can an adapter teach it to write: a hyphen was an at sign once."""
    weights = load_file(tiny_weights_path())["token_embedding/embeddings"].astype(np.float32)
    rows = weights[: tiny_tokenizer().loc]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    np.fill_diagonal(alike, 0)
    assert np.mean(alike.max(axis=1) > 0.97) < 0.1
    hyphen, at = (tiny_tokenizer().encode(sign)[0] for sign in "-@")
    assert alike[hyphen, at] < 0.96
