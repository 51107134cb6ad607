"""`mmtune plan`."""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtune.cli.output import check_outputs, write_json
from mmtune.sharding.canvas import check_ending


def plan(
    model: Annotated[str, typer.Argument(help="Name of a preset, or folder of a checkpoint.")],
    mesh: Annotated[str, typer.Option(help="Device mesh, such as data=2,model=8.")] = "data=1",
    batch_size: Annotated[int, typer.Option(help="Rows a step, over all devices.")] = 8,
    seq_len: Annotated[int, typer.Option(help="Text tokens of a row; those of its picture come on top.")] = 512,
    lora_rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = 8,
    lora_targets: Annotated[
        str | None, typer.Option(help="Modules that the adapter stands on, such as q_proj,v_proj; left out: all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead.")] = False,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    quantize: Annotated[str | None, typer.Option(help="int8 or int4: the base weights under an adapter.")] = None,
    rematerialise: Annotated[str, typer.Option(help="none, dots or full: what the backward pass recomputes.")] = "none",
    hbm: Annotated[float | None, typer.Option(help="GiB of each device; left out: that of the chip.")] = None,
    chip: Annotated[str, typer.Option(help="v5e, v5p, v6e, A100, H100 or H200.")] = "v5p",
    layout: Annotated[Path | None, typer.Option(help="File for the layout of every variable.")] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Draw how each kind of weight is cut: a file that ends in .svg or .png.")
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write the figures to this file ('-': standard output).")] = None,
) -> None:
    """Say what a training takes on devices that are not there: memory, exchange and time on each."""
    check_outputs(json, layout, draw)
    if draw is not None:
        check_ending(draw)
    from mmtune.sharding.mesh import parse_mesh

    devices = math.prod(parse_mesh(mesh).values())
    # Before JAX is imported: afterwards their number is settled.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    from rich.console import Console

    from mmtune.files import write_text
    from mmtune.planning.report import figures, mesh_text, print_plan
    from mmtune.planning.request import planned
    from mmtune.sharding.canvas import write_drawing
    from mmtune.sharding.drawing import draw_layout
    from mmtune.sharding.table import table_text

    console = Console(stderr=json == "-")
    settings: dict[str, Any] = {
        "mesh": mesh,
        "batch_size": batch_size,
        "lora": {"rank": lora_rank, **({"targets": lora_targets.split(",")} if lora_targets else {})},
        "full": full,
        "precision": dtype,
        "quantize": quantize,
        "rematerialise": rematerialise,
    }
    with console.status("planning") as status:
        request, found = planned(model, settings, seq_len, chip, hbm, status.update)
    numbers = figures(request, found)
    print_plan(console, request, numbers)
    if layout is not None:
        write_text(layout, table_text(found.rows))
    if draw is not None:
        write_drawing(draw, draw_layout(f"{model} on {mesh_text(request.mesh)}", found.rows, request.mesh))
    write_json(numbers, json)
