"""Weights in few bits: what they mean by a naive reading, what they cost, and that all that runs over them agrees."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from backbones import make
from commands import run

import mmtune
from mmtune.data.batch import Row, collate
from mmtune.errors import ModelError, UsageError
from mmtune.model import Model
from mmtune.models.lora_config import LoRA
from mmtune.models.quantized import GROUP, Quantized, dequantize, product, quantize, table_product, table_rows
from mmtune.models.quantized_tree import nbytes
from mmtune.models.scorer import target_logits
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.weights import values

FAMILIES = ("paligemma", "gemma2", "llama3")


def quantized(matrix, scheme, table=False):
    return Quantized(*map(jnp.asarray, quantize(matrix, scheme, table)), matrix.shape)


def naive(held):
    """Returns what a quantised matrix means, number by number."""
    stored, scale = np.asarray(held.values), np.asarray(held.scale).astype(np.float64)
    out = np.zeros(held.shape)
    for row in range(held.shape[0]):
        for column in range(held.shape[1]):
            if stored.dtype == np.uint8:
                byte = int(stored[row // 2, column])
                number = (byte // 16 if row % 2 else byte % 16) - 8
                out[row, column] = number * scale[row // GROUP, column]
            else:
                out[row, column] = float(stored[row, column]) * np.broadcast_to(scale, held.shape)[row, column]
    return out


@pytest.mark.parametrize(("scheme", "table"), [("int8", False), ("int8", True), ("int4", False)])
@pytest.mark.parametrize("rows", [32, 70, 1])
def test_what_is_stored_is_what_is_meant_and_near_the_original(scheme, table, rows):
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 0.1, (rows, 5)).astype(np.float32)
    matrix[:, 3], matrix[0, 1] = 0, -2.5
    held = quantized(matrix, scheme, table)
    meant = naive(held)
    np.testing.assert_allclose(np.asarray(dequantize(held)), meant, rtol=1e-6)
    largest = np.abs(matrix).max(axis=1 if table else 0, keepdims=True)
    if scheme == "int4":
        groups = np.pad(np.abs(matrix), ((0, -rows % GROUP), (0, 0))).reshape(-1, GROUP, 5).max(axis=1)
        largest = np.repeat(groups, GROUP, axis=0)[:rows]
    # Half a step; in 4 bits one step more at the end without a partner, and the rounding of the scale.
    step = largest / (127 if scheme == "int8" else 8)
    assert np.all(np.abs(meant - matrix) <= step * (0.501 if scheme == "int8" else 1.04) + 1e-9)
    assert np.all(meant[:, 3] == 0)
    # The largest of each scale is met, whatever its sign, but for the rounding of the scale.
    np.testing.assert_allclose(meant[np.abs(matrix) == largest], matrix[np.abs(matrix) == largest], rtol=2**-8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_products_and_their_gradients_are_those_of_the_wide_matrix(scheme, dtype):
    rng = np.random.default_rng(1)
    held = quantized(rng.normal(0, 0.1, (70, 6)), scheme)
    x = jnp.asarray(rng.normal(0, 1, (4, 70)), dtype)
    wide = jnp.asarray(naive(held), dtype)
    tolerance = 1e-5 if dtype == "float32" else 3e-2
    np.testing.assert_allclose(product(x, held), x @ wide, atol=tolerance, rtol=tolerance)
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in (lambda x: product(x, held), lambda x: x @ wide)
    )
    np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), atol=tolerance, rtol=tolerance)


def test_a_backward_pass_keeps_no_wide_matrix():
    """Else training would need the memory that quantising saves."""
    held = quantized(np.ones((64, 48)), "int4")
    kept = jax.ad_checkpoint.saved_residuals if hasattr(jax.ad_checkpoint, "saved_residuals") else None
    if kept is None:
        from jax._src.ad_checkpoint import saved_residuals as kept
    shapes = [aval.shape for aval, _ in kept(lambda x: jnp.sum(jnp.sin(product(x, held))), jnp.ones((4, 64)))]
    assert (64, 48) not in shapes
    assert (32, 48) in shapes  # a control: the packed one is there


def test_tables_are_read_and_multiplied_by_rows():
    rng = np.random.default_rng(2)
    held = quantized(rng.normal(0, 1, (50, 8)), "int8", table=True)
    ids, x = np.array([[3, 49], [0, 3]]), rng.normal(0, 1, (2, 8)).astype(np.float32)
    np.testing.assert_allclose(table_rows(held, ids, jnp.float32), naive(held)[ids], rtol=1e-6)
    np.testing.assert_allclose(table_product(x, held, jnp.float32), x @ naive(held).T, rtol=1e-5, atol=1e-5)


def small(family, scheme=None):
    model = Model(make(family, vocabulary_size=tiny_tokenizer().vocabulary_size), tiny_tokenizer(), name=family)
    if scheme:
        model.quantize(scheme)
    return model


def logits(model, adapter=True):
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (28, 28, 3), np.uint8) if model.image_size else None
    ids = rng.integers(0, 256, (2, 9)).tolist()
    inputs, _ = collate([Row(ids[0], [ids[1]], [[1.0] * 9], picture)], model.spec.image_tokens)
    given = {"adapter": model.lora.adapter()} if model.lora is not None and adapter else {}
    inputs = {name: jnp.asarray(array) for name, array in inputs.items()}
    return np.asarray(target_logits(values(model.variables), model.spec, inputs, **given))


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantised_model_computes_with_the_weights_it_means(family, scheme):
    model = small(family, scheme)
    assert model.quantized == scheme
    ours = logits(model)
    model.widen()
    assert model.quantized is None
    assert np.abs(ours - logits(model)).max() <= 2e-5 * np.abs(ours).max()
    exact = logits(small(family))
    drift = np.abs(ours - exact).mean() / np.abs(exact).mean()
    assert 0 < drift < {"int8": 0.1, "int4": 0.6}[scheme]


@pytest.mark.parametrize(("scheme", "most"), [("int8", 0.29), ("int4", 0.19)])
def test_a_quantised_model_is_small(scheme, most):
    before = mmtune.load("tiny")
    after = mmtune.load("tiny", quantize=scheme)
    assert nbytes(after.variables) < most * nbytes(before.variables)
    assert all(variable.value is not None for variable in jax.tree.leaves(after.variables))


@pytest.mark.parametrize(("scheme", "dora"), [("int8", False), ("int4", True)])
def test_an_adapter_trains_on_quantised_weights_and_is_saved_with_its_run(scheme, dora, tmp_path):
    run_of = mmtune.train(
        "tiny",
        task="captioning",
        data="shapes:train?n=8&max_objects=2",
        out=tmp_path / "run",
        steps=12,
        batch_size=4,
        quantize=scheme,
        lora=LoRA(rank=4, dora=dora),
        optimizer={"learning_rate": 5e-3},
        verbose=False,
        log_every=1,
    )
    assert run_of.model.quantized == scheme
    losses = [float(line.split(",")[2]) for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.7 * losses[0]
    again = mmtune.load(tmp_path / "run")
    assert again.quantized == scheme
    picture = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    one, two = (model.score([picture], ["caption en"], ["a red star"])[0] for model in (run_of.model, again))
    np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-5)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_an_adapter_on_quantised_weights_is_exported_and_baked(scheme, tmp_path):
    model = mmtune.load("tiny", quantize=scheme)
    lora = model.add_lora(LoRA(rank=2))
    rng = np.random.default_rng(0)
    for weights in lora.table.values():
        weights["b"].assign(rng.normal(0, 0.02, weights["b"].shape))
    picture = rng.integers(0, 256, (120, 120, 3), np.uint8)
    told = model.score([picture], ["caption en"], ["a red star"])[0].logprobs
    for form in ("hf", "peft"):
        model.export(tmp_path / form, form)
    assert model.quantized == scheme
    plain = mmtune.load(tmp_path / "hf")
    np.testing.assert_allclose(plain.score([picture], ["caption en"], ["a red star"])[0].logprobs, told, atol=1e-4)
    with pytest.raises(UsageError, match="quantised weights"):
        model.merge()
    with pytest.raises(UsageError, match="quantised already"):
        model.quantize("int8")
    model.bake()
    assert model.quantized == scheme
    assert model.lora is None


def test_a_checkpoint_is_quantised_as_it_is_read(tmp_path, monkeypatch):
    """Piece by piece, and with the same result as all at once."""
    import mmtune.models.hf_load as hf_load

    exact = mmtune.load("tiny")
    exact.export(tmp_path / "hf")
    monkeypatch.setattr(hf_load, "_PIECE", 2**14)
    for scheme in ("int8", "int4"):
        streamed = mmtune.load(tmp_path / "hf", quantize=scheme)
        whole = mmtune.load("tiny", quantize=scheme)
        for one, two in zip(jax.tree.leaves(streamed.variables), jax.tree.leaves(whole.variables), strict=True):
            np.testing.assert_array_equal(np.asarray(one.value), np.asarray(two.value))


@pytest.mark.parametrize(("scheme", "most"), [("int8", 0.29), ("int4", 0.2)])
def test_a_quantised_model_is_a_small_file_that_loads_as_it_is(scheme, most, tmp_path):
    model = mmtune.load("tiny", quantize=scheme)
    model.export(tmp_path / "small", scheme)
    mmtune.load("tiny").export(tmp_path / "hf")
    sizes = [(tmp_path / name).stat().st_size for name in ("small/quantized.safetensors", "hf/model.safetensors")]
    assert sizes[0] < most * sizes[1]
    again = mmtune.load(tmp_path / "small")
    assert again.quantized == scheme
    for one, two in zip(jax.tree.leaves(model.variables), jax.tree.leaves(again.variables), strict=True):
        np.testing.assert_array_equal(np.asarray(one.value), np.asarray(two.value))
    assert mmtune.load(tmp_path / "small", quantize="int8").quantized == "int8"


def test_an_export_in_few_bits_leaves_the_model_as_it_was(tmp_path):
    model = mmtune.load("tiny")
    lora = model.add_lora(LoRA(rank=2))
    for weights in lora.table.values():
        weights["b"].assign(np.random.default_rng(0).normal(0, 0.3, weights["b"].shape))
    before = [np.array(variable.value) for variable in jax.tree.leaves(model.variables)]
    model.export(tmp_path / "small", "int8")
    assert model.lora is lora
    for one, two in zip(before, jax.tree.leaves(model.variables), strict=True):
        np.testing.assert_array_equal(one, np.asarray(two.value))
    baked = mmtune.load(tmp_path / "small")
    assert baked.lora is None
    picture = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    one, two = (m.score([picture], ["caption en"], ["a red star"])[0].logprobs for m in (model, baked))
    model.drop_lora()
    without = model.score([picture], ["caption en"], ["a red star"])[0].logprobs
    lost, adapted = (np.abs(np.array(one) - np.array(other)).max() for other in (two, without))
    assert 0 < lost < adapted / 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "cut off"),
        (lambda file: file.write_bytes(b"x"), "no safetensors file"),
        (lambda file: rename(file, "language_model.norm.weight", "other"), "expected the tensor language_model.norm"),
    ],
)
def test_broken_files_are_said(change, words, tmp_path):
    mmtune.load("tiny").export(tmp_path / "small", "int4")
    change(tmp_path / "small" / "quantized.safetensors")
    with pytest.raises(ModelError, match=words):
        mmtune.load(tmp_path / "small")


def rename(file, old, new):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    save_file({new if name == old else name: array for name, array in tensors.items()}, file, {"quantize": "int4"})


def test_bfloat16_weights_are_quantised_like_their_wide_values():
    matrix = np.random.default_rng(0).normal(0, 1, (64, 4)).astype(ml_dtypes.bfloat16)
    for one, two in zip(quantize(matrix, "int4"), quantize(matrix.astype(np.float32), "int4"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_on_the_command_line(capsys, tmp_path):
    words = ["eval", "tiny", "--task", "vqa", "--data", "shapes:test?n=4", "--json", tmp_path / "m.json"]
    code, _, err = run(capsys, *words, "--quantize", "int4")
    assert code == 0, err
    assert json.loads((tmp_path / "m.json").read_text())["n"] == 4
    code, _, err = run(capsys, *words, "--quantize", "int3")
    assert code == 2
    assert "Known: int4, int8" in err
    words = ["train", "--task", "vqa", "--data", "shapes:train?n=4", "--full", "--out", tmp_path / "run"]
    code, _, err = run(capsys, *words, "--set", "quantize=int8")
    assert code == 2
    assert "cannot be trained" in err
