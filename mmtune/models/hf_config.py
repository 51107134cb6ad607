"""Hugging Face's `config.json` of the supported families, as our own description of a model."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtune.data.pixels import RESAMPLING
from mmtune.errors import ModelError, unknown_name
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import CONFIG, PRESET_METADATA
from mmtune.models.hf_processor import SIGLIP, image_settings
from mmtune.models.spec import ModelSpec, RopeSpec, TextSpec, VisionSpec

_LARGEST = 1e30  # of numbers such as bases and factors, whose powers are still to be numbers
_TEXT_TYPES = ("gemma", "gemma2", "llama")
_GELU = ("gelu_pytorch_tanh", "gelu_new")
# One processor under the names that versions of transformers give it.
_PROCESSORS = ("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil")

# What transformers takes where a file leaves it out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
    },
    "gemma2": {
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "siglip": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    },
}


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face checkpoint, be it a broken one, and no Keras preset."""
    try:
        content = read_object(folder / CONFIG)
    except ModelError:
        content = {}
    if not (folder / CONFIG).is_file():
        return False
    return "model_type" in content or not ("registered_name" in content or (folder / PRESET_METADATA).is_file())


def read_config(folder: Path, has_head: bool) -> ModelSpec:
    """Returns the description of a checkpoint.

    Args:
        folder: With `config.json`.
        has_head: Whether the checkpoint has a vocabulary head of its own: says whether embeddings are tied where the
            file does not.

    Raises:
        ModelError: When the file is missing or broken, or describes what is not supported; all problems are named.
    """
    file = folder / CONFIG
    return spec_of(read_object(file), file, has_head)


def spec_of(config: Mapping[str, Any], file: Path, has_head: bool) -> ModelSpec:
    """Returns what the content of a `config.json` describes.

    Args:
        config: The content.
        file: Where it stands, for messages; what lies beside it says how pictures are prepared.
        has_head: See `read_config`.

    Raises:
        ModelError: When it describes what is not supported; all problems are named.
    """
    kind = config.get("model_type")
    problems = _Problems(file)
    if kind == "paligemma":
        text_config, vision_config = config.get("text_config"), config.get("vision_config")
        if not isinstance(text_config, Mapping) or not isinstance(vision_config, Mapping):
            raise ModelError(f"{file}: expected text_config and vision_config, objects, in a paligemma")
        text_kind = text_config.get("model_type", "gemma")
        if text_kind not in ("gemma", "gemma2"):
            raise ModelError(
                f"{file}: text_config: {unknown_name('model_type', _name(text_kind), ('gemma', 'gemma2'))}"
            )
        text = _gemma(_Fields(text_config, text_kind, "text_config.", problems), True, config)
        vision = _vision(_Fields(vision_config, "siglip", "vision_config.", problems))
        problems.end()
        spec = ModelSpec("paligemma", text, read_processor(file.parent, vision))
    elif kind in ("gemma", "gemma2"):
        spec = ModelSpec("gemma", _gemma(_Fields(config, kind, "", problems), False, config))
    elif kind == "llama":
        spec = ModelSpec("llama", _llama(_Fields(config, kind, "", problems), has_head))
    else:
        raise ModelError(f"{file}: {unknown_name('model_type', _name(kind), ('paligemma', *_TEXT_TYPES))}")
    problems.end()
    return spec


