"""What adapters do: against merged weights computed naively, under dropout, and in a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import make
from small_adapters import ALPHA, FAMILIES, RANK, config, make_lora, randomise, small

from mmtune.data.batch import Row, collate
from mmtune.model import Model
from mmtune.models.forward import decode_layers, embed
from mmtune.models.linear import Adapter, linear
from mmtune.models.lora import Merge
from mmtune.models.modules import linear_kernels, text_path
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.models.vision import encode_images
from mmtune.models.weights import model_variables, values
from mmtune.recipe import Optimizer, Recipe
from mmtune.training.model import Trainer
from mmtune.training.optimizer import make_optimizer

KINDS = {"plain": {}, "rslora": {"rslora": True}, "dora": {"dora": True}, "rs-dora": {"rslora": True, "dora": True}}


def images(rows=2):
    return jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (rows, 28, 28, 3)).astype("float32"))


def outputs(backbone, adapter=None, dtype=jnp.float32):
    """Returns hidden states of 9 random tokens, after image tokens where there are any, and the image tokens."""
    spec, weights = read_spec(backbone), values(model_variables(backbone))
    given = {} if adapter is None else {"adapter": adapter}
    ids = np.random.default_rng(1).integers(0, 256, (2, 9))
    x = embed(weights["text"], spec.text, jnp.asarray(ids), dtype)
    features = np.zeros(0)
    if spec.vision is not None:
        features = encode_images(weights["vision"], spec.vision, images(), dtype=dtype, **given)
        x = jnp.concatenate([features, x], axis=1)
    length = x.shape[1]
    hidden, _ = decode_layers(
        weights["text"],
        spec.text,
        x,
        positions=jnp.broadcast_to(jnp.arange(length), (2, length)),
        mask=jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), (2, length, length)),
        path=text_path(spec),
        **given,
    )
    return np.asarray(hidden, np.float64), np.asarray(features, np.float64)


def assert_close(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        if other.size:
            assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def naive_kernels(backbone, lora):
    """Returns W + scale * A B of every module in KerasHub's shapes, head by head, in float64; by path."""
    llama = type(backbone).__name__.startswith("Llama")
    scale = ALPHA / (np.sqrt(RANK) if lora.config.rslora else RANK)
    merged = {}
    for path, kernel in linear_kernels(lora.spec, model_variables(backbone)).items():
        base = np.asarray(kernel, np.float64)
        if base.ndim == 3 and path.endswith("o_proj"):  # (heads, head_dim, hidden)
            matrix = np.concatenate(list(base), axis=0)
        elif base.ndim == 3:
            heads = [base[:, h] for h in range(base.shape[1])] if llama else list(base)
            matrix = np.concatenate(heads, axis=1)
        else:
            matrix = base
        weights = lora.table[path]
        matrix = matrix + scale * np.asarray(weights["a"], np.float64) @ np.asarray(weights["b"], np.float64)
        if lora.config.dora:
            matrix = matrix * np.asarray(weights["magnitude"], np.float64) / np.sqrt((matrix**2).sum(axis=0))
        if base.ndim == 3 and path.endswith("o_proj"):
            matrix = np.stack(np.split(matrix, base.shape[0], axis=0))
        elif base.ndim == 3:
            matrix = np.stack(np.split(matrix, base.shape[1 if llama else 0], axis=1), axis=1 if llama else 0)
        merged[path] = matrix
    return merged


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapter_changes_nothing(family, kind):
    backbone = small(family)
    lora = make_lora(backbone, config(family, **KINDS[kind]))
    assert all(np.any(np.asarray(weights["a"])) for weights in lora.table.values())
    tolerance = 1e-6 if "dora" in kind else 0.0
    assert_close(outputs(backbone, lora.adapter()), outputs(backbone), tolerance)


