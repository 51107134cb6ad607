"""From a name to a model: `tiny`, a run folder, a Hugging Face checkpoint, a KerasHub preset by name or folder."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import ModelError, UsageError
from mmtune.model import Model, Setup
from mmtune.models.config_files import read_object
from mmtune.models.fingerprint import check_base
from mmtune.models.folder_files import ADAPTER_CONFIG as CONFIG
from mmtune.models.folder_files import CONFIG as CHECKPOINT
from mmtune.models.folder_files import PRESET_ASSETS, QUANTIZED
from mmtune.models.gguf_files import SUFFIX, GgufFile
from mmtune.models.hf_config import is_checkpoint
from mmtune.models.hf_config import read_config as read_checkpoint_config
from mmtune.models.hf_load import load_checkpoint, load_gguf
from mmtune.models.hf_tokenizer import check_placeholder, fitted_tokenizer, read_tokenizer, vocabulary_file
from mmtune.models.hub import SCHEME, fetch
from mmtune.models.packed_copies import full_name, packed_sentence, packing
from mmtune.models.peft_fields import merging
from mmtune.models.peft_files import adapter_file, base_name, load_adapter, read_config
from mmtune.models.preset_load import load_preset, read_preset
from mmtune.models.preset_tokenizer import read_preset_tokenizer
from mmtune.models.quantized_files import load_quantized
from mmtune.models.quantized_tree import check_scheme
from mmtune.models.replaced import replace_weights
from mmtune.models.safetensor_files import TensorFiles
from mmtune.models.tiny import empty_tiny, tiny_tokenizer, tiny_weights_path
from mmtune.run_files import ADAPTER, RECIPE, TRAINED

if TYPE_CHECKING:
    from mmtune.recipe import Recipe

_SCHEMES = ("kaggle://", "modelscope://", "gs://")


def load(
    name: str | Path,
    *,
    precision: str | None = None,
    weights: str | None = None,
    quantize: str | None = None,
    bases: Mapping[str, Model] | None = None,
    base: str | Path | None = None,
    force_base: bool = False,
) -> Model:
    """Returns a model.

    Args:
        name: "tiny", a KerasHub preset name or address, or a folder: a run of ours, a PEFT adapter
            (which names its base), a Hugging Face checkpoint or a Keras preset.
        precision: Dtype of activations and products, "float32" or "bfloat16"; None: that of a run's training, float32
            for anything else.
        weights: Dtype in memory of the weights of a Hugging Face checkpoint; None: the precision, or what an adapter's
            run was trained on where no precision is given. What a run trained in full is in float32.
        quantize: "int8" or "int4": keep the base weights in so few bits; they cannot be trained then, an adapter on
            them can. None: as they are, or as a run had them.
        bases: Models that are loaded already, by name. An adapter on one of them is put on its very weights
            (`Model.bare`), so that adapters of one base take its time and memory once.
        base: Name of the model that a run or an adapter is put on; None: the one that it names itself.
        force_base: Put it on its base even where the fingerprint that it records says that this is another model.

    Raises:
        ModelError: When nothing of that name can be loaded; the message says what was tried. When the base is not the
            model that the run or the adapter was trained on.
    """
    _check_backend()
    if quantize is not None:
        check_scheme(quantize)
    ground = Ground(None if base is None else str(base), force_base)
    if quantize is None and (recipe := adapted(name, ground.name)) is not None and recipe.model in (bases or {}):
        shared, chosen = (bases or {})[recipe.model], precision or recipe.precision
        as_trained = precision is None and weights is None and recipe.weights is not None
        same = shared.dtype == recipe.weights if as_trained else shared.precision == chosen
        if shared.lora is None and shared.quantized is None and same and weights in (None, shared.dtype):
            return _on_base(Path(name), shared, recipe, chosen, ground)
    return _load(str(name), precision, weights, quantize, (), ground)


@dataclass(frozen=True)
class Ground:
    """What the user says about the base of a run or an adapter.

    Attributes:
        name: The model to take for it; None: what the run or the adapter says.
        force: Whether it may be another one than it was trained on.
    """

    name: str | None = None
    force: bool = False


def _load(
    text: str,
    precision: str | None,
    weights: str | None,
    quantize: str | None,
    above: tuple[Path, ...],
    ground: Ground,
) -> Model:
    """`load`; `above` are the folders whose base is asked for."""
    model = _found(text, precision, weights, quantize, above, ground)
    if quantize is not None and model.quantized != quantize:  # it could not be done as the weights were read
        model.widen()
        model.quantize(quantize)
    model.known_as(model.name)
    return model


def _found(
    text: str, given: str | None, weights: str | None, quantize: str | None, above: tuple[Path, ...], ground: Ground
) -> Model:
    precision = given or "float32"
    folder = _fetched(text) if text.startswith(SCHEME) else Path(text)
    if folder.resolve() in above:
        raise ModelError(f"{text} is based on itself: there is no model at the bottom")
    if text != "tiny" and (folder / RECIPE).is_file():
        return _load_run(folder, given, weights, above, ground)
    if text != "tiny" and (folder / CONFIG).is_file():
        return _load_peft(folder, text, given, weights, above, ground)
    if ground.name is not None:
        raise UsageError(f"{text} is a model of its own, neither a run nor an adapter: leave out base (--base)")
    if text == "tiny":
        return Model(_tiny(), tiny_tokenizer(), name="tiny", precision=precision)
    if text.lower().endswith(SUFFIX):
        loaded, tokenizer = load_gguf(folder, weights or precision, quantize)
        tokenizer = fitted_tokenizer(tokenizer, loaded.spec.text.vocabulary_size, folder)
        bits = GgufFile(folder).bits
        return Model(tokenizer=tokenizer, name=text, precision=precision, bits=bits, **loaded._asdict())
    if is_checkpoint(folder):
        return _load_checkpoint(folder, text, precision, weights or precision, quantize)
    if (folder / CHECKPOINT).is_file():
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
    marks = (RECIPE, CONFIG, CHECKPOINT)
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
            f"checkpoint or Keras preset (with {CHECKPOINT}), found none of them"
        )
    close = difflib.get_close_matches(text, ["tiny", *preset_names()], n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return ModelError(f"unknown model '{text}': {guess}there is no such folder either; `mmtune models` lists the names")


def _fetched(address: str) -> Path:
    """Returns the folder of a model of the hub. What cannot be read fails before its weights are downloaded."""
    folder = fetch(address, weights=False)
    if is_checkpoint(folder):
        read_checkpoint_config(folder, has_head=False)
        read_tokenizer(folder)
    elif (folder / CHECKPOINT).is_file():
        read_preset(str(folder))
        read_preset_tokenizer(str(folder))
    return fetch(address)


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


def adapted(name: str | Path, base: str | None = None) -> "Recipe | None":
    """Returns the recipe of a run of ours that only puts an adapter on its base's weights, None for anything else.

    Args:
        name: As for `load`.
        base: The base that the user names, which then stands in the recipe; None: what the run says.
    """
    from mmtune.recipe import read_recipe

    if not (Path(name) / RECIPE).is_file():
        return None
    recipe = read_recipe(Path(name) / RECIPE, {}, [])
    if recipe.full or recipe.quantize or (base is None and recipe.base is not None):
        return None
    return recipe if base is None else replace(recipe, model=base, base=None)


def takes_base(name: str | Path) -> bool:
    """Whether a name is that of a run or an adapter, which stand on another model."""
    folder = fetch(str(name)) if str(name).startswith(SCHEME) else Path(name)
    return any((folder / file).is_file() for file in (RECIPE, CONFIG))


def _on_base(folder: Path, base: Model, recipe: "Recipe", precision: str, ground: Ground) -> Model:
    """Returns a run's adapter on the weights of a model that is loaded."""
    bare = base.bare()
    check_base(folder, bare.fingerprint(), ground.force)
    model = _with_adapter(bare, folder, recipe)
    model.precision = precision
    model.known_as(model.name)
    return model


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