def read_processor(folder: Path, vision: VisionSpec) -> VisionSpec:
    """Returns a tower's description with how its checkpoint wants pictures prepared.

    Args:
        folder: With what `image_settings` reads; without it, pictures are prepared as PaliGemma's are.
        vision: The tower's description.

    Raises:
        ModelError: When a file is broken, or asks for what is not done here; all problems are named.
    """
    found = image_settings(folder)
    if found is None:
        return vision
    file, settings = found
    values, problems = SIGLIP | settings, _Problems(file)
    kind = values.get("image_processor_type") or _PROCESSORS[0]
    if kind not in _PROCESSORS:
        problems.note(f"image_processor_type: expected {_PROCESSORS[0]}, got {_short(kind)}")
    size = values["size"]
    if size is not None and (
        not isinstance(size, dict) or [size.get("height"), size.get("width")] != [vision.image_size] * 2
    ):
        problems.note(f"size: expected {vision.image_size} x {vision.image_size}, as {CONFIG} says, got {_short(size)}")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if values[name] is not True:
            problems.note(f"{name}: false is not supported")
    for name in ("do_center_crop", "do_pad"):
        if values[name]:
            problems.note(f"{name}: {_short(values[name])} is not supported: pictures are squeezed whole")
    if not abs(_number(values["rescale_factor"]) * 255 - 1) < 1e-6:
        problems.note(f"rescale_factor: expected 1 / 255, got {_short(values['rescale_factor'])}")
    resample = next((name for name, number in RESAMPLING.items() if number == values["resample"]), None)
    if resample is None:
        known = " or ".join(f"{number} ({name})" for name, number in RESAMPLING.items())
        problems.note(f"resample: expected {known}, got {_short(values['resample'])}")
    triples = {}
    for name in ("mean", "std"):
        given = values[f"image_{name}"]
        if not isinstance(given, list) or len(given) != 3 or not all(0 < _number(value) < 10 for value in given):
            problems.note(f"image_{name}: expected three numbers above 0, got {_short(given)}")
        else:
            triples[name] = tuple(map(float, given))
    problems.end()
    return replace(vision, resample=resample, **triples)


def _number(value: Any) -> float:
    """Returns a number as such, anything else as NaN, which no comparison accepts."""
    return value if type(value) in (int, float) else math.nan


def _short(value: Any) -> str:
    """Returns a value as a message can quote it, however long or deep it is."""
    quote = reprlib.Repr()
    quote.maxstring = quote.maxother = quote.maxlong = 80
    return quote.repr(value)


def _name(value: Any) -> str:
    return value[:80] if isinstance(value, str) else _short(value)


@dataclass
class _Problems:
    """What is wrong with a file; told all at once."""

    file: Path
    found: dict[str, None] = field(default_factory=dict)

    def note(self, problem: str) -> None:
        self.found[problem] = None

    def end(self) -> None:
        if self.found:
            raise ModelError(f"{self.file}: " + "; ".join(self.found))


@dataclass(frozen=True)
class _Fields:
    """The fields of an object, checked as they are read; a wrong one is noted and replaced by 1."""

    values: Mapping[str, Any]
    kind: str
    at: str
    problems: _Problems

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def count(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name)
        if value is None:
            value = _DEFAULTS[self.kind].get(name, default)
        if type(value) is not int or not 0 < value < 2**31:
            self.note(f"{self.at}{name}: expected a whole number from 1, got {_short(value)}")
            return 1
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not 0 < value < _LARGEST:
            self.note(f"{self.at}{name}: expected a number above 0, got {_short(value)}")
            return 1.0
        return float(value)

    def optional(self, name: str) -> float | None:
        """A number, or none where the file says null; left out, it is the family's usual one."""
        usual = _DEFAULTS[self.kind].get(name)
        if usual is None or (name in self.values and self.values[name] is None):
            return None
        return self.number(name, usual)

    def refuse(self, name: str, why: str) -> None:
        if self.values.get(name):
            self.note(f"{self.at}{name}: {_short(self.values[name])} is not supported: {why}")

    def note(self, problem: str) -> None:
        self.problems.note(problem)


def _sizes(fields: _Fields) -> dict[str, Any]:
    heads = fields.count("num_attention_heads")
    return {
        "vocabulary_size": fields.count("vocab_size"),
        "hidden_dim": fields.count("hidden_size"),
        "num_layers": _layers(fields),
        "num_heads": heads,
        "num_kv_heads": _kv_heads(fields, heads),
        "mlp_dim": fields.count("intermediate_size"),
        "norm_epsilon": fields.number("rms_norm_eps", 1e-6),
    }


