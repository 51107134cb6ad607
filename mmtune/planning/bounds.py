"""What a training takes at least, by arithmetic: what need not be compiled."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mmtune.models.spec import ModelSpec
from mmtune.planning.chips import Chip
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import parse_mesh
from mmtune.sharding.rules import RULES, WHOLE, Rule, find, fit
from mmtune.sharding.table import Row, itemsize
from mmtune.training.chunked import positions_at_once

_ADAPTED = re.compile(r"lora/(?:model|model_language_model)_layers_(\d+)_")


def held_bytes(rows: Iterable[Row], mesh: Mapping[str, int]) -> int:
    """Returns the bytes of weights and optimizer variables on each device of a mesh.

    Args:
        rows: The layout of every variable on any mesh, or on none.
        mesh: Devices along each axis.
    """
    return sum(_bytes(row, mesh) for row in rows)


def _bytes(row: Row, mesh: Mapping[str, int]) -> int:
    rule = _rule(row.weight or row.path)
    axes = rule.axes if rule is not None else WHOLE
    units = row.units
    if row.weight is not None and len(axes) != len(row.shape):
        axes, units = WHOLE, ()  # a slot that is no copy of its weight
    cuts = (mesh[axis] for axis in fit(axes, row.shape, mesh, units).axes if axis)
    return math.prod(row.shape) * itemsize(row.dtype) // math.prod(cuts)


@cache
def _rule(path: str) -> Rule | None:
    return find(path, RULES)


@dataclass(frozen=True)
class Bounds:
    """What a run takes at least on each device.

    Attributes:
        bytes: Weights, optimizer, the logits of one part of the loss, and what layers keep for the backward pass.
        seconds: Of a step: the products of its linear modules at the chip's peak.
        estimate: Of a step, with a rough count of what is exchanged: which to try first, no bound.
    """

    bytes: float
    seconds: float
    estimate: float


def bounds(spec: ModelSpec, recipe: Recipe, rows: Iterable[Row], length: int, chip: Chip) -> Bounds:
    """Returns what a run takes at least.

    Args:
        spec: The model.
        recipe: The run, with its mesh.
        rows: The layout of every variable on any mesh, or on none.
        length: Text tokens of a row, all of which are predicted.
        chip: Each device.
    """
    mesh, text = parse_mesh(recipe.mesh or "data=1"), spec.text
    rows, width = list(rows), itemsize(recipe.precision)
    here = recipe.batch_size // mesh["data"]
    tokens = length + spec.image_tokens
    at_once = min(length, positions_at_once(recipe.batch_size, text.vocabulary_size))
    logits = here * at_once * text.vocabulary_size * 4 / mesh["model"]
    begun = text.hidden_dim + _kept(spec, recipe, tokens) / mesh["model"]
    crossed = _crossed(spec, recipe, rows)
    kept = crossed * here * tokens * begun * width
    seconds = _operations(spec, recipe, length, crossed) / math.prod(mesh.values()) / chip.flops
    # Sharded weights are gathered for both passes; each layer's four products of two add up what devices have.
    weights = sum(_bytes(row, {"data": 1, "model": mesh["model"]}) for row in rows if not row.of_optimizer)
    gathered = 2 * weights if mesh["data"] > 1 else 0
    sums = 4 + 2 * (recipe.rematerialise != "none")
    added = sums * text.num_layers * here * tokens * text.hidden_dim * 4 if mesh["model"] > 1 else 0
    return Bounds(held_bytes(rows, mesh) + logits + kept, seconds, seconds + (gathered + added) / chip.links)


def _crossed(spec: ModelSpec, recipe: Recipe, rows: Iterable[Row]) -> int:
    """Returns how many layers the backward pass crosses at all tokens: between the first that trains and the last.

    The first may pass nothing on, and the last computes target positions alone. With `full` the embeddings train,
    which lie before the first layer.
    """
    adapters = [row.path for row in rows if row.path.startswith("lora/")]
    layers = [int(match[1]) if (match := _ADAPTED.match(path)) else 0 for path in adapters]
    first = -1 if recipe.full else min(layers, default=0)
    return max(0, spec.text.num_layers - 2 - first)


def _kept(spec: ModelSpec, recipe: Recipe, tokens: int) -> int:
    """Returns how many numbers a layer keeps of each token at least, besides what it begins with."""
    products = 2 * spec.text.mlp_dim  # gate and up
    kept = {"none": products + spec.text.num_heads * tokens, "dots": products, "full": 0}
    return kept[recipe.rematerialise]


def _operations(spec: ModelSpec, recipe: Recipe, length: int, crossed: int) -> float:
    """Returns the floating point operations of a step's linear modules, at least."""
    text = spec.text
    tokens = length + spec.image_tokens
    down = text.hidden_dim * text.mlp_dim
    layer = 2 * text.hidden_dim * text.head_dim * (text.num_heads + text.num_kv_heads) + 3 * down
    head = length * text.hidden_dim * text.vocabulary_size
    passes = (text.num_layers - 1) * tokens * layer + head
    passes += (crossed * tokens * layer + head) * (2 if recipe.full else 1)
    if recipe.rematerialise == "full":  # the last product's result is needed again by a norm alone
        passes += crossed * tokens * (layer if text.post_norms else layer - down)
    if spec.vision is not None:
        width = spec.vision.hidden_dim
        tower = spec.vision.num_layers * (4 * width * width + 2 * width * spec.vision.mlp_dim)
        passes += spec.vision.num_tokens * tower * (2 if recipe.tunes_vision else 1)
    return 2 * recipe.batch_size * passes
