"""Our adapters against PEFT's: what trains, files in both directions, outputs and gradients."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from peer_logits import difference, images, our_logits, segments, their_logits, their_tensor, token_ids
from peer_models import pair
from small_adapters import randomise

from mmtune.models.linear import Adapter
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import DECODER_MODULES, LoRA
from mmtune.models.peft_files import adapter_file, load_adapter, read_config, save_adapter
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

pytestmark = pytest.mark.peers

DECODER_ONLY = r"model\.language_model\..*\.(q_proj|v_proj|down_proj)"
EVERYWHERE = (*DECODER_MODULES, "out_proj", "fc1", "fc2", "linear")
KINDS = {"plain": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}
# PaliGemma 2 in transformers applies no window within the prefix; see test_peer_forward.
LONG = {"paligemma2": ({"sliding_window_size": 99}, {"sliding_window": 99})}
FAMILIES = {"gemma2": DECODER_MODULES, "llama3": DECODER_MODULES, "paligemma": EVERYWHERE, "paligemma2": EVERYWHERE}
RANK, ALPHA = 4, 6.0


def models(family):
    keras, changes = LONG.get(family, ({}, {}))
    return pair(family, keras, **changes)


def config(targets, **options):
    return LoRA(**({"rank": RANK, "alpha": ALPHA, "targets": tuple(targets), "vision": True} | options))


def make_lora(backbone, options, seed=0):
    return LoraWeights(options, read_spec(backbone), model_variables(backbone), seed)


def peft_config(targets, rslora=False, dora=False, **options):
    targets = targets if isinstance(targets, str) else list(targets)
    return peft.LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=targets,
        use_rslora=rslora,
        use_dora=dora,
        task_type="CAUSAL_LM",
        **options,
    )


def randomise_peft(model, seed=4):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_magnitude" in name:
                value.mul_(0.5 + torch.rand(value.shape, generator=generator))
            elif "lora_" in name:
                value.copy_((0.3 if "lora_A" in name else 0.1) * torch.randn(value.shape, generator=generator))
    return model


def batch(family):
    return token_ids(length=12), segments(length=12, lengths=(12, 9)), images() if family.startswith("pali") else None


TARGETS = {
    "gemma2": ("gemma2", DECODER_MODULES, DECODER_MODULES),
    "gemma2, query and value": ("gemma2", ("q_proj", "v_proj"), ("q_proj", "v_proj")),
    "gemma2, pattern": ("gemma2", r"model\.layers\.[02]\.mlp\..*_proj", (r"model\.layers\.[02]\.mlp\..*_proj",)),
    "llama3": ("llama3", DECODER_MODULES, DECODER_MODULES),
    "paligemma, decoder only": ("paligemma", DECODER_ONLY, (DECODER_ONLY,)),
    "paligemma, names": ("paligemma", ("q_proj", "v_proj"), ("q_proj", "v_proj")),
    "paligemma, all-linear": ("paligemma", "all-linear", EVERYWHERE),
    "paligemma2, everywhere": ("paligemma2", EVERYWHERE, EVERYWHERE),
}


@pytest.mark.parametrize("case", TARGETS)
@pytest.mark.parametrize("kind", ["plain", "dora"])
def test_trainable_parameters_equal_pefts(case, kind):
    family, their_targets, our_targets = TARGETS[case]
    theirs, backbone = models(family)
    adapted = peft.get_peft_model(theirs, peft_config(their_targets, **KINDS[kind]))
    lora = make_lora(backbone, config(our_targets, **KINDS[kind]))
    assert lora.count == adapted.get_nb_trainable_parameters()[0]
    shapes = {name: tuple(v.shape) for name, v in peft.get_peft_model_state_dict(adapted).items()}
    suffix = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
    assert shapes == {
        f"base_model.model.{path}.{suffix[name]}": tuple(v.shape)[::-1]
        for path, weights in lora.table.items()
        for name, v in weights.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_ours(family, kind, tmp_path):
    theirs, backbone = models(family)
    ids, segment_ids, pictures = batch(family)
    base = their_logits(theirs, ids, segment_ids, pictures)
    lora = randomise(make_lora(backbone, config(FAMILIES[family], **KINDS[kind])))
    save_adapter(lora, tmp_path / "adapter_model.safetensors", "base")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
        adapted = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
    ours = our_logits(backbone, ids, segment_ids, pictures, lora.adapter())
    assert difference(ours, base, segment_ids) > 1e-2
    assert difference(ours, their_logits(adapted, ids, segment_ids, pictures), segment_ids) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_we_load_pefts(family, kind, tmp_path):
    theirs, backbone = models(family)
    ids, segment_ids, pictures = batch(family)
    adapted = peft.get_peft_model(theirs, peft_config(FAMILIES[family], lora_dropout=0.125, **KINDS[kind]))
    randomise_peft(adapted).eval().save_pretrained(tmp_path)
    read = read_config(tmp_path)
    assert (read.rank, read.effective_alpha, read.dropout) == (RANK, ALPHA, 0.125)
    lora = make_lora(backbone, read)
    load_adapter(lora, adapter_file(tmp_path))
    ours = our_logits(backbone, ids, segment_ids, pictures, lora.adapter())
    assert difference(ours, their_logits(adapted, ids, segment_ids, pictures), segment_ids) <= 1e-5


def test_peft_choosing_modules_by_layer(tmp_path):
    theirs, backbone = models("gemma2")
    chosen = peft_config(DECODER_MODULES, layers_to_transform=[1, 3], exclude_modules=r".*k_proj")
    randomise_peft(peft.get_peft_model(theirs, chosen)).save_pretrained(tmp_path)
    lora = make_lora(backbone, read_config(tmp_path))
    names = [name for name in DECODER_MODULES if name != "k_proj"]
    assert {path.split(".")[2] for path in lora.table} == {"1", "3"}
    assert len(lora.table) == 2 * len(names)
    load_adapter(lora, adapter_file(tmp_path))


@pytest.mark.parametrize("family", ["llama3", "paligemma"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_pefts(family, kind, tmp_path):
    """Of a random linear functional of the logits, for every adapter weight."""
    theirs, backbone = models(family)
    ids, segment_ids, pictures = batch(family)
    segment_ids = np.where(segment_ids < 0, 1, segment_ids)
    lora = randomise(make_lora(backbone, config(FAMILIES[family], **KINDS[kind])))
    save_adapter(lora, tmp_path / "adapter_model.safetensors", "base")
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path, is_trainable=True).eval()
    direction = np.random.default_rng(5).normal(size=(2, 12, 256)).astype("float32")

    (their_tensor(adapted, ids, segment_ids, pictures) * torch.tensor(direction)).sum().backward()
    expected = {name: v.grad.numpy() for name, v in adapted.named_parameters() if v.requires_grad}

    adapter = lora.adapter()

    def functional(weights):
        changed = Adapter(weights, adapter.scale)
        return jnp.sum(our_logits(backbone, ids, segment_ids, pictures, changed) * direction)

    gradients = jax.jit(jax.grad(functional))({path: dict(weights) for path, weights in adapter.weights.items()})
    suffix = {
        "a": "lora_A.default.weight",
        "b": "lora_B.default.weight",
        "magnitude": "lora_magnitude_vector.default.weight",
    }
    compared = 0
    for path, weights in gradients.items():
        for name, gradient in weights.items():
            reference = expected[f"base_model.model.{path}.{suffix[name]}"].T
            assert np.abs(gradient - reference).max() <= 1e-4 * np.abs(reference).max(), (path, name)
            compared += 1
    assert compared == len(expected)
