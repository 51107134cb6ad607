"""A plan as a table and as numbers."""

from typing import Any

from rich.console import Console
from rich.table import Table

from mmtune.planning.chips import step_seconds
from mmtune.planning.plan import Plan
from mmtune.planning.request import Request

_GIB = 2**30


def figures(request: Request, plan: Plan) -> dict[str, Any]:
    """Returns the plan as JSON has it: bytes and operations of each device, seconds of a step."""
    return {
        "model": request.model,
        "mesh": request.mesh,
        "batch_size": request.recipe.batch_size,
        "seq_len": request.length,
        "trainable": plan.trainable,
        "weights": plan.weights,
        "optimizer": plan.optimizer,
        "gradients": plan.gradients,
        "temporary": round(plan.temporary),
        "total": round(plan.total),
        "fits": plan.total <= request.chip.memory * _GIB,
        "hbm": request.chip.memory,
        "flops": plan.flops,
        "bytes_moved": plan.moved,
        "collectives": {
            kind: {"count": round(one.count), "bytes": round(one.bytes)} for kind, one in plan.traffic.items()
        },
        "chip": request.chip_name,
        "step_seconds": step_seconds(request.chip, plan.flops, plan.moved, plan.exchanged),
    }


def print_plan(console: Console, request: Request, plan: Plan) -> None:
    """Prints the plan."""
    mesh = " x ".join(f"{axis}={size}" for axis, size in request.mesh.items())
    recipe = request.recipe
    how = "all weights" if recipe.full else f"LoRA rank {recipe.lora.rank}"
    base = f"{recipe.precision}, base in {recipe.quantize}" if recipe.quantize else recipe.precision
    console.print(
        f"{request.model} on {mesh}: {how} ({plan.trainable:,} numbers train), {base}, {recipe.batch_size} rows of "
        f"{request.spec.image_tokens + request.length} tokens",
        highlight=False,
    )
    table = Table("on each device", box=None)
    table.add_column("GiB", justify="right")
    shown = {
        "weights": plan.weights,
        "optimizer": plan.optimizer,
        "temporary: activations, logits": plan.temporary - plan.gradients,
        "temporary: gradients": plan.gradients,
        "in all": plan.total,
    }
    for name, size in shown.items():
        table.add_row(name, f"{size / _GIB:.2f}")
    console.print(table)
    fits = plan.total <= request.chip.memory * _GIB
    console.print(f"{'fits' if fits else 'does not fit'} into {request.chip.memory:g} GiB", highlight=False)
    for kind, one in plan.traffic.items():
        console.print(f"{kind}: {one.count:.0f} a step, {one.bytes / _GIB:.2f} GiB", highlight=False)
    seconds = step_seconds(request.chip, plan.flops, plan.moved, plan.exchanged)
    console.print(
        f"{plan.flops / 1e12:.2f} TFLOP a step; at least {seconds:.3f} s on {request.chip_name}", highlight=False
    )
