"""What an adapter looks like. Light: recipes and the command line build it without JAX."""

from dataclasses import dataclass

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
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = DECODER_MODULES
    vision: bool = False

    @property
    def effective_alpha(self) -> float:
        """Alpha with its default filled in."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def scale(self) -> float:
        """What `A @ B` is multiplied by."""
        return self.effective_alpha / (self.rank**0.5 if self.rslora else self.rank)

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
        return found
