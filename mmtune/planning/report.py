"""A plan as a table and as numbers."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mmtune.planning.chips import step_seconds
from mmtune.planning.compiled import Compiled
from mmtune.planning.parameters import Parameters, keras_hub_lora, peft_lora
from mmtune.planning.plan import Plan
from mmtune.planning.request import Request
from mmtune.sharding.table import size_text

GIB = 2**30


def figures(request: Request, plan: Plan) -> dict[str, Any]:
    """Returns the plan as JSON has it: bytes and operations of each device, seconds of a step."""
    step = plan.step
    return {
        "model": request.model,
        "mesh": request.mesh,
        "batch_size": request.recipe.batch_size,
        "seq_len": request.length,
        "trainable": plan.trainable,
        "parameters": {"before": _parameters(plan.before), "after": _parameters(plan.after)},
        "queries_and_values": {
            "keras_hub": keras_hub_lora(request.spec, request.recipe.lora.rank),
            "peft": peft_lora(request.spec, request.recipe.lora.rank),
        },
        "weights": plan.weights,
        "optimizer": plan.optimizer,
        "gradients": plan.gradients,
        "temporary": round(step.temporary),
        "total": round(step.total),
        "fits": step.total <= request.chip.memory * GIB,
        "hbm": request.chip.memory,
        "flops": step.flops,
        "bytes_moved": step.moved,
        "collectives": exchange_figures(step),
        "chip": request.chip_name,
        "step_seconds": step_seconds(request.chip, step.flops, step.moved, step.exchanged),
    }


def exchange_figures(one: Compiled) -> dict[str, dict[str, int]]:
    """Returns the collectives of a program as JSON has them."""
    return {kind: {"count": round(found.count), "bytes": round(found.bytes)} for kind, found in one.traffic.items()}


def mesh_text(mesh: Mapping[str, int]) -> str:
    """Returns a mesh for people, such as "data=2 x model=4"."""
    return " x ".join(f"{axis}={size}" for axis, size in mesh.items())


def print_plan(console: Console, request: Request, found: dict[str, Any]) -> None:
    """Prints what `figures` returned."""
    recipe = request.recipe
    how = "all weights" if recipe.full else f"LoRA rank {recipe.lora.rank}"
    base = f"{recipe.precision}, base in {recipe.quantize}" if recipe.quantize else recipe.precision
    rows = f"{recipe.batch_size} rows of {request.spec.image_tokens + request.length} tokens"
    what = f"{how} ({found['trainable']:,} numbers train), {base}, {rows}"
    console.print(f"{found['model']} on {mesh_text(found['mesh'])}: {what}", highlight=False)
    _print_parameters(console, request, found)
    table = Table("on each device", box=None)
    table.add_column("GiB", justify="right")
    shown = {
        "weights": found["weights"],
        "optimizer": found["optimizer"],
        "temporary: activations, logits": found["temporary"] - found["gradients"],
        "temporary: gradients": found["gradients"],
        "in all": found["total"],
    }
    for name, size in shown.items():
        table.add_row(name, f"{size / GIB:.2f}")
    console.print(table)
    console.print(f"{'fits' if found['fits'] else 'does not fit'} into {found['hbm']:g} GiB", highlight=False)
    for kind, one in found["collectives"].items():
        console.print(f"{kind}: {one['count']} a step, {one['bytes'] / GIB:.2f} GiB", highlight=False)
    work = f"{found['flops'] / 1e12:.2f} TFLOP a step"
    console.print(f"{work}; at least {found['step_seconds']:.3f} s on {found['chip']}", highlight=False)


def _parameters(found: Parameters) -> dict[str, dict[str, int]]:
    return {
        name: {"numbers": count.numbers, "bytes": count.bytes}
        for name, count in (("total", found.total), ("trainable", found.trainable), ("non_trainable", found.frozen))
    }


def _print_parameters(console: Console, request: Request, found: dict[str, Any]) -> None:
    """Prints the numbers before and after, and what an adapter would have in other shapes."""
    recipe = request.recipe
    before, after = found["parameters"]["before"], found["parameters"]["after"]
    table = Table("parameters", box=None)
    for title in ("as it is", "", "in this run" if recipe.full else "with LoRA", ""):
        table.add_column(title, justify="right")
    for name, title in (("total", "total"), ("trainable", "trainable"), ("non_trainable", "non-trainable")):
        cells = [
            cell for one in (before[name], after[name]) for cell in (f"{one['numbers']:,}", size_text(one["bytes"]))
        ]
        table.add_row(title, *cells)
    console.print(table)
    if not recipe.full:
        other = found["queries_and_values"]
        console.print(
            f"LoRA on queries and values alone would train {other['peft']:,} numbers: A is shared by the heads, as in "
            f"PEFT. KerasHub's enable_lora has an A for each head: {other['keras_hub']:,}",
            highlight=False,
        )