def _gemma(fields: _Fields, bidirectional: bool, whole: Mapping[str, Any]) -> TextSpec:
    second = fields.kind == "gemma2"
    head_dim, layers = fields.count("head_dim"), _layers(fields)
    fields.refuse("attention_bias", "projections of Gemma have no bias")
    if fields.values.get("tie_word_embeddings") is False or whole.get("tie_word_embeddings") is False:
        fields.note(f"{fields.at}tie_word_embeddings: false is not supported: Gemma's head is its embeddings")
    # Gemma 1 files say "gelu" and mean its approximation: hidden_activation took the field's place.
    activation = fields.values.get("hidden_activation") or _GELU[0]
    if activation not in _GELU:
        fields.note(f"{fields.at}hidden_activation: expected {' or '.join(_GELU)}, got {_short(activation)}")
    if fields.values.get("use_bidirectional_attention") not in (None, bidirectional):
        given = _short(fields.values["use_bidirectional_attention"])
        fields.note(f"{fields.at}use_bidirectional_attention: {given} is not supported: expected {bidirectional}")
    return TextSpec(
        **_sizes(fields),
        head_dim=head_dim,
        norm_offset=1.0,
        query_scale=(fields.number("query_pre_attn_scalar", 256) if second else head_dim) ** -0.5,
        attention_softcap=fields.optional("attn_logit_softcapping"),
        final_softcap=fields.optional("final_logit_softcapping"),
        windows=_windows(fields, layers) if second else (None,) * layers,
        post_norms=second,
        embedding_scale=fields.count("hidden_size") ** 0.5,
        rope=_rope(fields),
        activation="gelu",
        tied=True,
        bidirectional_prefix=bidirectional,
        head_first=True,
    )


def _llama(fields: _Fields, has_head: bool) -> TextSpec:
    heads, hidden = fields.count("num_attention_heads"), fields.count("hidden_size")
    if hidden % heads:
        fields.note(f"hidden_size: {hidden} cannot be divided by num_attention_heads, {heads}")
    head_dim = fields.count("head_dim", max(1, hidden // heads))
    if head_dim * heads != hidden:
        fields.note(f"head_dim: expected hidden_size / num_attention_heads, {hidden / heads:g}, got {head_dim}")
    for name in ("attention_bias", "mlp_bias"):
        fields.refuse(name, "projections of Llama have no bias here")
    activation = fields.values.get("hidden_act", "silu")
    if activation != "silu":
        fields.note(f"hidden_act: expected silu, got {_short(activation)}")
    tied = fields.values.get("tie_word_embeddings")
    return TextSpec(
        **_sizes(fields),
        head_dim=head_dim,
        norm_offset=0.0,
        query_scale=head_dim**-0.5,
        attention_softcap=None,
        final_softcap=None,
        windows=(None,) * _layers(fields),
        post_norms=False,
        embedding_scale=1.0,
        rope=_rope(fields),
        activation="silu",
        tied=not has_head if tied is None else bool(tied),
        bidirectional_prefix=False,
        head_first=False,
    )


def _vision(fields: _Fields) -> VisionSpec:
    size, patch = fields.count("image_size"), fields.count("patch_size")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    if size < patch:
        fields.note(f"{fields.at}image_size: {size} is less than patch_size, {patch}")
    if hidden % heads:
        fields.note(f"{fields.at}hidden_size: {hidden} cannot be divided by num_attention_heads, {heads}")
    activation = fields.values.get("hidden_act", _GELU[0])
    if activation not in _GELU:
        fields.note(f"{fields.at}hidden_act: expected {' or '.join(_GELU)}, got {_short(activation)}")
    return VisionSpec(
        image_size=size,
        patch_size=patch,
        hidden_dim=hidden,
        num_layers=fields.count("num_hidden_layers"),
        num_heads=heads,
        mlp_dim=fields.count("intermediate_size"),
        norm_epsilon=fields.number("layer_norm_eps", 1e-6),
    )


def _layers(fields: _Fields) -> int:
    layers = fields.count("num_hidden_layers")
    if layers > 1000:
        fields.note(f"{fields.at}num_hidden_layers: expected at most 1000, got {layers}")
        return 1
    return layers


def _kv_heads(fields: _Fields, heads: int) -> int:
    kv_heads = fields.count("num_key_value_heads", heads)
    if heads % kv_heads:
        fields.note(f"{fields.at}num_attention_heads: {heads} cannot be divided by num_key_value_heads, {kv_heads}")
    return kv_heads


def _windows(fields: _Fields, layers: int) -> tuple[int | None, ...]:
    """Returns each layer's window: every other one's, from the first on, unless `layer_types` says otherwise."""
    absent = "sliding_window" in fields.values and fields.values["sliding_window"] is None
    width = None if absent else fields.count("sliding_window")
    types = fields.values.get("layer_types")
    if types is None:
        return tuple(width if index % 2 == 0 else None for index in range(layers))
    known = ("sliding_attention", "full_attention")
    if not isinstance(types, list) or len(types) != layers or not set(map(str, types)) <= set(known):
        fields.note(f"{fields.at}layer_types: expected {layers} of {' and '.join(known)}, got {_short(types)}")
        return (None,) * layers
    return tuple(width if kind == known[0] else None for kind in types)


# The fields of each type of rotary scaling that is computed here: those it needs, and those of no effect.
_ROPE_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ("original_max_position_embeddings",)),
    "linear": (("factor",), ("original_max_position_embeddings",)),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
}


