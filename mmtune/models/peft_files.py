"""Adapters on disk: safetensors under PEFT's names, with PEFT's adapter_config.json beside them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError, RecipeError
from mmtune.files import atomic, save_tensors
from mmtune.hosts import is_first, whole
from mmtune.models.hub import SCHEME
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import LoRA
from mmtune.models.modules import current_path
from mmtune.models.pickles import pickle_sentence
from mmtune.models.safetensor_files import TensorFiles
from mmtune.settings import build

CONFIG = "adapter_config.json"
# What a run writes, and what PEFT writes.
WEIGHTS = ("adapter.safetensors", "adapter_model.safetensors")
"""Names of an adapter's file: in our runs, and PEFT's."""
PREFIX = "base_model.model."
_LONGEST_NAME = 1000
_PATH = re.compile(r"[\w.]+")
_SUFFIX = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
# Fields of PEFT's configuration that make its result another one than LoRA's, rsLoRA's or DoRA's wherever they are set.
_FOREIGN = (
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "fan_in_fan_out", "kasa_config", "layer_replication"),
    *("lora_bias", "modules_to_save", "monteclora_config", "rank_pattern", "target_parameters"),
    *("trainable_token_indices", "use_bdlora", "use_qalora"),
)
# Initialisations that leave the base as it is; the others put a part of it into the adapter.
_HARMLESS = (True, False, "gaussian", "orthogonal", "eva")


def save_adapter(lora: LoraWeights, file: Path, base: str) -> None:
    """Writes an adapter and its configuration.

    Args:
        lora: The adapter.
        file: The safetensors file; `adapter_config.json` is written beside it.
        base: Name of the base model, for whoever loads the adapter.
    """
    tensors = {}
    for path, weights in lora.table.items():
        for name, variable in weights.items():
            value = whole(variable.value)
            tensors[f"{PREFIX}{path}.{_SUFFIX[name]}"] = np.ascontiguousarray(value.T)  # PEFT keeps (outputs, inputs)
    if not is_first():
        return
    save_tensors(tensors, file, {"format": "pt"})
    with atomic(file.with_name(CONFIG)) as temporary:
        temporary.write_text(json.dumps(_peft_config(lora, base), indent=2) + "\n")


def load_adapter(lora: LoraWeights, file: Path) -> None:
    """Fills an adapter from a safetensors file; when it does not fit, no weight is touched.

    Module names of earlier transformers versions are understood.

    Raises:
        ModelError: When the file is missing, broken, or its tensors are not exactly this adapter's.
    """
    tensors = {_current_name(name): value for name, value in _read(file).items()}
    expected = {
        f"{PREFIX}{path}.{_SUFFIX[name]}": variable
        for path, weights in lora.table.items()
        for name, variable in weights.items()
    }
    if missing := sorted(set(expected) - set(tensors)):
        raise ModelError(f"{file}: {len(missing)} tensors of the adapter are missing, the first is {missing[0]}")
    if extra := sorted(set(tensors) - set(expected)):
        raise ModelError(f"{file}: {len(extra)} tensors belong to no module of this adapter, the first is {extra[0]}")
    for name, variable in expected.items():
        wanted = tuple(variable.shape)[::-1]
        if tensors[name].shape != wanted:
            raise ModelError(f"{file}: {name} has shape {tensors[name].shape}, expected {wanted}")
    for name, variable in expected.items():
        variable.assign(tensors[name].T)


def adapter_file(folder: Path) -> Path:
    """Returns the safetensors file of a folder, a run's or PEFT's.

    Raises:
        ModelError: When there is none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if (sentence := pickle_sentence(folder, WEIGHTS[1], adapter=True)) is not None:
        raise ModelError(sentence)
    raise ModelError(f"{folder}: expected an adapter in {' or '.join(WEIGHTS)}, found neither")


def read_config(folder: Path) -> LoRA:
    """Returns the description of a PEFT folder's adapter.

    Its targets are the very modules that the weights file has tensors for: that covers every way in which PEFT's
    configuration can choose modules, and module names of earlier transformers versions.

    Raises:
        ModelError: When a file is missing or broken, or when the adapter is not LoRA, rsLoRA or DoRA.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_bytes())
        kind, bias, rank, alpha = config["peft_type"], config.get("bias", "none"), config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{file}: expected a PEFT configuration of a LoRA adapter: {reason}") from error
    if kind != "LORA":
        raise ModelError(f"{file}: expected peft_type LORA, got {str(kind)[:80]}")
    if bias != "none":
        raise ModelError(f"{file}: expected an adapter without trained biases, got bias = {str(bias)[:80]}")
    if foreign := [name for name in _FOREIGN if config.get(name)]:
        raise ModelError(f"{file}: expected plain LoRA, rsLoRA or DoRA; {', '.join(foreign)} cannot be used")
    if (start := config.get("init_lora_weights", True)) not in _HARMLESS:
        raise ModelError(
            f"{file}: init_lora_weights = {str(start)[:80]} changes the base weights; save the adapter converted to "
            "plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )
    weights = adapter_file(folder)
    tensors = TensorFiles(weights)
    modules = sorted({_module(name, weights) for name in tensors})
    try:
        lora = build(
            LoRA,
            {
                "rank": rank,
                "alpha": alpha,
                "dropout": config.get("lora_dropout", 0.0),
                "rslora": config.get("use_rslora", False),
                "dora": config.get("use_dora", False),
                "targets": modules,
                "vision": True,
            },
            "lora.",
        )
    except RecipeError as error:
        raise ModelError(f"{file}: {'; '.join(error.problems)}") from error
    if problems := lora.problems():
        raise ModelError(f"{file}: {'; '.join(problems)}")
    # Before anything of that rank is made.
    for name, place in tensors.items():
        if name.endswith(_SUFFIX["a"]) and place.shape[:1] != (lora.rank,):
            raise ModelError(f"{weights}: {name} has shape {place.shape}, expected ({lora.rank}, ...) as {CONFIG} says")
    return lora


def base_name(folder: Path) -> str | None:
    """Returns the base of a PEFT folder, whose configuration `read_config` accepts, as `load` takes it; None: none."""
    config = json.loads((folder / CONFIG).read_bytes())
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not 0 < len(base) <= _LONGEST_NAME or "\0" in base:
        return None
    try:
        os.fsencode(base)
    except UnicodeEncodeError:
        return None
    # PEFT writes the names of the hub without a scheme.
    if base.count("/") != 1 or "://" in base or Path(base).exists():
        return base
    return f"{SCHEME}{base}" + (f"@{revision}" if revision and isinstance(revision, str) else "")


def _peft_config(lora: LoraWeights, base: str) -> dict[str, Any]:
    config = lora.config
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.effective_alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "target_modules": list(lora.table),
        "bias": "none",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
    }


def _current_name(name: str) -> str:
    """Returns a tensor's name with its module's path as transformers 5 spells it."""
    return PREFIX + current_path(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else name


def _module(name: str, file: Path) -> str:
    for suffix in _SUFFIX.values():
        if name.startswith(PREFIX) and name.endswith(f".{suffix}"):
            path = current_path(name.removeprefix(PREFIX).removesuffix(f".{suffix}"))
            if _PATH.fullmatch(path):
                return path
    raise ModelError(f"{file}: the tensor {name} is no part of a LoRA adapter on linear modules")


def _read(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise ModelError(f"{file}: no such adapter file")
    tensors = TensorFiles(file)
    return {name: tensors.read(name) for name in tensors}
