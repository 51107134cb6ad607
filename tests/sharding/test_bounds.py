"""What plans count against products counted by hand and a loss without loops, and bounds against what is compiled."""

import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from hand_count import FAMILIES, prompt_flops, small_spec, token_flops, tower_flops, training_flops

from mmtune.models.lora_config import LoRA
from mmtune.planning.bounds import bounds
from mmtune.planning.chips import CHIPS
from mmtune.planning.collectives import Traffic, traffic
from mmtune.planning.compiled import abstract_model, abstract_trainer, compile_step, costs_of
from mmtune.planning.decode import Programs, Sizes
from mmtune.planning.hlo import parse
from mmtune.planning.loops import Repeated, repeated
from mmtune.recipe import Recipe
from mmtune.sharding.table import layout_rows
from mmtune.training.chunked import positions_at_once

CHIP = CHIPS["v5p"]
LATE = (r".*layers\.[12]\..*o_proj",)  # nothing in the first layer trains

# Family, layers, vocabulary, rows, text tokens, parts of the loss, and settings of the recipe.
CASES = [
    ("gemma", 3, 32_768, 8, 300, 3, {"precision": "bfloat16"}),
    ("gemma2", 3, 131_072, 4, 100, 2, {"rematerialise": "full"}),
    ("gemma2", 3, 32_768, 16, 200, 4, {"full": True}),
    ("llama3", 3, 131_072, 16, 64, 4, {"full": True, "rematerialise": "full"}),
    ("llama3", 3, 32_768, 2, 256, 1, {"rematerialise": "dots"}),
    ("paligemma", 3, 65_536, 16, 96, 3, {"full": True, "rematerialise": "full"}),
    ("paligemma", 3, 32_768, 16, 200, 4, {"quantize": "int4", "rematerialise": "dots", "precision": "bfloat16"}),
    ("paligemma2", 3, 65_536, 32, 40, 3, {}),
    ("llama3", 2, 131_072, 16, 512, 32, {"lora": LoRA(targets=("down_proj",))}),
    ("gemma", 4, 65_536, 8, 128, 2, {"lora": LoRA(targets=LATE), "rematerialise": "full"}),
]


def recipe_of(rows, settings):
    return Recipe(task="instruct", data="-", batch_size=rows, **settings)


def check_bounds(spec, recipe, length):
    """Compares bounds with what is compiled, and returns that."""
    trainer = abstract_trainer(abstract_model(spec, recipe), recipe)
    least = bounds(spec, recipe, layout_rows(trainer.variables, trainer.optimizer), length, CHIP)
    step = compile_step(spec, recipe, length, length)
    operations = least.seconds * CHIP.flops
    print(f"bytes {least.bytes / step.total:.3f}, operations {operations / step.flops:.3f} of what is compiled")
    assert least.bytes <= step.total
    assert operations <= step.flops
    assert operations > 0.25 * step.flops  # the bound is one that prunes
    return step


@pytest.mark.parametrize(
    ("family", "layers", "vocabulary", "rows", "length", "parts", "settings"),
    [pytest.param(*case, id="-".join((case[0], f"{case[5]} parts", *case[6]))) for case in CASES],
)
def test_bounds_are_met_and_flops_are_those_counted_by_hand(family, layers, vocabulary, rows, length, parts, settings):
    spec, recipe = small_spec(family, layers, vocabulary), recipe_of(rows, settings)
    part = min(length, positions_at_once(rows, vocabulary))
    assert -(-length // part) == parts
    step = check_bounds(spec, recipe, length)
    if recipe.lora.targets == LoRA().targets:
        counted = training_flops(spec, recipe, length, part)
        print(f"counted by hand: {counted / step.flops:.3f}")
        assert counted == pytest.approx(step.flops, rel=0.05)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(60))
def test_bounds_are_met_everywhere(seed):
    draw = random.Random(seed)
    family, layers = draw.choice(FAMILIES), draw.choice([3, 4, 6, 8])
    kind = draw.choice(["lora", "vision", "late", "full", "int8", "int4"])
    lora = LoRA(targets=draw.choice([LoRA().targets, ("q_proj", "v_proj"), ("down_proj",)]))
    if kind == "late":
        lora = LoRA(targets=LATE)
    if kind == "vision" and family.startswith("pali"):
        lora = replace(lora, vision=True, targets=LoRA().targets)
    settings = {
        "full": kind == "full",
        "quantize": kind if kind.startswith("int") else None,
        "lora": lora,
        "rematerialise": draw.choice(["none", "dots", "full"]),
        "precision": draw.choice(["float32", "bfloat16"]),
    }
    spec = small_spec(family, layers, draw.choice([2_048, 32_768, 131_072]))
    check_bounds(spec, recipe_of(draw.choice([1, 2, 8, 16]), settings), draw.choice([48, 200, 512, 1_000]))


