"""A plan from what a person asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.errors import ModelError, UsageError, unknown_name
from mmtune.models.hf_config import is_checkpoint, read_config
from mmtune.models.presets import preset_spec
from mmtune.models.spec import ModelSpec
from mmtune.planning.chips import CHIPS, Chip
from mmtune.planning.decode import Decoding, plan_decoding
from mmtune.planning.plan import Plan, plan_training
from mmtune.recipe import Recipe
from mmtune.settings import build
from mmtune.sharding.mesh import distributed, parse_mesh


@dataclass(frozen=True)
class Request:
    """What is planned.

    Attributes:
        model: Its name.
        spec: Its description.
        recipe: The run.
        length: Text tokens of a row.
        chip: Each device; with its memory as it was asked for.
        chip_name: A key of `CHIPS`.
    """

    model: str
    spec: ModelSpec
    recipe: Recipe
    length: int
    chip: Chip
    chip_name: str

    @property
    def mesh(self) -> dict[str, int]:
        """Devices along each axis."""
        return parse_mesh(self.recipe.mesh or "data=1")


def requested(
    model: str, settings: Mapping[str, Any], length: int, chip: str = "v5p", memory: float | None = None
) -> Request:
    """Returns what is to be planned.

    Args:
        model: "tiny", a preset's name, or the folder of a Hugging Face checkpoint, of which config.json is enough.
        settings: Fields of `Recipe`; those that are None are left out.
        length: Text tokens of a row.
        chip: Key of `CHIPS`.
        memory: GiB of a device; None: the chip's.

    Raises:
        UsageError, RecipeError, ModelError: For what does not exist.
    """
    if chip not in CHIPS:
        raise UsageError(unknown_name("chip", chip, CHIPS))
    if length < 1:
        raise UsageError(f"seq-len: expected 1 or more, got {length}")
    given = {key: value for key, value in settings.items() if value is not None}
    recipe = build(Recipe, {"task": "instruct", "data": "-", "model": model, "out": "-", **given})
    device = CHIPS[chip] if memory is None else replace(CHIPS[chip], memory=memory)
    return Request(model, describe(model), recipe, length, device, chip)


def training_plan(request: Request, on_step: Callable[[str], None] = lambda _: None) -> Plan:
    """Returns the plan of a training in which all text tokens of a row may be predicted.

    Args:
        request: What is planned.
        on_step: Told what is being done.
    """
    with distributed(request.recipe.mesh):
        return plan_training(request.spec, request.recipe, request.length, request.length, on_step)


def decoding_plan(request: Request, new: int, on_step: Callable[[str], None] = lambda _: None) -> Decoding:
    """Returns the plan of decoding answers to prompts of `length` text tokens.

    Args:
        request: What is planned.
        new: Most tokens of an answer.
        on_step: Told what is being done.
    """
    if new < 1:
        raise UsageError(f"max-tokens: expected 1 or more, got {new}")
    with distributed(request.recipe.mesh):
        return plan_decoding(request.spec, request.recipe, request.length, new, on_step)


def describe(model: str) -> ModelSpec:
    """Returns the description of a model that need not be there."""
    if model == "tiny":
        from mmtune.models.spec import read_spec
        from mmtune.models.tiny import empty_tiny

        return read_spec(empty_tiny())
    folder = Path(model)
    if is_checkpoint(folder):
        return read_config(folder, has_head=True)  # what transformers takes for granted where a Llama does not say
    if (known := preset_spec(model)) is not None:
        return known
    raise ModelError(
        f"{model}: expected tiny, the name of a preset of Gemma, PaliGemma or Llama 3 (`mmtune models` lists them), or "
        "the folder of a Hugging Face checkpoint with its config.json"
    )
