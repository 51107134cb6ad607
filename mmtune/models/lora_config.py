"""What an adapter looks like. Light: recipes and the command line build it without JAX."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune.settings import number_problems

# Every linear module of the decoder, PEFT's names.
DECODER_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adaptation (arXiv 2106.09685), with PEFT's conventions.

    Attributes:
        rank: Width of the bottleneck.
        alpha: The product is scaled by alpha / rank; None: 2 * rank.
        dropout: Rate on the adapter's input during training.
        rslora: Scale by alpha / sqrt(rank) instead (arXiv 2312.03732).
        dora: Learn each output's length apart from its direction (arXiv 2402.09353).
        targets: Module names ("q_proj") or regular expressions matched against the whole module path
            ("model.language_model.layers.[0-3].self_attn.q_proj").
        vision: Whether plain names match in the vision tower and projector as well as in the decoder.
        rank_pattern: Ranks of modules that have another one, by regular expressions that match the end of a module's
            path ("down_proj", "layers.0.mlp.up_proj"); the first that matches counts, as in PEFT.
        alpha_pattern: The same for alpha.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = DECODER_MODULES
    vision: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    @property
    def effective_alpha(self) -> float:
        """Alpha with its default filled in."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def scale(self) -> float:
        """What `A @ B` is multiplied by."""
        return self.effective_alpha / (self.rank**0.5 if self.rslora else self.rank)

    def rank_of(self, path: str) -> int:
        """The rank of a module."""
        return by_pattern(self.rank_pattern, path, self.rank)

    def alpha_of(self, path: str) -> float:
        """The alpha of a module; where none was given it stays 2 * `rank`, whatever the module's own rank is."""
        return by_pattern(self.alpha_pattern, path, self.effective_alpha)

    def scale_of(self, path: str) -> float:
        """What `A @ B` of a module is multiplied by."""
        rank = self.rank_of(path)
        return self.alpha_of(path) / (rank**0.5 if self.rslora else rank)

    def problems(self) -> list[str]:
        """Returns what is wrong with the values, a sentence each."""
        found = number_problems(self, "lora.")
        if self.rank < 1:
            found.append(f"lora.rank: expected a whole number from 1, got {self.rank}")
        if self.alpha is not None and self.alpha <= 0:
            found.append(f"lora.alpha: expected a number above 0, got {self.alpha}")
        if self.dropout < 0 or self.dropout >= 1:
            found.append(f"lora.dropout: expected a rate in 0..1 (1 excluded), got {self.dropout}")
        if not self.targets:
            found.append("lora.targets: expected at least one module name or pattern, got none")
        return (
            found
            + pattern_problems("rank_pattern", self.rank_pattern, int)
            + pattern_problems("alpha_pattern", self.alpha_pattern, float)
        )


def by_pattern(patterns: Mapping[str, Any], path: str, default: Any) -> Any:
    """Returns the value of the first pattern that matches a module's path from a dot, or its start, to its end."""
    return next((value for key, value in patterns.items() if re.match(_whole(key), path)), default)


def pattern_problems(name: str, patterns: Mapping[str, Any], kind: type[int] | type[float]) -> list[str]:
    """Returns what is wrong with a table of patterns and numbers, a sentence each."""
    found = []
    for key, value in patterns.items():
        at = f"lora.{name}.{key}"
        is_number = isinstance(value, int | kind) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            wanted = "a whole number from 1" if kind is int else "a number above 0"
            found.append(f"{at}: expected {wanted}, got {str(value)[:80]}")
        try:
            re.compile(_whole(key))
        except re.error as error:
            found.append(f"{at}: is no regular expression: {error}")
    return found


def _whole(key: str) -> str:
    return rf"(.*\.)?({key})$"
