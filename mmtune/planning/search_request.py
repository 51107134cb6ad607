"""A search from what a person asks for, and what it found as a table and as numbers."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

from rich.console import Console
from rich.table import Table

from mmtune.planning.bounds import bounds
from mmtune.planning.chips import step_seconds
from mmtune.planning.compiled import abstract_model, abstract_trainer
from mmtune.planning.plan import extended_step
from mmtune.planning.report import GIB
from mmtune.planning.request import Request
from mmtune.planning.search import REMATERIALISE, SCHEMES, Family, Found, Taken, Tried, Way, batch_sizes, meshes, search
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import distributed, parse_mesh
from mmtune.sharding.table import Row, layout_rows

_SHOWN = 10


def searched(
    request: Request, devices: int, seconds: float, on_step: Callable[[int, int, Tried | None, Way], None]
) -> Found:
    """Returns the fastest ways to train on so many devices.

    Args:
        request: What is planned; its batch size is the largest that is tried, its quantisation, if it has one, the only
            one.
        devices: How many there are.
        seconds: After which nothing more is compiled.
        on_step: As of `search`.
    """
    base = request.recipe
    schemes = (base.quantize,) if base.quantize or base.full else SCHEMES
    rows = {scheme: _rows(request, replace(base, quantize=scheme, mesh=None)) for scheme in schemes}

    def recipe(way: Way) -> Recipe:
        family = way.family
        changes = {"quantize": family.quantize, "rematerialise": family.rematerialise}
        return replace(base, mesh=family.mesh, batch_size=way.batch_size, **changes)

    def measure(way: Way) -> Taken:
        with distributed(way.family.mesh):
            step = extended_step(request.spec, recipe(way), request.length, request.length)
        return Taken(step.total, step_seconds(request.chip, step.flops, step.moved, step.exchanged))

    return search(
        [Family(*parts) for parts in product(meshes(devices), schemes, REMATERIALISE)],
        lambda family: batch_sizes(base.batch_size, parse_mesh(family.mesh)["data"]),
        lambda way: bounds(request.spec, recipe(way), rows[way.family.quantize], request.length, request.chip),
        measure,
        request.chip.memory * GIB,
        seconds,
        on_step,
    )


def _rows(request: Request, recipe: Recipe) -> list[Row]:
    with distributed("data=1"):
        trainer = abstract_trainer(abstract_model(request.spec, recipe), recipe)
        return layout_rows(trainer.variables, trainer.optimizer)


def search_figures(request: Request, devices: int, found: Found) -> dict[str, Any]:
    """Returns what was found as JSON has it."""
    return {
        "model": request.model,
        "devices": devices,
        "chip": request.chip_name,
        "hbm": request.chip.memory,
        "seq_len": request.length,
        "compiled": found.compiled,
        "best": [
            {
                **_named(one.way.family),
                "batch_size": one.way.batch_size,
                "total": round(one.taken.bytes),
                "step_seconds": one.taken.seconds,
                "example_seconds": one.per_example,
            }
            for one in found.fitting
        ],
        "left": [{**_named(family), "reason": reason} for family, reason in found.left.items()],
    }


def print_search(console: Console, found: dict[str, Any]) -> None:
    """Prints what `search_figures` returned."""
    where = f"{found['devices']} x {found['chip']} of {found['hbm']:g} GiB"
    console.print(f"{found['model']} on {where}, rows of {found['seq_len']} text tokens", highlight=False)
    if not found["best"]:
        console.print("nothing fits", highlight=False)
    else:
        table = Table(box=None)
        for title in ("mesh", "batch", "base", "rematerialise", "GiB", "ms a step", "ms an example"):
            table.add_column(title, justify="left" if title in ("mesh", "base", "rematerialise") else "right")
        for one in found["best"][:_SHOWN]:
            table.add_row(
                one["mesh"],
                str(one["batch_size"]),
                one["quantize"] or "wide",
                one["rematerialise"],
                f"{one['total'] / GIB:.2f}",
                f"{1e3 * one['step_seconds']:.1f}",
                f"{1e3 * one['example_seconds']:.2f}",
            )
        console.print(table)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found["left"]:
        reasons[one["mesh"], one["reason"]].append(f"{one['quantize'] or 'wide'}/{one['rematerialise']}")
    for (mesh, reason), ways in reasons.items():
        console.print(f"{mesh}, {', '.join(ways)}: {reason}", highlight=False)


def _named(family: Family) -> dict[str, Any]:
    return {"mesh": family.mesh, "quantize": family.quantize, "rematerialise": family.rematerialise}
