"""From a name to a model: `tiny`, a run folder, a Hugging Face checkpoint, a KerasHub preset by name or folder."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import ModelError
from mmtune.model import Model, Setup
from mmtune.models.gguf_files import SUFFIX
from mmtune.models.hf_config import is_checkpoint
from mmtune.models.hf_config import read_config as read_checkpoint_config
from mmtune.models.hf_load import load_checkpoint, load_gguf
from mmtune.models.hf_tokenizer import check_tokenizer, read_tokenizer, vocabulary_file
from mmtune.models.hub import SCHEME, fetch
from mmtune.models.peft_files import CONFIG, adapter_file, base_name, load_adapter, read_config
from mmtune.models.preset_files import CONFIG as PRESET_CONFIG
from mmtune.models.preset_files import VOCABULARY, check_preset
from mmtune.models.quantized_files import FILE as QUANTIZED
from mmtune.models.quantized_files import load_quantized
from mmtune.models.quantized_tree import check_scheme
from mmtune.models.safetensor_files import TensorFiles
from mmtune.models.spec import ModelSpec, read_spec
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import empty_tiny, tiny_tokenizer, tiny_weights_path
from mmtune.models.tokenizer import Tokenizer
from mmtune.run_files import ADAPTER, RECIPE, TRAINED

if TYPE_CHECKING:
    from mmtune.recipe import Recipe

_SCHEMES = ("kaggle://", "modelscope://", "gs://")


def load(
    name: str | Path,
    *,
    precision: str = "float32",
    weights: str | None = None,
    quantize: str | None = None,
    bases: Mapping[str, Model] | None = None,
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
        bases: Models that are loaded already, by name. An adapter on one of them is put on its very weights
            (`Model.bare`), so that adapters of one base take its time and memory once.

    Raises:
        ModelError: When nothing of that name can be loaded; the message says what was tried.
    """
    _check_backend()
    if quantize is not None:
        check_scheme(quantize)
    base = (bases or {}).get(adapted(name) or "")
    if base is not None and base.lora is None and (base.precision, base.quantized) == (precision, quantize):
        return _on_base(Path(name), base)
    return _load(str(name), precision, weights, quantize, ())


def _load(text: str, precision: str, weights: str | None, quantize: str | None, above: tuple[Path, ...]) -> Model:
    """`load`; `above` are the folders whose base is asked for."""
    model = _found(text, precision, weights, quantize, above)
    if quantize is not None and model.quantized != quantize:  # it could not be done as the weights were read
        model.widen()
        model.quantize(quantize)
    return model


def _found(text: str, precision: str, weights: str | None, quantize: str | None, above: tuple[Path, ...]) -> Model:
    if text == "tiny":
        return Model(_tiny(), tiny_tokenizer(), name="tiny", precision=precision)
    folder = fetch(text) if text.startswith(SCHEME) else Path(text)
    if folder.resolve() in above:
        raise ModelError(f"{text} is based on itself: there is no model at the bottom")
    if (folder / RECIPE).is_file():
        return _load_run(folder, precision, above)
    if (folder / CONFIG).is_file():
        return _load_peft(folder, text, precision, above)
    if text.lower().endswith(SUFFIX):
        loaded, tokenizer = load_gguf(folder, weights or precision, quantize)
        return Model(tokenizer=tokenizer, name=text, precision=precision, **loaded._asdict())
    if is_checkpoint(folder):
        return _load_checkpoint(folder, text, precision, weights or precision, quantize)
    if (folder / PRESET_CONFIG).is_file():
        check_preset(folder)
        return _load_preset(str(folder), text, precision)
    if text.startswith(_SCHEMES) or text in preset_names():
        return _load_preset(text, text, precision)
    raise _unknown(text, folder)


def check_name(name: str) -> None:
    """Refuses a name that `load` would not know. No weights are read and nothing is downloaded.

    Raises:
        ModelError: As `load` raises it. Addresses with a scheme pass: they are looked up when they are loaded.
    """
    if name == "tiny" or name.startswith((SCHEME, *_SCHEMES)):
        return
    folder = Path(name)
    marks = (RECIPE, CONFIG, PRESET_CONFIG)
    known = any((folder / mark).is_file() for mark in marks) or is_checkpoint(folder)
    if not (known or (name.lower().endswith(SUFFIX) and folder.is_file()) or name in preset_names()):
        raise _unknown(name, folder)


