"""A model into a folder that other libraries read; what was written is read back before the folder gets its name."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.data.batch import Row, collate
from mmtune.data.pixels import RESAMPLING
from mmtune.distributed.processes import is_main_process
from mmtune.errors import ModelError, UsageError, unknown_name
from mmtune.files import publish, write_json, write_text
from mmtune.model_card import CARD, model_card
from mmtune.models.config_files import read_object
from mmtune.models.fingerprint import write_fingerprint
from mmtune.models.folder_files import ADAPTER_WEIGHTS, CONFIG, GENERATION, JSON, PREPROCESSOR, SETTINGS
from mmtune.models.hf_export import config_of, write_checkpoint
from mmtune.models.hub import SCHEME, split_address
from mmtune.models.linear import NO_ADAPTER, Adapter
from mmtune.models.load import load
from mmtune.models.lora import LoraWeights
from mmtune.models.peft_files import load_adapter, read_config, save_adapter
from mmtune.models.quantized import SCHEMES
from mmtune.models.quantized_files import write_quantized
from mmtune.models.scorer import target_logits
from mmtune.models.spec import VisionSpec, read_spec
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.weights import Tree, values

if TYPE_CHECKING:
    from mmtune.model import Model

FORMATS = ("hf", "peft", "keras", "int8", "int4")
"""A Hugging Face checkpoint, a PEFT adapter, a Keras preset; weights in few bits, which only mmtune reads."""

DTYPES = ("float32", "bfloat16", "float16")

_IMAGE = "<image>"
_PROBE = 12  # tokens of a prefix and of a suffix
# Share of the largest logit by which the model and what is read back may differ.
_NEAR = 1e-5


def export(model: "Model", out: str | Path, form: str, dtype: str | None = None) -> Path:
    """Writes a model and returns its folder.

    Args:
        model: With its adapter, which becomes a part of the weights except under "peft".
        out: A folder that does not exist yet.
        form: One of `FORMATS`.
        dtype: Of the weights in a Hugging Face checkpoint, one of `DTYPES`; None: as the model holds them.

    Raises:
        UsageError: When the folder exists, or the format cannot say what the model is.
        ModelError: When what is read back is not the model; it is left in a folder named `out` and ".failed".
    """
    out = Path(out)
    check_export(out, form, dtype)
    card = model_card(model, form, out.name)
    forms: dict[str, Callable[[Model, Path, str], float]] = {"hf": _checkpoint, "peft": _adapter, "keras": _preset}
    write = forms.get(form, _quantized)
    if form in SCHEMES and (model.quantized != form or model.lora is not None):
        model = model.copy()
        model.bake()
        model.quantize(form)
    elif form in ("hf", "keras") and model.quantized:
        model = model.copy()
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    work.mkdir(parents=True)
    try:
        difference = write(model, work, dtype or model.backbone.weights[0].dtype)
        if not difference <= _NEAR:
            failed = out.with_name(f"{out.name}.failed")
            shutil.rmtree(failed, ignore_errors=True)
            publish(work, failed)
            raise ModelError(
                f"{failed}: what was written is not the model: its logits differ by {difference:.1e} of the largest, "
                f"expected at most {_NEAR:.0e}"
            )
        write_text(work / CARD, card)
        publish(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def check_export(out: Path, form: str, dtype: str | None) -> None:
    """Raises a UsageError for what `export` cannot do whatever the model is."""
    if form not in FORMATS:
        raise UsageError(unknown_name("format", form, FORMATS))
    if dtype is not None and (form != "hf" or dtype not in DTYPES):
        raise UsageError(f"dtype: expected one of {', '.join(DTYPES)}, with the format hf; got {dtype!r} with {form}")
    if out.exists():
        raise UsageError(f"{out}: expected a name that is free, but it exists; remove it or choose another")


def _checkpoint(model: "Model", folder: Path, dtype: str) -> float:
    """Writes a Hugging Face checkpoint and returns how far its logits lie from the model's."""
    with _folded(model, True):
        write_checkpoint(folder, model.spec, model.variables, dtype, tokens=_ids(model))
        ours = jax.tree.map(lambda array: array.astype(dtype), values(model.variables))
    _describe(model, folder)
    again = load(folder, weights=dtype)
    if again.spec != model.spec or again.tokenizer.vocabulary_size != model.tokenizer.vocabulary_size:
        return np.inf
    return _apart(model, (ours, NO_ADAPTER), (values(again.variables), NO_ADAPTER))


def _adapter(model: "Model", folder: Path, _: str) -> float:
    """Writes a PEFT adapter and returns how far the model with what is read back lies from the model."""
    if model.lora is None:
        raise UsageError(f"{model.name}: expected a model with an adapter, such as a run without --full: it has none")
    if model.replaced:
        raise UsageError(
            f"{model.name}: its adapter has replaced whole weights of its base, which the format peft does not hold: "
            "choose the format hf"
        )
    file = folder / ADAPTER_WEIGHTS[1]
    # PEFT names the hub's models without a scheme, and their revision apart.
    base, revision = split_address(model.base) if model.base.startswith(SCHEME) else (model.base, None)
    save_adapter(model.lora, file, base, revision)
    again = LoraWeights(read_config(folder), model.spec, model.variables, seed=0)
    load_adapter(again, file)
    with _folded(model, False):
        tree, found = values(model.variables), model.fingerprint()
    if is_main_process():
        write_fingerprint(found, folder)
    return _apart(model, (tree, model.lora.adapter()), (tree, again.adapter()))


