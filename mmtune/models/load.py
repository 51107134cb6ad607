"""From a name to a model: `tiny`, a run folder, a Hugging Face checkpoint, a KerasHub preset by name or folder."""

import difflib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import ModelError
from mmtune.model import Model, Setup
from mmtune.models.gguf_files import SUFFIX
from mmtune.models.hf_config import is_checkpoint
from mmtune.models.hf_load import load_checkpoint, load_gguf
from mmtune.models.hub import SCHEME, fetch
from mmtune.models.peft_files import CONFIG, adapter_file, load_adapter, read_config
from mmtune.models.quantized_files import FILE as QUANTIZED
from mmtune.models.quantized_files import load_quantized
from mmtune.models.quantized_tree import check_scheme
from mmtune.models.spec import read_spec
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import build_tiny, tiny_tokenizer, tiny_weights_path

if TYPE_CHECKING:
    from mmtune.recipe import Recipe

# What a run folder holds.
RECIPE, ADAPTER, TRAINED = "recipe.toml", "adapter.safetensors", "weights.safetensors"
_PRESET_CONFIG = "config.json"
_SCHEMES = ("kaggle://", "modelscope://", "gs://")
_VOCABULARY = "assets/tokenizer/vocabulary.spm"


def load(
    name: str | Path, *, precision: str = "float32", weights: str | None = None, quantize: str | None = None
) -> Model:
    """Returns a model.

    Args:
        name: "tiny", a KerasHub preset name or address, or a folder: a run of ours, a PEFT adapter
            (which names its base), a Hugging Face checkpoint or a Keras preset.
        precision: Dtype of activations and products, "float32" or "bfloat16".
        weights: Dtype in memory of the weights of a Hugging Face checkpoint; None: the precision. Weights that are to
            be trained need float32: small steps are lost in bfloat16.
        quantize: "int8" or "int4": keep the base weights in so few bits; they cannot be trained then, an adapter on
            them can. None: as they are, or as a run had them.

    Raises:
        ModelError: When nothing of that name can be loaded; the message says what was tried.
    """
    _check_backend()
    if quantize is not None:
        check_scheme(quantize)
    model = _load(str(name), precision, weights, quantize)
    if quantize is not None and model.quantized != quantize:
        model.widen()
        model.quantize(quantize)
    return model


