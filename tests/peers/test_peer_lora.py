"""Our adapters against PEFT's: what trains, files in both directions, outputs and gradients."""

import dataclasses
import json
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

import mmtune
from mmtune.errors import ModelError
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER, Adapter
from mmtune.models.lora import LoraWeights, Merge
from mmtune.models.lora_config import DECODER_MODULES, LoRA
from mmtune.models.peft_fields import CHOOSING, HONORED, REFUSED, WITHOUT_EFFECT
from mmtune.models.peft_files import adapter_file, load_adapter, read_config, save_adapter
from mmtune.models.replaced import replace_weights
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
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


PATTERNS = {
    "names": ({"q_proj": 2, "down_proj": 7}, {"v_proj": 3.0}),
    "the first of several counts": ({"layers.1.mlp.up_proj": 8, "up_proj": 2}, {"up_proj": 9.0, "mlp.up_proj": 1.0}),
    "expressions": ({r".*\.[12]\..*(q|k)_proj": 3}, {r"layers\.\d\.mlp\..*": 2.5, "self_attn.o_proj": 11.0}),
    "from the start": ({"^model.layers.0.self_attn.k_proj": 6}, {"^layers.0.self_attn.k_proj": 99.0}),
    "no part of a name": ({"proj": 5, "own_proj": 6}, {"o_proj": 0.5}),
    "one module for both": ({"gate_proj": 16}, {"gate_proj": 32.0}),
}


@pytest.mark.parametrize("case", PATTERNS)
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_and_alphas_of_single_modules(case, kind, tmp_path):
    """As PEFT computes them, merged and not; and PEFT reads what we write of them."""
    theirs, backbone = models("gemma2")
    ids, segment_ids, _ = batch("gemma2")
    ranks, alphas = PATTERNS[case]
    chosen = peft_config(DECODER_MODULES, rank_pattern=ranks, alpha_pattern=alphas, **KINDS[kind])
    randomise_peft(peft.get_peft_model(theirs, chosen)).save_pretrained(tmp_path / "theirs")
    # Read again: PEFT sorts the patterns as it writes them, which may change the one that counts.
    adapted = peft.PeftModel.from_pretrained(models("gemma2")[0], tmp_path / "theirs").eval()
    expected = their_logits(adapted, ids, segment_ids, None)
    read = read_config(tmp_path / "theirs")
    lora = make_lora(backbone, read)
    load_adapter(lora, adapter_file(tmp_path / "theirs"))
    assert difference(our_logits(backbone, ids, segment_ids, None, lora.adapter()), expected, segment_ids) <= 1e-5
    plain = LoRA(rank=RANK, alpha=ALPHA, rslora=read.rslora, dora=read.dora)
    wrong = Adapter(lora.adapter().weights, plain.scale)
    moved = difference(our_logits(backbone, ids, segment_ids, None, wrong), expected, segment_ids)
    assert moved > 1e-4, "the case tells nothing apart"

    save_adapter(lora, tmp_path / "ours" / "adapter_model.safetensors", "base")
    again = peft.PeftModel.from_pretrained(models("gemma2")[0], tmp_path / "ours").eval()
    assert difference(their_logits(again, ids, segment_ids, None), expected, segment_ids) <= 1e-5

    Merge(lora, model_variables(backbone))
    merged = adapted.merge_and_unload()
    ours = our_logits(backbone, ids, segment_ids, None, NO_ADAPTER)
    assert difference(ours, their_logits(merged, ids, segment_ids, None), segment_ids) <= 1e-5


