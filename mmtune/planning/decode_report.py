"""A plan of decoding as a table and as numbers."""

from typing import Any

from rich.console import Console
from rich.table import Table

from mmtune.planning.chips import step_seconds
from mmtune.planning.decode import Decoding
from mmtune.planning.report import GIB, exchange_figures, mesh_text
from mmtune.planning.request import Request
from mmtune.sharding.table import size_text


def decode_figures(request: Request, plan: Decoding) -> dict[str, Any]:
    """Returns the plan as JSON has it: bytes and operations of each device, seconds of prompt and token."""
    chip = request.chip
    programs = {
        name: {
            "temporary": round(one.temporary),
            "total": round(one.total),
            "flops": one.flops,
            "collectives": exchange_figures(one),
        }
        for name, one in plan.programs.items()
    }
    for name, one in plan.programs.items():
        moved = plan.token_bytes if name == "token" else one.moved
        programs[name]["seconds"] = step_seconds(chip, one.flops, moved, one.exchanged)
    seconds = programs["token"]["seconds"]
    return {
        "model": request.model,
        "mesh": request.mesh,
        "rows": plan.sizes.rows,
        "prompt": plan.sizes.prompt,
        "new": plan.sizes.new,
        "weights": plan.weights,
        "cache": plan.cache,
        "total": round(plan.total),
        "fits": plan.total <= chip.memory * GIB,
        "hbm": chip.memory,
        "programs": programs,
        "chip": request.chip_name,
        "token_seconds": seconds,
        "tokens_per_second": plan.sizes.rows / seconds,
    }


def print_decoding(console: Console, request: Request, found: dict[str, Any]) -> None:
    """Prints what `decode_figures` returned."""
    recipe = request.recipe
    base = f"{recipe.precision}, base in {recipe.quantize}" if recipe.quantize else recipe.precision
    adapter = "" if recipe.full else f", LoRA rank {recipe.lora.rank}"
    rows = f"{found['rows']} prompts of {request.spec.image_tokens + found['prompt']} tokens, {found['new']} new ones"
    console.print(f"{found['model']} on {mesh_text(found['mesh'])}, decoding: {base}{adapter}, {rows}", highlight=False)
    table = Table("on each device", box=None)
    table.add_column("GiB", justify="right")
    for name in ("weights", "cache"):
        table.add_row("keys and values" if name == "cache" else name, f"{found[name] / GIB:.2f}")
    for name, one in found["programs"].items():
        table.add_row(f"temporary: {name}", f"{one['temporary'] / GIB:.2f}")
    table.add_row("in all", f"{found['total'] / GIB:.2f}")
    console.print(table)
    console.print(f"{'fits' if found['fits'] else 'does not fit'} into {found['hbm']:g} GiB", highlight=False)
    for name, one in found["programs"].items():
        size = sum(kind["bytes"] for kind in one["collectives"].values())
        kinds = ", ".join(f"{kind['count']} {called}" for called, kind in one["collectives"].items())
        exchanged = f"exchanges {size_text(size)} ({kinds})" if kinds else "exchanges nothing"
        work = f"{'each token' if name == 'token' else name}: {one['flops'] / 1e9:,.2f} GFLOP, {exchanged}"
        console.print(f"{work}; at least {1e3 * one['seconds']:.2f} ms on {found['chip']}", highlight=False)
    console.print(f"at most {found['tokens_per_second']:,.0f} tokens a second for all rows", highlight=False)