def _load(text: str, precision: str, weights: str | None, quantize: str | None) -> Model:
    """Returns a model; quantised only where that can be done as its weights are read."""
    if text == "tiny":
        return Model(_tiny(), tiny_tokenizer(), name="tiny", precision=precision)
    folder = fetch(text) if text.startswith(SCHEME) else Path(text)
    if (folder / RECIPE).is_file():
        return _load_run(folder, precision)
    if (folder / CONFIG).is_file():
        return _load_peft(folder, text, precision)
    if text.lower().endswith(SUFFIX):
        loaded, tokenizer = load_gguf(folder, weights or precision, quantize)
        return Model(tokenizer=tokenizer, name=text, precision=precision, **loaded._asdict())
    if is_checkpoint(folder):
        return _load_checkpoint(folder, text, precision, weights or precision, quantize)
    if (folder / _PRESET_CONFIG).is_file():
        return _load_preset(str(folder), text, precision)
    if text.startswith(_SCHEMES) or text in preset_names():
        return _load_preset(text, text, precision)
    if folder.exists():
        raise ModelError(
            f"{text}: expected a run folder (with {RECIPE}), a PEFT adapter (with {CONFIG}), or a Hugging Face "
            f"checkpoint or Keras preset (with {_PRESET_CONFIG}), found none of them"
        )
    close = difflib.get_close_matches(text, ["tiny", *preset_names()], n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    raise ModelError(f"unknown model '{text}': {guess}there is no such folder either; `mmtune models` lists the names")


def preset_names() -> list[str]:
    """Returns the names of KerasHub's presets of the supported families, sorted."""
    return sorted(_presets())


def preset_metadata() -> dict[str, dict[str, Any]]:
    """Returns KerasHub's description of each preset by name."""
    return _presets()


def _presets() -> dict[str, dict[str, Any]]:
    import keras_hub

    classes = ("PaliGemmaBackbone", "GemmaBackbone", "Llama3Backbone")
    return {
        name: preset.get("metadata", {})
        for cls in classes
        for name, preset in getattr(keras_hub.models, cls).presets.items()
    }


def _tiny() -> Any:
    backbone = build_tiny()
    assign_weights(backbone.weights, tiny_weights_path())
    return backbone


def _load_run(folder: Path, precision: str) -> Model:
    from mmtune.recipe import read_recipe

    recipe = read_recipe(folder / RECIPE, {}, [])
    model = load(
        recipe.model, precision=precision, weights="float32" if recipe.full else None, quantize=recipe.quantize
    )
    if model.lora is not None:
        model.bake()
    if recipe.full:
        # A recipe tunes part of the weights; those that it kept frozen are the base's.
        assign_weights(model.backbone.weights, folder / TRAINED)
    else:
        load_adapter(model.add_lora(recipe.lora, recipe.seed), folder / ADAPTER)
    model.spec = recipe.pictures.applied(model.spec)
    model.name = str(folder)
    model.setup = setup_of(recipe)
    return model


def setup_of(recipe: "Recipe") -> Setup:
    """Returns what a model was taught by a finished run's recipe."""
    return Setup(recipe.task, recipe.classes, dict(recipe.options), recipe.max_tokens or 0)


def _check_backend() -> None:
    backend = os.environ.get("KERAS_BACKEND", "jax")
    if backend == "jax":
        import keras

        backend = keras.backend.backend()  # whoever imported Keras first may have chosen another one
    if backend != "jax":
        raise ModelError(f"Keras is set to run on {backend}, mmtune needs JAX: set KERAS_BACKEND=jax")


def _load_peft(folder: Path, name: str, precision: str) -> Model:
    config = read_config(folder)
    base = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base or Path(base).resolve() == folder.resolve():
        raise ModelError(f"{folder / CONFIG}: base_model_name_or_path does not say which model the adapter belongs to")
    # PEFT writes the names of the hub without a scheme.
    on_hub = base.count("/") == 1 and "://" not in base and not Path(base).exists()
    model = load(f"{SCHEME}{base}" if on_hub else base, precision=precision)
    if model.lora is not None:
        model.bake()
    load_adapter(model.add_lora(config), adapter_file(folder))
    model.name = name
    return model


def _load_checkpoint(folder: Path, name: str, precision: str, weights: str, quantize: str | None) -> Model:
    from mmtune.models.hf_tokenizer import read_tokenizer

    tokenizer = read_tokenizer(folder)
    ours = (folder / QUANTIZED).is_file()
    loaded = load_quantized(folder, weights) if ours else load_checkpoint(folder, weights, quantize)
    spec = loaded.spec
    if tokenizer.vocabulary_size > spec.text.vocabulary_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.vocabulary_size} tokens, the model embeddings for "
            f"{spec.text.vocabulary_size}: they do not belong together"
        )
    return Model(tokenizer=tokenizer, name=name, precision=precision, **loaded._asdict())


def _load_preset(place: str, name: str, precision: str) -> Model:
    import keras_hub

    try:
        backbone = keras_hub.models.Backbone.from_preset(place)
        read_spec(backbone)
        proto = _vocabulary(place)
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{name}: the preset cannot be loaded: {reason}") from error
    return Model(backbone, SentencePieceTokenizer(proto), name=name, precision=precision)


def _vocabulary(name: str) -> bytes:
    local = Path(name) / _VOCABULARY
    if local.is_file():
        return local.read_bytes()
    from keras_hub.src.utils.preset_utils import get_file

    return Path(get_file(name, _VOCABULARY)).read_bytes()


def assign_weights(variables: list[Any], file: Path) -> None:
    """Fills the variables that a safetensors file names by path; others keep their values.

    Raises:
        ModelError: When the file is missing, broken, or names a variable that is not there or of another shape.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(f"{file}: no such weights file; the run may not have ended (resume it with --resume)")
    by_path = {variable.path: variable for variable in variables}
    try:
        with safe_open(file, "numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safetensors' handle is no mapping
                if key not in by_path:
                    raise ModelError(f"{file}: the weight {key} belongs to no variable of this model")
                value = tensors.get_tensor(key)
                if value.shape != tuple(by_path[key].shape):
                    raise ModelError(f"{file}: {key} has shape {value.shape}, expected {tuple(by_path[key].shape)}")
                by_path[key].assign(value)
    except SafetensorError as error:
        raise ModelError(f"{file}: no readable safetensors file: {error}") from error
