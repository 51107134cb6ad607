"""Small random models and adapters on every linear module of them."""

import numpy as np
from backbones import make

from mmtune.models.lora import LoraWeights
from mmtune.models.lora_config import DECODER_MODULES, LoRA
from mmtune.models.spec import read_spec
from mmtune.models.weights import model_variables

FAMILIES = ["paligemma2", "gemma2", "llama3"]
RANK, ALPHA = 4, 6.0


def config(family="llama3", **options):
    """An adapter on every linear module there is."""
    everywhere = (
        (*DECODER_MODULES, "out_proj", "fc1", "fc2", "linear") if family.startswith("pali") else DECODER_MODULES
    )
    return LoRA(**({"rank": RANK, "alpha": ALPHA, "targets": everywhere, "vision": True} | options))


def small(family):
    """Two decoder layers, one with and one without a window in Gemma 2; one vision layer."""
    return make(family, num_layers=2, **({"vit_num_layers": 1} if family.startswith("pali") else {}))


def make_lora(backbone, options, seed=0):
    return LoraWeights(options, read_spec(backbone), model_variables(backbone), seed)


def randomise(lora, seed=3):
    """Random weights, large enough that a module without its adapter, or with another scale, is noticed."""
    rng = np.random.default_rng(seed)
    for weights in lora.table.values():
        weights["a"].assign(rng.normal(0, 0.3, weights["a"].shape))
        weights["b"].assign(rng.normal(0, 0.1, weights["b"].shape))
        if "magnitude" in weights:
            weights["magnitude"].assign(
                np.asarray(weights["magnitude"]) * rng.uniform(0.5, 1.5, weights["magnitude"].shape)
            )
    return lora