def test_fresh_dora_changes_nothing_in_bfloat16():
    """Its lengths are those of the float32 base, whatever the products are computed in."""
    backbone = small("gemma2")
    lora = make_lora(backbone, config(dora=True))
    assert_close(outputs(backbone, lora.adapter(), jnp.bfloat16), outputs(backbone, dtype=jnp.bfloat16), 1e-2)
    kernel = backbone.transformer_layers[0].attention.query_dense.kernel.value
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 48)), jnp.bfloat16)
    path = "model.layers.0.self_attn.q_proj"
    ours = linear(x, kernel, path, lora.adapter())
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(ours, np.float32), np.asarray(linear(x, kernel, "none", lora.adapter()), np.float32)
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_adapter_equals_naively_merged_weights(family, kind):
    backbone = small(family)
    lora = randomise(make_lora(backbone, config(family, **KINDS[kind])))
    base, adapted = outputs(backbone), outputs(backbone, lora.adapter())
    kernels = linear_kernels(lora.spec, model_variables(backbone))
    naive = naive_kernels(backbone, lora)
    assert list(lora.table) == list(kernels)
    for path, kernel in kernels.items():
        kernel.assign(naive[path].astype("float32"))
    merged = outputs(backbone)
    assert_close(adapted, merged)
    assert np.abs(adapted[0] - base[0]).max() > 0.1 * np.abs(base[0]).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_module_counts(family):
    """Guards the test above: an adapter on any one module alone changes the result."""
    backbone = make(family, **({"vit_num_layers": 1} if family.startswith("pali") else {}), num_layers=1)
    lora = randomise(make_lora(backbone, config(family)))
    base = outputs(backbone)[0]
    whole = lora.adapter()
    assert len(lora.table) == (14 if family.startswith("pali") else 7)
    for path in lora.table:
        alone = Adapter({path: whole.weights[path]}, whole.scale)
        assert np.abs(outputs(backbone, alone)[0] - base).max() > 1e-4 * np.abs(base).max(), path


def test_query_shares_a_between_heads():
    backbone = make("gemma2", num_layers=3)
    lora = randomise(make_lora(backbone, config()))
    path = "model.layers.2.self_attn.q_proj"
    a, b = (np.asarray(lora.table[path][name], np.float64) for name in "ab")
    assert a.shape == (48, RANK)
    assert b.shape == (RANK, 4 * 16)
    x = np.random.default_rng(0).normal(size=(3, 48))
    by_head = linear(jnp.asarray(x, jnp.float32), jnp.zeros((4, 48, 16)), path, lora.adapter()).reshape(3, 4, 16)
    for head in range(4):
        expected = ALPHA / RANK * x @ a @ b[:, head * 16 : (head + 1) * 16]
        np.testing.assert_allclose(by_head[:, head], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_merge_and_undo(family, kind):
    backbone = small(family)
    lora = randomise(make_lora(backbone, config(family, **KINDS[kind])))
    before = [np.asarray(v).tobytes() for v in backbone.weights]
    adapted, naive = outputs(backbone, lora.adapter()), naive_kernels(backbone, lora)
    merge = Merge(lora, model_variables(backbone))
    for path, kernel in linear_kernels(lora.spec, model_variables(backbone)).items():
        np.testing.assert_allclose(np.asarray(kernel), naive[path], rtol=1e-5, atol=1e-6)
    assert_close(outputs(backbone), adapted)
    merge.undo()
    assert [np.asarray(v).tobytes() for v in backbone.weights] == before


def test_model_merges_once_and_bakes():
    model = Model(make("llama3"), tiny_tokenizer(), name="test")
    adapted = outputs(model.backbone, randomise(model.add_lora(config())).adapter())
    before = [np.asarray(v).tobytes() for v in model.backbone.weights]
    model.merge()
    model.merge()
    assert model.weights().adapter.weights == {}
    assert_close(outputs(model.backbone), adapted)
    model.unmerge()
    assert [np.asarray(v).tobytes() for v in model.backbone.weights] == before
    model.bake()
    assert model.lora is None
    assert_close(outputs(model.backbone), adapted)


@pytest.mark.parametrize("dora", [False, True])
def test_dropout(dora):
    backbone = make("gemma2")
    lora = randomise(make_lora(backbone, config(dropout=0.4, dora=dora)))
    q, k = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 48)), jnp.float32)
    kernel = model_variables(backbone)["text"]["layers"][0]["q_proj"].value
    without = randomise(make_lora(backbone, config(dora=dora)))

    dry = linear(x, kernel, q, lora.adapter())
    np.testing.assert_array_equal(dry, linear(x, kernel, q, without.adapter()))
    np.testing.assert_array_equal(dry, linear(x, kernel, q, without.adapter(jax.random.key(0))))

    draws = np.asarray(
        jax.vmap(lambda key: linear(x, kernel, q, lora.adapter(key)))(jax.random.split(jax.random.key(1), 4000))
    )
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.all(error > 0)
    assert np.abs((draws.mean(axis=0) - dry) / error).max() < 5

    # The same weights under another module's name: only the mask can differ.
    whole = lora.adapter(jax.random.key(2))
    twin = Adapter({**whole.weights, k: whole.weights[q]}, whole.scale, whole.dropout, whole.key)
    at_q, at_k = linear(x, kernel, q, twin), linear(x, kernel, k, twin)
    assert np.abs(at_q - at_k).max() > 1e-2
    np.testing.assert_array_equal(at_q, linear(x, kernel, q, lora.adapter(jax.random.key(2))))
    assert np.abs(at_q - linear(x, kernel, q, lora.adapter(jax.random.key(3)))).max() > 1e-2


