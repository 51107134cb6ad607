"""Matrix products counted by hand, and small models to count them of: what plans are compared with."""

import math
from dataclasses import replace

from mmtune.models.spec import ModelSpec, RopeSpec, TextSpec, VisionSpec

FAMILIES = ("gemma", "gemma2", "llama3", "paligemma", "paligemma2")


def small_spec(family, layers=3, vocabulary_size=32_768):
    """Returns a model of few layers that are wide enough for products to be nearly all that is computed."""
    second, llama, sees = family.endswith("2"), family == "llama3", family.startswith("pali")
    text = TextSpec(
        vocabulary_size=vocabulary_size,
        hidden_dim=256,
        num_layers=layers,
        num_heads=4,
        num_kv_heads=1 if sees else 2,
        head_dim=64,
        mlp_dim=1024,
        norm_epsilon=1e-6,
        norm_offset=0.0 if llama else 1.0,
        query_scale=64**-0.5,
        attention_softcap=50.0 if second else None,
        final_softcap=30.0 if second else None,
        windows=tuple(64 if second and index % 2 == 0 else None for index in range(layers)),
        post_norms=second,
        embedding_scale=1.0 if llama else 16.0,
        rope=RopeSpec(),
        activation="silu" if llama else "gelu",
        tied=not llama,
        bidirectional_prefix=sees,
        head_first=not llama,
    )
    spec = ModelSpec("llama" if llama else "gemma", text)
    if not sees:
        return spec
    tower = VisionSpec(image_size=112, patch_size=14, hidden_dim=192, num_layers=2, num_heads=3, mlp_dim=512)
    return replace(spec, family="paligemma", vision=tower)


def training_flops(spec, recipe, length, part):
    """Returns the floating point operations of all matrix products of a training step on one device.

    Args:
        spec: The model.
        recipe: Full, or an adapter on all modules of the decoder.
        length: Text tokens of a row, all of which are predicted.
        part: Positions of a row whose logits are computed at once.
    """
    text, full = spec.text, recipe.full
    tokens, rank = length + spec.image_tokens, 0 if full else recipe.lora.rank
    products = 0
    for index in range(text.num_layers):
        queries = length if index == text.num_layers - 1 else tokens
        modules, attention, adapters = _layer(text, tokens, queries, rank)
        forward = modules + attention + adapters
        products += forward + modules + 2 * attention + 2 * adapters  # the second part: gradients of what goes in
        if full:
            products += modules  # gradients of the weights
        elif index == 0:  # nothing before the first layer trains: its input needs no gradient
            hidden, heads, kv = text.hidden_dim, text.num_heads * text.head_dim, text.num_kv_heads * text.head_dim
            products -= hidden * (queries * (heads + rank) + 2 * tokens * (kv + rank))
        if recipe.rematerialise == "full":
            # The result of the last product is needed again by a norm alone.
            products += forward - (0 if text.post_norms else queries * text.mlp_dim * text.hidden_dim)
    head = part * math.ceil(length / part) * text.hidden_dim * text.vocabulary_size
    products += head * (3 if full else 2)
    return 2 * recipe.batch_size * (products + _vision(spec, recipe))


def prompt_flops(spec, rows, prompt):
    """Returns the operations of reading prompts: all layers, and the logits of one position."""
    text, tokens = spec.text, prompt + spec.image_tokens
    products = sum(
        sum(_layer(text, tokens, 1 if index == text.num_layers - 1 else tokens, 0)) for index in range(text.num_layers)
    )
    return 2 * rows * (products + text.hidden_dim * text.vocabulary_size)


def token_flops(spec, rows, slots):
    """Returns the operations of writing a token, which sees all slots of the cache."""
    text = spec.text
    modules, _, _ = _layer(text, 1, 1, 0)
    attention = 2 * slots * text.num_heads * text.head_dim
    return 2 * rows * (text.num_layers * (modules + attention) + text.hidden_dim * text.vocabulary_size)


def tower_flops(spec, rows):
    """Returns the operations of encoding images."""
    return 2 * rows * _vision(spec, None)


def _layer(text, tokens, queries, rank):
    """Returns the multiplications of a layer's modules, its attention, and its adapters."""
    hidden, heads, kv = text.hidden_dim, text.num_heads * text.head_dim, text.num_kv_heads * text.head_dim
    shapes = [(queries, hidden, heads), (tokens, hidden, kv), (tokens, hidden, kv), (queries, heads, hidden)]
    shapes += 2 * [(queries, hidden, text.mlp_dim)] + [(queries, text.mlp_dim, hidden)]
    modules = sum(count * inputs * outputs for count, inputs, outputs in shapes)
    adapters = sum(count * rank * (inputs + outputs) for count, inputs, outputs in shapes)
    return modules, 2 * queries * tokens * heads, adapters


def _vision(spec, recipe):
    """Returns the multiplications of the vision tower and the projector, of a row; without a recipe forwards alone."""
    tower = spec.vision
    if tower is None:
        return 0
    tokens, width = tower.num_tokens, tower.hidden_dim
    attention = 2 * tokens * tokens * width
    dense = tokens * (4 * width * width + 2 * width * tower.mlp_dim)
    patches = tokens * 3 * tower.patch_size**2 * width
    projector = tokens * width * spec.text.hidden_dim
    forward = patches + tower.num_layers * (attention + dense) + projector
    if recipe is None or not recipe.tunes_vision:
        return forward
    backward = patches + tower.num_layers * 2 * (attention + dense) + 2 * projector
    again = tower.num_layers * (attention + dense - tokens * width * tower.mlp_dim)
    return forward + backward + (again if recipe.rematerialise == "full" else 0)