def _load_run(
    folder: Path, precision: str | None, weights: str | None, above: tuple[Path, ...], ground: Ground
) -> Model:
    from mmtune.recipe import read_recipe

    recipe = read_recipe(folder / RECIPE, {}, [])
    if recipe.full:
        weights = recipe.weights or "float32"
    elif precision is None:
        weights = weights or recipe.weights
    base, below = (recipe.model, recipe.base) if ground.name is None else (ground.name, None)
    chosen = precision or recipe.precision
    model = _load_base(folder, RECIPE, base, chosen, weights, recipe.quantize, above, replace(ground, name=below))
    if recipe.full:
        if model.quantized:
            raise ModelError(f"{folder / RECIPE}: full, on a base in {model.quantized}, which cannot be: train it anew")
        model.cast("float32")  # as it was trained
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
    precision: str | None,
    weights: str | None,
    quantize: str | None,
    above: tuple[Path, ...],
    ground: Ground,
) -> Model:
    """Returns the model that a folder is put on, its own adapter a part of it.

    Args:
        folder: Of the run or the adapter.
        file: The file in it that names the base.
        base: The base's name.
        precision, weights, quantize, above: As for `_load`.
        ground: About the base's own base.
    """
    try:
        model = _load(base, precision, weights, quantize, (*above, folder.resolve()), ground)
    except ModelError as error:
        hint = "" if "--base" in str(error) else "; name another base by base= (--base MODEL)"
        raise ModelError(f"{folder / file}: its base cannot be loaded: {error}{hint}") from error
    if model.lora is not None:
        model.bake()
    check_base(folder, model.fingerprint(), ground.force)
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