def test_dropout_masks_the_adapters_input_only():
    """Every output is the base's plus A B applied to inputs each either dropped or divided by 1 - rate."""
    x = jnp.ones((200, 3))
    weights = {"m": {"a": jnp.eye(3), "b": jnp.eye(3)}}
    out = linear(x, 10 * jnp.eye(3), "m", Adapter(weights, 1.0, 0.25, jax.random.key(0)))
    assert {round(float(v), 4) for v in np.unique(out)} == {10.0, 11.3333}


def test_dropout_of_dora_masks_what_is_rescaled():
    """As in PEFT: the base's share that the magnitude adds (here twice the length) sees the dropped inputs too."""
    weights = {"m": {"a": jnp.eye(3), "b": jnp.zeros((3, 3)), "magnitude": jnp.full(3, 20.0)}}
    out = linear(jnp.ones((200, 3)), 10 * jnp.eye(3), "m", Adapter(weights, 1.0, 0.25, jax.random.key(0)))
    assert {round(float(v), 4) for v in np.unique(out)} == {10.0, 23.3333}


def batch(spec, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(2):
        suffix = rng.integers(2, 256, 4).tolist()
        image = rng.integers(0, 256, (28, 28, 3), np.uint8) if spec.vision else None
        rows.append(Row(rng.integers(2, 256, 3).tolist(), [suffix], [[1.0] * 4], image))
    return collate(rows, spec.image_tokens)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("paligemma2", {"dropout": 0.1, "dora": True}),
        ("gemma2", {}),
        ("llama3", {"rslora": True, "dropout": 0.1}),
    ],
    ids=["paligemma2-dora-dropout", "gemma2", "llama3-rslora-dropout"],
)
def test_training_changes_the_adapter_alone(family, options):
    model = Model(small(family), tiny_tokenizer(), name="test")
    lora = model.add_lora(config(family, **options))
    recipe = Recipe(
        task="detection",
        data="none",
        steps=3,
        lora=lora.config,
        optimizer=Optimizer(learning_rate=1e-2, schedule="constant", warmup=0.0, weight_decay=0.1),
    )
    trainer = Trainer(model, recipe)
    trainer.compile(optimizer=make_optimizer(recipe, 3))
    assert {id(v) for v in trainer.trainable_variables} == {id(v) for w in lora.table.values() for v in w.values()}
    assert len(trainer.trainable_variables) == len(lora.table) * (3 if lora.config.dora else 2)

    base = {v.path: np.asarray(v).tobytes() for v in model.backbone.weights}
    assert any(path.endswith("/bias") for path in base) == family.startswith("pali")
    before = {(path, name): np.asarray(v) for path, w in lora.table.items() for name, v in w.items()}
    trainer.fit((batch(model.spec, i) for i in range(3)), steps_per_epoch=3, verbose=0, shuffle=False)
    changed = [v.path for v in model.backbone.weights if np.asarray(v).tobytes() != base[v.path]]
    assert changed == []
    still = [key for key, value in before.items() if np.array_equal(np.asarray(lora.table[key[0]][key[1]]), value)]
    assert still == []