def without_loops(monkeypatch):
    """Writes every scan out, round after round."""

    def scan(function, carry, rows):
        made = []
        for index in range(jax.tree.leaves(rows)[0].shape[0]):
            carry, out = function(carry, jax.tree.map(lambda array, index=index: array[index], rows))
            made.append(out)
        return carry, jax.tree.map(lambda *arrays: jnp.stack(arrays), *made)

    monkeypatch.setattr(jax.lax, "scan", scan)


@pytest.mark.parametrize("full", [False, True])
def test_a_loss_in_parts_costs_what_it_costs_without_a_loop(full, monkeypatch):
    spec, recipe = small_spec("gemma", 2), recipe_of(8, {"full": full})
    looped = compile_step(spec, recipe, 512, 512)  # four parts
    without_loops(monkeypatch)
    written_out = compile_step(spec, recipe, 512, 512)
    assert looped.temporary < written_out.temporary  # there was a loop, and now there is none
    assert looped.flops == pytest.approx(written_out.flops, rel=0.01)
    assert looped.moved == pytest.approx(written_out.moved, rel=0.05)


def test_a_dense_scan_counts_every_round():
    def layers(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

    x, kernels = jax.ShapeDtypeStruct((64, 128), "float32"), jax.ShapeDtypeStruct((7, 128, 128), "float32")
    found = costs_of(jax.jit(layers).lower(x, kernels).compile())
    assert found.flops == pytest.approx(7 * 2 * 64 * 128 * 128, rel=0.01)
    # A round cuts its kernel out of the stack and reads it, reads x, writes the product, reads that, writes its tanh.
    assert found.moved == pytest.approx(7 * 4 * (3 * 128 * 128 + 4 * 64 * 128), rel=0.05)


@pytest.mark.parametrize("family", ["gemma2", "paligemma"])
def test_decoding_counts_products_as_by_hand_and_one_round_of_its_loop(family):
    spec, rows, prompt, new = small_spec(family), 8, 64, 32
    programs = Programs(spec, recipe_of(rows, {"full": True}), Sizes(rows, prompt, new))
    flops = {name: costs_of(programs.compiled(name)).flops for name in ("prompt", "token")}
    assert prompt_flops(spec, rows, prompt) == pytest.approx(flops["prompt"], rel=0.05)
    assert token_flops(spec, rows, spec.image_tokens + prompt + new) == pytest.approx(flops["token"], rel=0.05)
    if spec.vision is not None:
        assert tower_flops(spec, rows) == pytest.approx(costs_of(programs.compiled("image")).flops, rel=0.05)


HLO = """
%fused (p0: f32[8,16], p1: f32[16,4]) -> f32[8,4] {
  %p0 = f32[8,16]{1,0} parameter(0)
  %p1 = f32[16,4]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,4]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%inner (c: (s32[], f32[8,16], f32[16,4])) -> (s32[], f32[8,16], f32[16,4]) {
  %c = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  %a = f32[8,16]{1,0} get-tuple-element(%c), index=1
  %b = f32[16,4]{1,0} get-tuple-element(%c), index=2
  %f = f32[8,4]{1,0} fusion(%a, %b), kind=kOutput, calls=%fused
  %r = (f32[8,4]{1,0}, f32[2]{0}, f32[2]{0}, f32[2]{0}, f32[2]{0}, /*index=5*/f32[2]{0}) all-reduce(%f), channel_id=1
  ROOT %t = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) tuple(%c)
}

%outer (c: (s32[], f32[8,16], f32[16,4])) -> (s32[], f32[8,16], f32[16,4]) {
  %c = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) while(%c), condition=%until, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
}

%until (c: (s32[], f32[8,16], f32[16,4])) -> pred[] {
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: (s32[], f32[8,16], f32[16,4])) -> (s32[], f32[8,16], f32[16,4]) {
  %x = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  %w = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) while(%x), condition=%until, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %v = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}) while(%w), condition=%until, body=%inner
}
"""  # noqa: E501


def test_rounds_of_loops_in_loops_multiply_and_an_unknown_trip_count_is_one_round():
    program = parse(HLO)
    product, reads_and_writes = 2 * 8 * 4 * 16, 4 * (8 * 16 + 16 * 4 + 8 * 4)
    reduced = 4 * (8 * 4 + 5 * 2)
    # 15 rounds of the inner loop, of which the cost analysis counts the first; the last loop stays at one.
    assert repeated(program) == Repeated(14 * product, 14 * (reads_and_writes + reduced + 4 * 8 * 4))
    assert traffic(program) == {"all-reduce": Traffic(16, 16 * reduced)}