TIED = ({"tie_word_embeddings": True}, {"tie_word_embeddings": True})
SAVED = {
    "gemma2, norms": ("gemma2", {"modules_to_save": ["input_layernorm", "norm"]}),
    "gemma2, whole matrices": ("gemma2", {"modules_to_save": ["down_proj", "q_proj"]}),
    "gemma2, embeddings and head, tied": ("gemma2", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "llama3, embeddings": ("llama3", {"modules_to_save": ["embed_tokens"]}),
    "llama3, head": ("llama3", {"modules_to_save": ["lm_head"]}),
    "llama3, both": ("llama3", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied llama3, embeddings": ("tied", {"modules_to_save": ["embed_tokens"]}),
    "tied llama3, head": ("tied", {"modules_to_save": ["lm_head"]}),
    "tied llama3, both": ("tied", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied llama3, both as one": ("tied", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "paligemma, projector": ("paligemma", {"modules_to_save": ["multi_modal_projector", "post_layernorm"]}),
    "paligemma, patches": ("paligemma", {"modules_to_save": ["patch_embedding", "position_embedding", "norm"]}),
    "paligemma, biases": ("paligemma", {"bias": "all"}),
    "paligemma, biases of adapted modules": ("paligemma", {"bias": "lora_only"}),
    "gemma2, no biases to train": ("gemma2", {"bias": "all"}),
}
NO_DIFFERENCE = {
    "fan_in_fan_out": True,
    "init_lora_weights": "mica",
    "eva_config": {"rho": 1.5},
    "layers_to_transform": [0, 2],
    "exclude_modules": ["v_proj"],
}


def their_adapter(family, options, folder):
    """Returns PEFT's random adapter on a base, and our base with what is read of its files."""
    theirs, backbone = pair("llama3", TIED[0], **TIED[1]) if family == "tied" else models(family)
    targets = EVERYWHERE if family.startswith("pali") else DECODER_MODULES
    saved = options.get("modules_to_save", [])
    adapted = peft.get_peft_model(theirs, peft_config([name for name in targets if name not in saved], **options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if value.requires_grad and "lora_" not in name:
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
    randomise_peft(adapted).eval().save_pretrained(folder)
    model = Model(backbone, tiny_tokenizer(), name="base")
    lora = model.add_lora(read_config(folder))
    load_adapter(lora, adapter_file(folder), replaced=True)
    replace_weights(model, folder)
    return adapted, model


def compared(adapted, model, family):
    """Returns how far our logits are from PEFT's."""
    ids, segment_ids, pictures = batch("llama3" if family == "tied" else family)
    ours = our_logits(model.backbone, ids, segment_ids, pictures, model.lora.adapter())
    return difference(ours, their_logits(adapted, ids, segment_ids, pictures), segment_ids)


@pytest.mark.parametrize("case", SAVED)
def test_whole_modules_that_an_adapter_brings(case, tmp_path):
    family, options = SAVED[case]
    adapted, model = their_adapter(family, options, tmp_path)
    assert bool(model.replaced) == (case != "gemma2, no biases to train")
    assert compared(adapted, model, family) <= 1e-5


@pytest.mark.parametrize("name", NO_DIFFERENCE)
def test_fields_without_effect(name, tmp_path):
    adapted, model = their_adapter("llama3", {name: NO_DIFFERENCE[name]}, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())[name] not in (None, True, [])
    assert compared(adapted, model, "llama3") <= 1e-5


def test_every_field_of_peft_is_known():
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields == {*HONORED, *CHOOSING, *WITHOUT_EFFECT, *REFUSED}


@pytest.mark.parametrize("saved", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_a_gemma_cannot_have_a_head_of_its_own(saved, tmp_path):
    with pytest.raises(ModelError, match="output head is not its embeddings, and this model has one table for both"):
        their_adapter("gemma2", {"modules_to_save": saved}, tmp_path)


MERGED = {
    "trainable_token_indices": {"trainable_token_indices": [5, 9]},
    "target_modules with embed_tokens": {"target_modules": ["q_proj", "embed_tokens"]},
    "target_modules with lm_head": {"target_modules": ["q_proj", "lm_head"]},
}


@pytest.mark.parametrize("case", MERGED)
def test_what_cannot_be_loaded_says_how_to_merge(case, tmp_path):
    """And the model that PEFT merges loads and computes the same."""
    theirs, _ = pair("llama3", {"vocabulary_size": 2176}, vocab_size=2176)
    theirs.save_pretrained(tmp_path / "base")
    options = {"target_modules": ["q_proj"]} | MERGED[case]
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(r=4, task_type="CAUSAL_LM", **options))
    randomise_peft(adapted).eval().save_pretrained(tmp_path / "adapter")
    ids, segment_ids, _ = batch("llama3")
    expected = their_logits(adapted, ids, segment_ids, None)
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    for folder in ("base", "merged"):
        (tmp_path / folder / "tokenizer.model").write_bytes(tiny_tokenizer().proto)
    with pytest.raises(ModelError, match=r"merge_and_unload\(\)") as error:
        mmtune.load(tmp_path / "adapter", base=tmp_path / "base")
    assert "\n" not in str(error.value)
    loaded = mmtune.load(tmp_path / "merged")
    ours = our_logits(loaded.backbone, ids, segment_ids, spec=loaded.spec)
    assert difference(ours, expected, segment_ids) <= 1e-5