def _rope(fields: _Fields) -> RopeSpec:
    """Returns the rotary positions: transformers 5 keeps all of it in `rope_parameters`, 4 in two fields."""
    name, held = _rope_fields(fields)
    at = f"{fields.at}{name}."
    inner = _Fields(held, fields.kind, at, fields.problems)
    theta = (inner if inner.has("rope_theta") else fields).number("rope_theta", 10_000.0)
    if inner.has("rope_theta") and fields.has("rope_theta") and fields.values["rope_theta"] != held["rope_theta"]:
        fields.note(f"{at}rope_theta and {fields.at}rope_theta differ: {theta} and {fields.values['rope_theta']}")
    for where in (fields, inner):
        if where.values.get("partial_rotary_factor") not in (None, 1, 1.0):
            part = _short(where.values["partial_rotary_factor"])
            fields.note(f"{where.at}partial_rotary_factor: {part} is not supported: all of a head is rotated")
    kind = held.get("rope_type", held.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPE_FIELDS:
        fields.note(f"{at}rope_type: expected the type default, linear or llama3, got {_short(kind)}")
        return RopeSpec(theta)
    needed, unused = _ROPE_FIELDS[kind]
    for key in [key for key in needed if not inner.has(key)]:
        fields.note(f"{at}{key}: expected a number with the type {kind}, found none")
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *needed, *unused}
    for key in [key for key in held if key not in known and held[key] is not None]:
        fields.note(f"{at}{key}: {_short(held[key])} is not supported with the type {kind}")
    if kind == "default":
        return RopeSpec(theta)
    factor = inner.number("factor", 1.0)
    if kind == "linear":
        return RopeSpec(theta, linear_factor=factor)
    low, high = inner.number("low_freq_factor", 1.0), inner.number("high_freq_factor", 4.0)
    if high <= low:
        fields.note(f"{at}high_freq_factor: expected more than low_freq_factor, {low:g}, got {high:g}")
    length = inner.count("original_max_position_embeddings", 8192)
    return RopeSpec(theta, factor=factor, low_frequency=low, high_frequency=high, pretraining_length=length)


def _rope_fields(fields: _Fields) -> tuple[str, Mapping[str, Any]]:
    """Returns the object that says how positions are rotated, and its name."""
    said = {name: fields.values[name] for name in ("rope_scaling", "rope_parameters") if fields.values.get(name)}
    for name, held in said.items():
        if not isinstance(held, Mapping):
            fields.note(f"{fields.at}{name}: expected an object, got {_short(held)}")
            return name, {}
    if len({repr(_plain(held)) for held in said.values()}) > 1:
        fields.note(f"{fields.at}rope_scaling and {fields.at}rope_parameters differ: expected one of them")
    return next(((name, held) for name, held in reversed(said.items())), ("rope_scaling", {}))


def _plain(held: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns what an object says beside the rotary base, under the names of today."""
    return sorted(("rope_type" if key == "type" else key, one) for key, one in held.items() if key != "rope_theta")
