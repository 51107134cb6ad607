"""Compares plans, which compile a few layers, with the steps of whole models, compiled.

    export XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=tests
    python tests/sharding/plan_truth.py FAMILY LAYERS MESH [MESH ...]

A line of JSON a plan: {"mesh", "kind", and for each of "total", "temporary", "flops", "exchanged": planned over true}.
"""

import json
import sys

import mmtune  # noqa: F401
from mmtune.models.spec import read_spec
from mmtune.planning.compiled import compile_step
from mmtune.planning.plan import plan_training
from mmtune.recipe import Recipe
from mmtune.sharding.mesh import distributed


def described(family, layers):
    """Returns a small model of a family with so many layers, and half as many in its vision tower."""
    from backbones import make

    changes = {"vit_num_layers": layers // 2} if family.startswith("pali") else {}
    return read_spec(make(family, num_layers=layers, vocabulary_size=2048, hidden_dim=128, **changes))


def main(family, layers, *meshes):
    """Prints a line a plan."""
    spec = described(family, int(layers))
    for mesh in meshes:
        for kind in ("lora", "full"):
            settings = {"task": "instruct", "data": "-", "model": "-", "out": "-"}
            recipe = Recipe(batch_size=8, full=kind == "full", mesh=mesh, **settings)
            with distributed(mesh):
                planned = plan_training(spec, recipe, 64, 64)
                true = compile_step(spec, recipe, 64, 64)
            found = {
                "mesh": mesh,
                "kind": kind,
                "total": planned.step.total / true.total,
                "temporary": planned.step.temporary / true.temporary,
                "flops": planned.step.flops / true.flops,
                "exchanged": planned.step.exchanged / true.exchanged if true.exchanged else 1.0,
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
