"""The kinds of weights that a model has: many layers, few kinds, each under a name that a person knows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mmtune.sharding.rules import Axes
from mmtune.sharding.table import Row

DECODER, VISION, ADAPTER, OTHER = "decoder", "vision tower", "adapter", "further weights"
PARTS = (DECODER, VISION, ADAPTER, OTHER)


class Naming(NamedTuple):
    """How weights are called whose whole path a pattern matches.

    Attributes:
        pattern: A regular expression of the path; its group "module" names what the kind stands on.
        part: One of `PARTS`.
        name: Of the kind.
        axes: What the weight's axes are.
    """

    pattern: str
    part: str
    name: str
    axes: tuple[str, ...]


_DECODER = r"(.*/)?decoder_block_\d+"
_LLAMA = r"(.*/)?transformer_layer_\d+"
_TOWER = r"(.*/)?encoder_block_\d+"
_SEEN = r"(vision_tower|multi_modal_projector)"
_MATRIX = ("inputs", "outputs")

NAMINGS: tuple[Naming, ...] = (
    Naming(r"(.*/)?token_embedding/embeddings", DECODER, "embedding", ("vocabulary", "width")),
    Naming(r"(.*/)?token_embedding/reverse_embeddings", DECODER, "output embedding", ("width", "vocabulary")),
    Naming(rf"{_DECODER}/attention/(?P<module>query)/kernel", DECODER, "attention", ("heads", "width", "head")),
    Naming(rf"{_DECODER}/attention/(?P<module>key|value)/kernel", DECODER, "attention", ("heads", "width", "head")),
    Naming(rf"{_DECODER}/attention/attention_output/kernel", DECODER, "attention: output", ("heads", "head", "width")),
    Naming(rf"{_DECODER}/ffw_gating(_2)?/kernel", DECODER, "MLP: gate, up", ("width", "hidden")),
    Naming(rf"{_DECODER}/ffw_linear/kernel", DECODER, "MLP: down", ("hidden", "width")),
    Naming(rf"{_LLAMA}/self_attention/(?P<module>query)/kernel", DECODER, "attention", ("width", "heads", "head")),
    Naming(rf"{_LLAMA}/self_attention/(?P<module>key|value)/kernel", DECODER, "attention", ("width", "heads", "head")),
    Naming(
        rf"{_LLAMA}/self_attention/attention_output/kernel", DECODER, "attention: output", ("heads", "head", "width")
    ),
    Naming(rf"{_LLAMA}/feedforward_(intermediate|gate)_dense/kernel", DECODER, "MLP: gate, up", ("width", "hidden")),
    Naming(rf"{_LLAMA}/feedforward_output_dense/kernel", DECODER, "MLP: down", ("hidden", "width")),
    Naming(rf"{_TOWER}/multi_head_attention/(?P<module>query|key|value)_proj/kernel", VISION, "attention", _MATRIX),
    Naming(rf"{_TOWER}/multi_head_attention/out_proj/kernel", VISION, "attention: output", ("inputs", "width")),
    Naming(rf"{_TOWER}/mlp_dense_1/kernel", VISION, "MLP: first", ("width", "hidden")),
    Naming(rf"{_TOWER}/mlp_dense_2/kernel", VISION, "MLP: second", ("hidden", "width")),
    Naming(r"(.*/)?image_classifier/kernel", VISION, "projector", _MATRIX),
    Naming(r"(.*/)?embedding_conv/kernel", VISION, "patches", ("rows", "columns", "colours", "width")),
    Naming(r"(.*/)?position_embedding/embeddings", VISION, "positions", ("places", "width")),
    Naming(rf"{_TOWER}/.*(query_proj|key_proj|value_proj|mlp_dense_1)/bias", VISION, "biases", ("width",)),
    Naming(r"(.*/)?(image_encoder|image_classifier)/.*(gamma|beta|bias)", VISION, "norms, biases", ("width",)),
    Naming(r"(.*/)?[a-z_]*(norm|normalization|layernorm)(_\d+)?/(scale|gamma|beta)", DECODER, "norms", ("width",)),
    Naming(
        rf"(.*/)?lora/.*{_SEEN}.*_(?P<module>[a-z]+_proj|fc\d|linear)_a", ADAPTER, "LoRA A, vision", ("inputs", "rank")
    ),
    Naming(
        rf"(.*/)?lora/.*{_SEEN}.*_(?P<module>[a-z]+_proj|fc\d|linear)_b", ADAPTER, "LoRA B, vision", ("rank", "outputs")
    ),
    Naming(r"(.*/)?lora/.*_(?P<module>[a-z]+_proj)_a", ADAPTER, "LoRA A", ("inputs", "rank")),
    Naming(r"(.*/)?lora/.*_(?P<module>[a-z]+_proj)_b", ADAPTER, "LoRA B", ("rank", "outputs")),
    Naming(r"(.*/)?lora/.*_(?P<module>[a-z]+_proj|fc\d|linear)_magnitude", ADAPTER, "DoRA magnitudes", ("outputs",)),
    Naming(r"quantized/.*/embedding/values", DECODER, "embedding", ("vocabulary", "width")),
    Naming(r"quantized/.*/embedding/scale", DECODER, "embedding: scale", ("vocabulary", "one")),
    Naming(rf"quantized/.*{_SEEN}.*/(?P<module>\w+)/values", VISION, "in few bits", _MATRIX),
    Naming(rf"quantized/.*{_SEEN}.*/(?P<module>\w+)/scale", VISION, "scales", ("groups", "outputs")),
    Naming(r"quantized/.*/(?P<module>\w+)/values", DECODER, "in few bits", _MATRIX),
    Naming(r"quantized/.*/(?P<module>\w+)/scale", DECODER, "scales", ("groups", "outputs")),
)
"""Of every family's weights; a weight takes the first that matches its path."""