def _load_peft(
    folder: Path, name: str, precision: str | None, weights: str | None, above: tuple[Path, ...], ground: Ground
) -> Model:
    config, base = read_config(folder), ground.name or base_name(folder)
    if base is None or (ground.name is None and Path(base).resolve() == folder.resolve()):
        raise ModelError(
            f"{folder / CONFIG}: base_model_name_or_path does not say which model the adapter belongs to: name it by "
            "base= (--base MODEL)"
        )
    if ground.name is None and full_name(base) is not None and not Path(base).exists():
        raise ModelError(
            f"{folder / CONFIG}: its base {packed_sentence(base)}: name the full model by base= (--base MODEL)"
        )
    model = _load_base(folder, CONFIG, base, precision, weights, None, above, replace(ground, name=None))
    model.bake()
    try:
        lora = model.add_lora(config)
    except ModelError as error:
        raise ModelError(f"{adapter_file(folder)}: {error}; {merging(folder)}") from error
    load_adapter(lora, adapter_file(folder), replaced=True)
    replace_weights(model, folder)
    model.name = name
    return model


def _load_checkpoint(folder: Path, name: str, precision: str, weights: str, quantize: str | None) -> Model:
    spec = read_checkpoint_config(folder, has_head=False)  # what is of no family is said before what it lacks
    if (method := packing(read_object(folder / CHECKPOINT))) is not None:
        raise ModelError(f"{packed_sentence(name, method)}: load the full model")
    tokenizer = read_tokenizer(folder, starts=spec.vision is not None)
    check_placeholder(tokenizer, folder)
    ours = (folder / QUANTIZED).is_file()
    loaded = load_quantized(folder, weights) if ours else load_checkpoint(folder, weights, quantize)
    tokenizer = fitted_tokenizer(tokenizer, loaded.spec.text.vocabulary_size, vocabulary_file(folder))
    return Model(tokenizer=tokenizer, name=name, precision=precision, **loaded._asdict())


def _load_preset(place: str, name: str, precision: str) -> Model:
    spec = read_preset(place)
    tokenizer = read_preset_tokenizer(place)
    # Before any weight is fetched.
    tokenizer = fitted_tokenizer(tokenizer, spec.text.vocabulary_size, f"{name}/{PRESET_ASSETS}")
    backbone, spec = load_preset(place, spec)
    return Model(backbone, tokenizer, name=name, precision=precision, spec=spec)


def assign_weights(variables: list[Any], file: Path) -> None:
    """Fills the variables that a safetensors file names by path; others keep their values.

    Raises:
        ModelError: When the file is missing, broken, or names a variable that is not there or of another shape.
    """
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file; the run may not have ended (resume it with --resume)")
    by_path = {variable.path: variable for variable in variables}
    tensors = TensorFiles(file)
    if not tensors:
        raise ModelError(f"{file}: expected weights, found none: nothing was trained")
    for name, place in tensors.items():
        if name not in by_path:
            raise ModelError(f"{file}: the weight {name} belongs to no variable of this model")
        if place.shape != tuple(by_path[name].shape):
            raise ModelError(f"{file}: {name} has shape {place.shape}, expected {tuple(by_path[name].shape)}")
    for name in tensors:
        by_path[name].assign(tensors.read(name))
