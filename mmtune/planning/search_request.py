"""A search from what a person asks for, and what it found as numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mmtune.planning.bounds import bounds
from mmtune.planning.chips import step_seconds
from mmtune.planning.compiled import abstract_model, abstract_trainer
from mmtune.planning.plan import extended_step
from mmtune.planning.report import GIB
from mmtune.planning.request import Request
from mmtune.planning.search import Family, Found, Taken, Way, batch_sizes, families_of, schemes_of, search
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import distributed, parse_mesh
from mmtune.sharding.table import Row, layout_rows


def searched(request: Request, devices: int, on_step: Callable[[dict[str, Any]], None]) -> None:
    """Finds the fastest ways to train on so many devices.

    Args:
        request: What is planned; its batch size is the largest that is tried, its quantization, if it has one, the only
            one.
        devices: How many there are.
        on_step: Told what is known, as `search_figures` has it, with the "next" way before each compilation.
    """
    base = request.recipe
    schemes = schemes_of(base.quantize, base.full)
    rows = {scheme: _rows(request, replace(base, quantize=scheme, mesh=None)) for scheme in schemes}

    def recipe(way: Way) -> Recipe:
        family = way.family
        changes = {"quantize": family.quantize, "rematerialise": family.rematerialise}
        return replace(base, mesh=family.mesh, batch_size=way.batch_size, **changes)

    def measure(way: Way) -> Taken:
        with distributed(way.family.mesh):
            step = extended_step(request.spec, recipe(way), request.length, request.length)
        return Taken(step.total, step_seconds(request.chip, step.flops, step.moved, step.exchanged))

    def told(found: Found, way: Way | None) -> None:
        following = {} if way is None else {"next": _named(way.family) | {"batch_size": way.batch_size}}
        on_step(search_figures(found) | following)

    search(
        families_of(devices, schemes),
        lambda family: batch_sizes(base.batch_size, parse_mesh(family.mesh)["data"]),
        lambda way: bounds(request.spec, recipe(way), rows[way.family.quantize], request.length, request.chip),
        measure,
        request.chip.memory * GIB,
        told,
    )


def _rows(request: Request, recipe: Recipe) -> list[Row]:
    with distributed("data=1"):
        trainer = abstract_trainer(abstract_model(request.spec, recipe), recipe)
        return layout_rows(trainer.variables, trainer.optimizer)


def search_figures(found: Found) -> dict[str, Any]:
    """Returns what was found as JSON has it."""
    return {
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
        "untried": [_named(family) for family in found.untried],
    }


def _named(family: Family) -> dict[str, Any]:
    return {"mesh": family.mesh, "quantize": family.quantize, "rematerialise": family.rematerialise}
