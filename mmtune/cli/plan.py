"""`mmtune plan`."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmtune.cli.output import check_outputs, write_json
from mmtune.errors import UsageError, unknown_name
from mmtune.sharding.canvas import check_ending

if TYPE_CHECKING:
    from rich.console import Console


def plan(
    model: Annotated[str, typer.Argument(help="Name of a preset, or folder of a checkpoint.")],
    mesh: Annotated[str, typer.Option(help="Device mesh, such as data=2,model=8.")] = "data=1",
    batch_size: Annotated[int, typer.Option(help="Rows a step, over all devices; with --search the most.")] = 8,
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
    decode: Annotated[
        bool, typer.Option("--decode", help="Plan decoding instead: image, prompt and each token.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="With --decode: most tokens of an answer.")] = 64,
    search: Annotated[
        bool, typer.Option("--search", help="Find the fastest meshes, batches, rematerialisation and quantisation.")
    ] = False,
    devices: Annotated[int | None, typer.Option(help="With --search: how many; left out: those of --mesh.")] = None,
    search_seconds: Annotated[float, typer.Option(help="With --search: the time that it has.")] = 300,
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

    if search and (decode or layout is not None or draw is not None):
        raise UsageError("--search plans many trainings: leave out --decode, --layout and --draw")
    if devices is not None and (not search or devices < 1):
        raise UsageError(f"--devices: expected 1 or more, with --search, got {devices}")
    devices = devices or math.prod(parse_mesh(mesh).values())
    # Before JAX is imported: afterwards their number is settled.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "2"
    )  # XLA warns of each exchange that it finds dear: they are counted
    from rich.console import Console

    console = Console(stderr=json == "-")
    lora = {"rank": lora_rank, **({"targets": lora_targets.split(",")} if lora_targets else {})}
    settings: dict[str, Any] = {"lora": lora, "full": full, "precision": dtype, "quantize": quantize}
    if search:
        settings |= {"batch_size": batch_size}
        _search(console, model, settings, seq_len, chip, hbm, devices, search_seconds, json)
        return

    from mmtune.decoding.buckets import power_of_two
    from mmtune.files import write_text
    from mmtune.planning.decode import Decoding
    from mmtune.planning.decode_report import decode_figures, print_decoding
    from mmtune.planning.plan import Plan
    from mmtune.planning.report import figures, mesh_text, print_plan
    from mmtune.planning.request import decoding_plan, requested, training_plan
    from mmtune.sharding.canvas import write_drawing
    from mmtune.sharding.drawing import draw_layout
    from mmtune.sharding.table import table_text

    settings |= {
        "mesh": mesh,
        "batch_size": power_of_two(batch_size) if decode and batch_size > 0 else batch_size,  # as decoding pads it
        "rematerialise": rematerialise,
    }
    request = requested(model, settings, seq_len, chip, hbm)
    with console.status("planning") as status:
        planned: Plan | Decoding = (
            decoding_plan(request, max_tokens, status.update) if decode else training_plan(request, status.update)
        )
    if isinstance(planned, Plan):
        numbers = figures(request, planned)
        print_plan(console, request, numbers)
    else:
        numbers = decode_figures(request, planned)
        print_decoding(console, request, numbers)
    if layout is not None:
        write_text(layout, table_text(planned.rows))
    if draw is not None:
        write_drawing(draw, draw_layout(f"{model} on {mesh_text(request.mesh)}", planned.rows, request.mesh))
    write_json(numbers, json)


def _search(
    console: "Console",
    model: str,
    settings: dict[str, Any],
    length: int,
    chip: str,
    memory: float | None,
    devices: int,
    seconds: float,
    file: str | None,
) -> None:
    """Searches, and shows and writes what is found."""
    from mmtune.planning.chips import CHIPS
    from mmtune.planning.search_process import search_within
    from mmtune.planning.search_report import print_search, search_progress

    if chip not in CHIPS:
        raise UsageError(unknown_name("chip", chip, CHIPS))
    if not 0 < seconds < math.inf:
        raise UsageError(f"--search-seconds: expected a number above 0, got {seconds:g}")
    hbm = CHIPS[chip].memory if memory is None else memory
    asked = {"model": model, "settings": settings, "length": length, "chip": chip, "memory": hbm, "devices": devices}
    with search_progress(console, seconds) as on_change:
        found = search_within(asked, seconds, on_change)
    about = {"model": model, "devices": devices, "chip": chip, "hbm": hbm, "seq_len": length}
    numbers = about | found
    print_search(console, numbers)
    write_json(numbers, file)
