"""What a training takes at least, by arithmetic: what need not be compiled."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmtune.models.spec import ModelSpec
from mmtune.planning.chips import Chip
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import parse_mesh
from mmtune.sharding.rules import RULES, WHOLE, find, fit
from mmtune.sharding.table import Row, itemsize


def held_bytes(rows: Iterable[Row], mesh: Mapping[str, int]) -> int:
    """Returns the bytes of weights and optimizer variables on each device of a mesh.

    Args:
        rows: The layout of every variable on any mesh, or on none.
        mesh: Devices along each axis.
    """
    return sum(_bytes(row, mesh) for row in rows)


def _bytes(row: Row, mesh: Mapping[str, int]) -> int:
    rule = find(row.weight or row.path, RULES)
    axes = rule.axes if rule is not None else WHOLE
    if row.weight is not None and len(axes) != len(row.shape):
        axes = WHOLE  # a slot that is no copy of its weight
    cuts = (mesh[axis] for axis in fit(axes, row.shape, mesh).axes if axis)
    return math.prod(row.shape) * itemsize(row.dtype) // math.prod(cuts)


@dataclass(frozen=True)
class Bounds:
    """What a run takes at least on each device.

    Attributes:
        bytes: Weights, optimizer, logits, and what each layer keeps for the backward pass.
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
    logits = here * length * text.vocabulary_size * 4 / mesh["model"]
    begun = text.hidden_dim + _kept(spec, recipe, tokens) / mesh["model"]
    kept = (text.num_layers - 1) * here * tokens * begun * width
    seconds = _operations(spec, recipe, length) / math.prod(mesh.values()) / chip.flops
    # Sharded weights are gathered for both passes; each layer's four products of two add up what devices have.
    weights = sum(_bytes(row, {"data": 1, "model": mesh["model"]}) for row in rows if not row.of_optimizer)
    gathered = 2 * weights if mesh["data"] > 1 else 0
    sums = 4 + 2 * (recipe.rematerialise != "none")
    added = sums * text.num_layers * here * tokens * text.hidden_dim * 4 if mesh["model"] > 1 else 0
    return Bounds(held_bytes(rows, mesh) + logits + kept, seconds, seconds + (gathered + added) / chip.links)


def _kept(spec: ModelSpec, recipe: Recipe, tokens: int) -> int:
    """Returns how many numbers a layer keeps of each token at least, besides what it begins with."""
    products = 2 * spec.text.mlp_dim  # gate and up
    kept = {"none": products + spec.text.num_heads * tokens, "dots": products, "full": 0}
    return kept[recipe.rematerialise]


def _operations(spec: ModelSpec, recipe: Recipe, length: int) -> float:
    """Returns the floating point operations of a step's linear modules, at least."""
    text = spec.text
    attention = 2 * text.hidden_dim * text.head_dim * (text.num_heads + text.num_kv_heads)
    layer = attention + 3 * text.hidden_dim * text.mlp_dim
    head = length * text.hidden_dim * text.vocabulary_size
    # In the last layer only positions that are predicted are computed, in the first one nothing flows on backwards.
    forward = layer * (text.num_layers - 1) * (length + spec.image_tokens) + head
    backward = forward - layer * (length + spec.image_tokens)
    passes = forward + backward * (2 if recipe.full else 1)
    if recipe.rematerialise == "full":
        passes += forward - head
    if spec.vision is not None:
        width = spec.vision.hidden_dim
        tower = spec.vision.num_layers * (4 * width * width + 2 * width * spec.vision.mlp_dim)
        passes += spec.vision.num_tokens * tower * (2 if recipe.tunes_vision else 1)
    return 2 * recipe.batch_size * passes
