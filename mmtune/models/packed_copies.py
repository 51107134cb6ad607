"""Checkpoints whose weights bitsandbytes or its like has packed: they cannot be read, and stand for another model."""

import re
from collections.abc import Mapping
from typing import Any

# unsloth/gemma-2-2b-bnb-4bit, unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit
_COPY = re.compile(r"(?i)(.+?)(?:-unsloth)?-bnb-[48]bit(@.*)?")


def full_name(name: str) -> str | None:
    """Returns the model that a packed copy stands for by its name, a guess; None where it is no such name.

    >>> full_name("hf://unsloth/gemma-2-2b-it-unsloth-bnb-4bit")
    'hf://unsloth/gemma-2-2b-it'
    """
    match = _COPY.fullmatch(name.rstrip("/"))
    return match[1] if match else None


def packed_sentence(name: str, method: str = "bitsandbytes") -> str:
    """Returns what to say of a copy that cannot be read."""
    guess = full_name(name)
    said = f"{name} holds weights packed by {method}, which cannot be read here"
    return f"{said}; by its name it stands for {guess} (a guess)" if guess else said


def packing(config: Mapping[str, Any]) -> str | None:
    """Returns what has packed a checkpoint's weights, as its `config.json` says; None: nothing."""
    found = config.get("quantization_config")
    if not found:
        return None
    return str(found.get("quant_method", "bitsandbytes"))[:80] if isinstance(found, Mapping) else "another library"
