"""Adapters on disk: safetensors under PEFT's names, with PEFT's adapter_config.json beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.files import atomic
from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import LoRA

PREFIX = "base_model.model."
_SUFFIX = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def save_adapter(lora: LoraWeights, file: Path, base: str) -> None:
    """Writes an adapter and its configuration.

    Args:
        lora: The adapter.
        file: The safetensors file; `adapter_config.json` is written beside it.
        base: Name of the base model, for whoever loads the adapter.
    """
    from safetensors.numpy import save_file

    tensors = {}
    for path, weights in lora.table.items():
        for name, variable in weights.items():
            value = np.asarray(variable)
            tensors[f"{PREFIX}{path}.{_SUFFIX[name]}"] = np.ascontiguousarray(value.T)  # PEFT keeps (outputs, inputs)
    with atomic(file) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    with atomic(file.with_name("adapter_config.json")) as temporary:
        temporary.write_text(json.dumps(_peft_config(lora, base), indent=2) + "\n")


def load_adapter(lora: LoraWeights, file: Path) -> None:
    """Fills an adapter from a safetensors file.

    Raises:
        ModelError: When the file is missing, broken, or its tensors are not exactly this adapter's.
    """
    tensors = _read(file)
    expected = {
        f"{PREFIX}{path}.{_SUFFIX[name]}": variable
        for path, weights in lora.table.items()
        for name, variable in weights.items()
    }
    if missing := sorted(set(expected) - set(tensors)):
        raise ModelError(f"{file}: {len(missing)} tensors of the adapter are missing, the first is {missing[0]}")
    if extra := sorted(set(tensors) - set(expected)):
        raise ModelError(f"{file}: {len(extra)} tensors belong to no module of this model, the first is {extra[0]}")
    for name, variable in expected.items():
        value = tensors[name].T
        if value.shape != tuple(variable.shape):
            raise ModelError(f"{file}: {name} has shape {value.T.shape}, expected {tuple(variable.shape)[::-1]}")
        variable.assign(value)


def read_config(folder: Path) -> LoRA:
    """Returns the description in a PEFT folder's `adapter_config.json`.

    Raises:
        ModelError: When the file is missing or asks for something that is not LoRA, rsLoRA or DoRA.
    """
    file = folder / "adapter_config.json"
    try:
        config = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}: expected a PEFT configuration: {error}") from error
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise ModelError(f"{file}: expected peft_type LORA without biases, got {config.get('peft_type')}")
    targets = config["target_modules"]
    return LoRA(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        rslora=config.get("use_rslora", False),
        dora=config.get("use_dora", False),
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        vision=True,
    )


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


def _read(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not file.is_file():
        raise ModelError(f"{file}: no such adapter file")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{file}: no readable safetensors file: {error}") from error