@dataclass(frozen=True)
class Kind:
    """Weights of one name, shape and layout.

    Attributes:
        part: One of `PARTS`.
        name: What they are, such as "attention: query".
        names: What their axes are.
        shape: Of each of them.
        dtype: Of each of them.
        axes: For each axis of the weight the mesh's axis that divides it, or None.
        count: How many there are.
        bytes: Of one of them on each device.
        whole: Bytes of one of them on all devices together, each part counted once.
    """

    part: str
    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    count: int
    bytes: int
    whole: int


def kinds(rows: Iterable[Row]) -> list[Kind]:
    """Returns the kinds of the weights among rows of a layout, in the order of `PARTS` and of the model.

    Single numbers and the states of random generators are left out. Vectors that lie whole everywhere are one kind
    within their part, whatever their length, of which the longest is shown.
    """
    found: dict[tuple, Kind] = {}
    modules: dict[tuple, dict[str, None]] = {}
    for row in rows:
        if row.of_optimizer or not row.shape or row.path.endswith("seed_generator_state"):
            continue
        one, module = _kind(row)
        plain = len(row.shape) == 1 and not any(row.axes)
        key = (one.part, one.name, plain or (row.shape, row.axes, row.dtype))
        modules.setdefault(key, {}).update({module: None} if module else {})
        before = found.get(key)
        longer = one if before is None or one.bytes > before.bytes else before
        found[key] = replace(longer, count=1 if before is None else before.count + 1)
    named = [replace(kind, name=_named(kind.name, list(modules[key]))) for key, kind in found.items()]
    return sorted(named, key=lambda kind: (PARTS.index(kind.part), kind.part == ADAPTER and kind.name))


def _kind(row: Row) -> tuple[Kind, str]:
    """Returns a weight as a kind of its own, and the module that it stands on."""
    part, name, names, module = OTHER, re.sub(r"\d+", "*", row.path), (), ""
    for naming in NAMINGS:
        match = re.fullmatch(naming.pattern, row.path)
        if match and len(naming.axes) == len(row.shape):
            part, name, names = naming.part, naming.name, naming.axes
            module = match.groupdict().get("module", "")
            break
    names = names or tuple(f"axis {place}" for place in range(len(row.shape)))
    kind = Kind(part, name, names, row.shape, row.dtype, row.axes, 1, row.bytes, row.whole_bytes)
    return kind, module.removesuffix("_proj")


def _named(name: str, modules: list[str]) -> str:
    return f"{name}: {', '.join(modules)}" if modules else name