def _preset(model: "Model", folder: Path, _: str) -> float:
    """Writes a Keras preset and returns how far its logits lie from the model's."""
    import keras_hub

    classes = {"paligemma": keras_hub.models.PaliGemmaTokenizer, "gemma": keras_hub.models.GemmaTokenizer}
    if model.spec != read_spec(model.backbone):
        raise UsageError(f"{model.name}: KerasHub's classes cannot say how this model computes: choose the format hf")
    if not isinstance(model.tokenizer, SentencePieceTokenizer) or model.spec.family not in classes:
        raise UsageError(f"{model.name}: a preset holds vocabularies of SentencePiece only: choose the format hf")
    with _folded(model, True):
        model.backbone.save_to_preset(str(folder))
        ours = values(model.variables)
    classes[model.spec.family](model.tokenizer.proto).save_to_preset(str(folder))
    return _apart(model, (ours, NO_ADAPTER), (values(load(folder).variables), NO_ADAPTER))


def _quantized(model: "Model", folder: Path, dtype: str) -> float:
    """Writes a quantised model and returns how far its logits lie from the model's."""
    write_quantized(folder, model.spec, model.variables)
    write_json(folder / CONFIG, config_of(model.spec, dtype) | _ids(model))
    _describe(model, folder)
    return _apart(model, (values(model.variables), NO_ADAPTER), (values(load(folder).variables), NO_ADAPTER))


def _ids(model: "Model") -> dict[str, int]:
    """Returns the ids that `config.json` names."""
    tokenizer = model.tokenizer
    ids = {f"{name}_token_id": getattr(tokenizer, name) for name in ("bos", "eos", "pad")}
    if model.spec.vision is None:
        return ids
    image = tokenizer.find(_IMAGE)
    # A vocabulary without a token for pictures: the first id behind it, as in the published checkpoints.
    return ids | {"image_token_index": tokenizer.vocabulary_size if image is None else image}


def _describe(model: "Model", folder: Path) -> None:
    """Writes what belongs to the weights: the vocabulary, how to generate, how to prepare pictures."""
    model.tokenizer.save(folder)
    if model.spec.vision is not None and model.tokenizer.find(_IMAGE) is None:
        _name_image_token(folder, _ids(model)["image_token_index"])
    ids: dict[str, Any] = {name: number for name, number in _ids(model).items() if name != "image_token_index"}
    ends = list(model.weights().ends)
    write_json(folder / GENERATION, ids | {"eos_token_id": ends if len(ends) > 1 else ends[0]})
    if model.spec.vision is not None:
        write_json(folder / PREPROCESSOR, _processor(model.spec.vision))


def _name_image_token(folder: Path, token: int) -> None:
    """Gives `<image>` its id in the vocabulary's settings: transformers would take whatever id is free there.

    The tokens that `tokenizer.json` adds are named with it, as transformers 5 goes by the settings alone then.
    """
    settings = read_object(folder / SETTINGS)
    file = folder / JSON
    listed = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or [] if file.is_file() else []
    added = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in listed}
    plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    added |= (settings.get("added_tokens_decoder") or {}) | {str(token): {"content": _IMAGE, "special": True, **plain}}
    write_json(folder / SETTINGS, settings | {"added_tokens_decoder": added})


@contextmanager
def _folded(model: "Model", whether: bool) -> Iterator[None]:
    """Has the adapter in the weights, or not, for a while."""
    before = model.merged
    (model.merge if whether else model.unmerge)()
    try:
        yield
    finally:
        (model.merge if before else model.unmerge)()


def _apart(model: "Model", one: tuple[Tree, Adapter], other: tuple[Tree, Adapter]) -> float:
    """Returns the largest difference of the logits of two sets of weights, as a share of the largest logit.

    Asked is a random suffix behind a random prefix, on a random picture where the model sees any.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.tokenizer.vocabulary_size, (2, _PROBE)).tolist()
    side = model.image_size
    picture = None if side is None else rng.integers(0, 256, (side, side, 3), np.uint8)
    inputs, _ = collate([Row(ids[0], [ids[1]], [[1.0] * _PROBE], picture)], model.spec.image_tokens)
    batch = {name: jnp.asarray(array) for name, array in inputs.items()}
    run = jax.jit(lambda tree, adapter: target_logits(tree, model.spec, batch, adapter, dtype=jnp.float32))
    first, second = (np.asarray(run(*weights)) for weights in (one, other))
    return float(np.abs(first - second).max() / np.abs(first).max())


def _processor(vision: VisionSpec) -> dict[str, Any]:
    """Returns how transformers is to prepare pictures: as `mmtune.data.pixels` does."""
    return {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "PaliGemmaProcessor",
        "image_seq_length": vision.num_tokens,
        "do_resize": True,
        "size": {"height": vision.image_size, "width": vision.image_size},
        "resample": RESAMPLING[vision.resample],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(vision.mean),
        "image_std": list(vision.std),
    }