def _unknown(text: str, folder: Path) -> ModelError:
    """Returns the error of a name by which no model is found."""
    if folder.is_file():
        return ModelError(
            f"{text}: expected the folder of a model or a {SUFFIX} file, found another file: name its folder"
        )
    if folder.exists():
        return ModelError(
            f"{text}: expected a run folder (with {RECIPE}), a PEFT adapter (with {CONFIG}), or a Hugging Face "
            f"checkpoint or Keras preset (with {PRESET_CONFIG}), found none of them"
        )
    close = difflib.get_close_matches(text, ["tiny", *preset_names()], n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return ModelError(f"unknown model '{text}': {guess}there is no such folder either; `mmtune models` lists the names")


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


def adapted(name: str | Path) -> str | None:
    """Returns the name of the base whose weights a run of ours only puts an adapter on, None for anything else."""
    from mmtune.recipe import read_recipe

    if not (Path(name) / RECIPE).is_file():
        return None
    recipe = read_recipe(Path(name) / RECIPE, {}, [])
    return None if recipe.full or recipe.quantize else recipe.model


def _on_base(folder: Path, base: Model) -> Model:
    """Returns a run's adapter on the weights of a model that is loaded."""
    from mmtune.recipe import read_recipe

    return _with_adapter(base.bare(), folder, read_recipe(folder / RECIPE, {}, []))


def _with_adapter(model: Model, folder: Path, recipe: "Recipe") -> Model:
    load_adapter(model.add_lora(recipe.lora, recipe.seed), folder / ADAPTER)
    return _as_run(model, folder, recipe)


def _as_run(model: Model, folder: Path, recipe: "Recipe") -> Model:
    model.spec = recipe.pictures.applied(model.spec)
    model.name = str(folder)
    model.setup = setup_of(recipe)
    return model


def _tiny() -> Any:
    backbone = empty_tiny()
    assign_weights(backbone.weights, tiny_weights_path())
    return backbone


def _load_run(folder: Path, precision: str, above: tuple[Path, ...]) -> Model:
    from mmtune.recipe import read_recipe

    recipe = read_recipe(folder / RECIPE, {}, [])
    weights = "float32" if recipe.full else None
    model = _load_base(folder, RECIPE, recipe.model, precision, weights, recipe.quantize, above)
    if model.lora is not None:
        model.bake()
    if not recipe.full:
        return _with_adapter(model, folder, recipe)
    # A recipe tunes part of the weights; those that it kept frozen are the base's.
    assign_weights(model.backbone.weights, folder / TRAINED)
    return _as_run(model, folder, recipe)


def _load_base(
    folder: Path,
    file: str,
    base: str,
    precision: str,
    weights: str | None,
    quantize: str | None,
    above: tuple[Path, ...],
) -> Model:
    """Returns the model that a folder's file calls its base."""
    try:
        return _load(base, precision, weights, quantize, (*above, folder.resolve()))
    except ModelError as error:
        raise ModelError(f"{folder / file}: its base cannot be loaded: {error}") from error


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


def _load_peft(folder: Path, name: str, precision: str, above: tuple[Path, ...]) -> Model:
    config, base = read_config(folder), base_name(folder)
    if base is None or Path(base).resolve() == folder.resolve():
        raise ModelError(f"{folder / CONFIG}: base_model_name_or_path does not say which model the adapter belongs to")
    # PEFT writes the names of the hub without a scheme.
    on_hub = base.count("/") == 1 and "://" not in base and not Path(base).exists()
    model = _load_base(folder, CONFIG, f"{SCHEME}{base}" if on_hub else base, precision, None, None, above)
    if model.lora is not None:
        model.bake()
    try:
        lora = model.add_lora(config)
    except ModelError as error:
        raise ModelError(f"{adapter_file(folder)}: {error}") from error
    load_adapter(lora, adapter_file(folder))
    model.name = name
    return model


def _load_checkpoint(folder: Path, name: str, precision: str, weights: str, quantize: str | None) -> Model:
    read_checkpoint_config(folder, has_head=False)  # what is of no family is said before what it lacks
    tokenizer = read_tokenizer(folder)
    ours = (folder / QUANTIZED).is_file()
    loaded = load_quantized(folder, weights) if ours else load_checkpoint(folder, weights, quantize)
    _check_vocabulary(tokenizer, loaded.spec, vocabulary_file(folder))
    return Model(tokenizer=tokenizer, name=name, precision=precision, **loaded._asdict())


def _check_vocabulary(tokenizer: Tokenizer, spec: ModelSpec, place: str | Path) -> None:
    if tokenizer.vocabulary_size > spec.text.vocabulary_size:
        raise ModelError(
            f"{place}: the tokenizer has {tokenizer.vocabulary_size} tokens, the model embeddings for "
            f"{spec.text.vocabulary_size}: they do not belong together"
        )


def _load_preset(place: str, name: str, precision: str) -> Model:
    import keras_hub

    try:
        backbone = keras_hub.models.Backbone.from_preset(place)
        spec = read_spec(backbone)
        proto = _vocabulary(place)
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{name}: the preset cannot be loaded: {reason}") from error
    tokenizer = SentencePieceTokenizer(proto)
    check_tokenizer(tokenizer, f"{name}/{VOCABULARY}")
    _check_vocabulary(tokenizer, spec, f"{name}/{VOCABULARY}")
    return Model(backbone, tokenizer, name=name, precision=precision)


def _vocabulary(name: str) -> bytes:
    local = Path(name) / VOCABULARY
    if local.is_file():
        return local.read_bytes()
    if Path(name).is_dir():
        raise ModelError(f"{local}: there is no such file: a model needs its vocabulary")
    from keras_hub.src.utils.preset_utils import get_file

    return Path(get_file(name, VOCABULARY)).read_bytes()


def assign_weights(variables: list[Any], file: Path) -> None:
    """Fills the variables that a safetensors file names by path; others keep their values.

    Raises:
        ModelError: When the file is missing, broken, or names a variable that is not there or of another shape.
    """
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file; the run may not have ended (resume it with --resume)")
    by_path = {variable.path: variable for variable in variables}
    tensors = TensorFiles(file)
    for name, place in tensors.items():
        if name not in by_path:
            raise ModelError(f"{file}: the weight {name} belongs to no variable of this model")
        if place.shape != tuple(by_path[name].shape):
            raise ModelError(f"{file}: {name} has shape {place.shape}, expected {tuple(by_path[name].shape)}")
    for name in tensors:
        by_path[name].assign(tensors.read(name))
