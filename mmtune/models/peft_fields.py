"""What each field of PEFT's adapter_config.json does to an adapter's numbers: honored, without effect, or refused."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import ModelError

_log = logging.getLogger(__name__)

HONORED = (
    *("peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora"),
    *("rank_pattern", "alpha_pattern", "bias", "modules_to_save", "init_lora_weights"),
)
"""Fields that are read; of the last only what leaves the base as it is."""

CHOOSING = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying")
"""Fields that choose what is adapted: the weights file holds just that."""

WITHOUT_EFFECT = (
    *("task_type", "inference_mode", "auto_mapping", "peft_version", "runtime_config", "qalora_group_size"),
    # Of the first values alone, which training replaces.
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    # Of layers that are no torch.nn.Linear, as those of the families here are.
    *("megatron_config", "megatron_core", "fan_in_fan_out"),
)
"""Fields that change nothing in the outputs of the families here."""

REFUSED = (
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "lora_bias", "monteclora_config"),
    *("target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora"),
    "velora_config",
)
"""Fields that make the result another one than LoRA's, rsLoRA's or DoRA's wherever they are set."""

# First values that leave the base as it is; the others put a part of it into the adapter.
_HARMLESS = (True, False, "gaussian", "orthogonal", "eva", "mica")


def check_fields(config: Mapping[str, Any], file: Path) -> None:
    """Raises a ModelError for fields that the forward pass here cannot honor; unknown ones are a notice in the log.

    Args:
        config: The content of `adapter_config.json`, of a LoRA.
        file: Its name.
    """
    if refused := [name for name in REFUSED if config.get(name)]:
        raise ModelError(
            f"{file}: expected plain LoRA, rsLoRA or DoRA; {', '.join(refused)} cannot be used: {merging(file.parent)}"
        )
    bias = config.get("bias", "none")
    if bias not in ("none", "all", "lora_only"):
        raise ModelError(f"{file}: expected bias none, all or lora_only, got bias = {str(bias)[:80]}")
    if (start := config.get("init_lora_weights", True)) not in _HARMLESS:
        raise ModelError(
            f"{file}: init_lora_weights = {str(start)[:80]} changes the base weights; save the adapter converted to "
            "plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )
    known = {*HONORED, *CHOOSING, *WITHOUT_EFFECT, *REFUSED}
    if unknown := sorted(name for name, value in config.items() if value and name not in known):
        _log.warning("%s: the fields %s are not known here and are ignored", file, ", ".join(unknown)[:200])


def merging(folder: Path) -> str:
    """Returns how an adapter that cannot be loaded becomes a model that can."""
    return (
        "merge it in PEFT, where that is possible, and load the result with the base's tokenizer beside it "
        f'(PeftModel.from_pretrained(base, "{folder}").merge_and_unload().save_pretrained("merged"))'
    )
