"""Adapters on disk: safetensors under PEFT's names, with PEFT's adapter_config.json beside them."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.distributed.processes import fetch_global_array, is_main_process
from mmtune.errors import ModelError, RecipeError
from mmtune.files import atomic, save_tensors
from mmtune.models.folder_files import ADAPTER_CONFIG as CONFIG
from mmtune.models.folder_files import ADAPTER_WEIGHTS as WEIGHTS
from mmtune.models.hub import SCHEME
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import LoRA, by_pattern, pattern_problems
from mmtune.models.modules import current_path
from mmtune.models.peft_fields import check_fields, merging
from mmtune.models.pickles import pickle_sentence
from mmtune.models.safetensor_files import TensorFiles
from mmtune.settings import build

PREFIX = "base_model.model."
_LONGEST_NAME = 1000
_PATH = re.compile(r"[\w.]+")
_SUFFIX = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def save_adapter(lora: LoraWeights, file: Path, base: str, revision: str | None = None) -> None:
    """Writes an adapter and its configuration.

    Args:
        lora: The adapter.
        file: The safetensors file; `adapter_config.json` is written beside it.
        base: Name of the base model, for whoever loads the adapter.
        revision: Of the base on the hub; None: its main one.
    """
    tensors = {}
    for path, weights in lora.table.items():
        for name, variable in weights.items():
            value = fetch_global_array(variable.value)
            tensors[f"{PREFIX}{path}.{_SUFFIX[name]}"] = np.ascontiguousarray(value.T)  # PEFT keeps (outputs, inputs)
    if not is_main_process():
        return
    save_tensors(tensors, file, {"format": "pt"})
    with atomic(file.with_name(CONFIG)) as temporary:
        temporary.write_text(json.dumps(_peft_config(lora, base, revision), indent=2) + "\n")


def load_adapter(lora: LoraWeights, file: Path, replaced: bool = False) -> None:
    """Fills an adapter from a safetensors file; when it does not fit, no weight is touched.

    Module names of earlier transformers versions are understood.

    Args:
        lora: The adapter.
        file: The file.
        replaced: Whether it may hold whole weights too, which `mmtune.models.replaced` puts into the base.

    Raises:
        ModelError: When the file is missing, broken, or its tensors are not exactly this adapter's.
    """
    tensors = {_current_name(name): value for name, value in _read(file, replaced).items()}
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
        kind, rank, alpha = config["peft_type"], config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{file}: expected a PEFT configuration of a LoRA adapter: {reason}") from error
    if kind != "LORA":
        raise ModelError(f"{file}: expected peft_type LORA, got {str(kind)[:80]}")
    check_fields(config, file)
    weights = adapter_file(folder)
    tensors = TensorFiles(weights)
    spelled = {_module(name, weights): name.removeprefix(PREFIX) for name in tensors if is_low_rank(name)}
    ranks, alphas = _patterns(config, "rank_pattern", int, file), _patterns(config, "alpha_pattern", float, file)
    try:
        lora = build(
            LoRA,
            {
                "rank": rank,
                "alpha": alpha,
                "dropout": config.get("lora_dropout", 0.0),
                "rslora": config.get("use_rslora", False),
                "dora": config.get("use_dora", False),
                "targets": sorted(spelled),
                "vision": True,
                "rank_pattern": _of_modules(ranks, spelled),
                "alpha_pattern": _of_modules(alphas, spelled),
            },
            "lora.",
        )
    except RecipeError as error:
        raise ModelError(f"{file}: {'; '.join(error.problems)}") from error
    if problems := lora.problems():
        raise ModelError(f"{file}: {'; '.join(problems)}")
    # Before anything of that rank is made.
    for name, place in tensors.items():
        axis = {_SUFFIX["a"]: 0, _SUFFIX["b"]: 1}.get(".".join(name.split(".")[-2:]))
        if axis is None or not is_low_rank(name):
            continue
        rank = lora.rank_of(_module(name, weights))
        if len(place.shape) != 2 or place.shape[axis] != rank:
            wanted = f"({rank}, ...)" if axis == 0 else f"(..., {rank})"
            raise ModelError(f"{weights}: {name} has shape {place.shape}, expected {wanted} as {CONFIG} says")
    return lora


def _patterns(config: Mapping[str, Any], name: str, kind: type[int] | type[float], file: Path) -> dict[str, Any]:
    """Returns a field of the configuration that maps patterns to numbers.

    Raises:
        ModelError: When it is none.
    """
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{file}: {name}: expected an object of patterns and numbers, got {str(found)[:80]}")
    if problems := pattern_problems(name, found, kind):
        raise ModelError(f"{file}: {'; '.join(problems)}")
    return found


def _of_modules(patterns: Mapping[str, Any], spelled: Mapping[str, str]) -> dict[str, Any]:
    """Returns the numbers of the modules that patterns match, by path.

    Args:
        patterns: Made for module names as the weights file spells them, which may be those of an earlier version.
        spelled: For each module's path the name of one of its tensors in that file.
    """
    found = {}
    for path, tensor in spelled.items():
        suffix = next(suffix for suffix in _SUFFIX.values() if tensor.endswith(f".{suffix}"))
        value = by_pattern(patterns, tensor.removesuffix(f".{suffix}"), None)
        if value is not None:
            found[path] = value
    return found


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


def _peft_config(lora: LoraWeights, base: str, revision: str | None) -> dict[str, Any]:
    config = lora.config
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        **({} if revision is None else {"revision": revision}),
        "r": config.rank,
        "lora_alpha": config.effective_alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "target_modules": list(lora.table),
        "rank_pattern": {path: rank for path in lora.table if (rank := config.rank_of(path)) != config.rank},
        "alpha_pattern": {
            path: alpha for path in lora.table if (alpha := config.alpha_of(path)) != config.effective_alpha
        },
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
    raise ModelError(
        f"{file}: the tensor {name} is no part of a LoRA adapter on linear modules: {merging(file.parent)}"
    )


def is_low_rank(name: str) -> bool:
    """Whether a tensor's name is no whole weight of a model, as a weight or bias of PEFT's file else is."""
    return "lora_" in name or not (name.startswith(PREFIX) and name.endswith((".weight", ".bias")))


def _read(file: Path, replaced: bool) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise ModelError(f"{file}: no such adapter file")
    tensors = TensorFiles(file)
    return {name: tensors.read(name) for name in tensors if is_low_rank(name) or not replaced}
