"""Fine-tune, evaluate and show PaliGemma and Gemma 2 on your own data.

Names resolve on first use: the import is light.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from mmtune.allocator import tune_malloc
from mmtune.compiled import keep_programs

# Keras reads its backend once, at its first import; mmtune's forward pass is written in JAX.
os.environ.setdefault("KERAS_BACKEND", "jax")
# Here because both come too late once JAX is imported.
tune_malloc()
keep_programs()

if TYPE_CHECKING:
    from mmtune.api import Evaluation, Run, evaluate, load, read, train
    from mmtune.comparing import Comparison, compare
    from mmtune.data.augment import Augment
    from mmtune.decoding.sampling import Sampler
    from mmtune.models.lora_config import LoRA
    from mmtune.recipe import Recipe
    from mmtune.reporting import report
    from mmtune.sharding.mesh import distribution

__version__ = "0.1.0"

_HOMES = {
    "Augment": "mmtune.data.augment",
    "Comparison": "mmtune.comparing",
    "Evaluation": "mmtune.api",
    "LoRA": "mmtune.models.lora_config",
    "Recipe": "mmtune.recipe",
    "Run": "mmtune.api",
    "Sampler": "mmtune.decoding.sampling",
    "compare": "mmtune.comparing",
    "distribution": "mmtune.sharding.mesh",
    "evaluate": "mmtune.api",
    "load": "mmtune.api",
    "read": "mmtune.api",
    "report": "mmtune.reporting",
    "train": "mmtune.api",
}

__all__ = [
    "Augment",
    "Comparison",
    "Evaluation",
    "LoRA",
    "Recipe",
    "Run",
    "Sampler",
    "compare",
    "distribution",
    "evaluate",
    "load",
    "read",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mmtune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
