"""`mmtune train`."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase
from mmtune.errors import MmtuneError, UsageError
from mmtune.run_files import RECIPE


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A TOML recipe; the options below override it.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    data: Annotated[str | None, typer.Option(help="Training data: a file, folder, address, or 'shapes'.")] = None,
    val: Annotated[str | None, typer.Option(help="Validation data, or a fraction of the training data.")] = None,
    model: Annotated[str | None, typer.Option(help="What to start from.  [default: tiny]")] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder.  [default: runs/run]")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.  [default: 10]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a batch.  [default: 8]")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="Rank of the adapter.  [default: 8]")] = None,
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of an adapter.")] = False,
    mesh: Annotated[str | None, typer.Option(help="Device mesh, such as data=2,model=4.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Format of the data.  [default: detected]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.  [default: 0]")] = None,
    codec: Annotated[
        str | None, typer.Option(help="Mask codec of segmentation: small, public, or an .npz file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    debug_nans: Annotated[
        bool, typer.Option("--debug-nans", help="Look for the operation that gives the first NaN; slower.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of the recipe: optimizer.learning_rate=1e-4 ...")
    ] = None,
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Fine-tune a model on a data set; the run folder holds everything it made.

    A run that was cut goes on with `mmtune train --out RUN --resume`. SIGTERM and Ctrl-C save a checkpoint first.
    """
    if full and lora_rank is not None:
        raise UsageError("--full trains all weights and --lora-rank an adapter: give one of them")
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs both say how long to train: give one of them")

    from mmtune.recipe import Recipe, read_recipe, read_table, resumed
    from mmtune.settings import build

    changes = {
        "task": task,
        "data": data,
        "val": val,
        "model": model,
        "base": base,
        "out": out,
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "full": True if full else (None if lora_rank is None else False),
        "mesh": mesh,
        "format": format_,
        "seed": seed,
    }
    assignments = [] if lora_rank is None else [f"lora.rank={lora_rank}"]
    assignments += [] if codec is None else [f"options.codec={codec}"]
    table = read_table(recipe, changes, assignments + (set_ or []))
    if resume:
        run = Path(table.get("out", "")) / RECIPE
        if not table.get("out") or not run.is_file():
            raise UsageError(f"--resume: {table.get('out') or 'no --out given'} holds no run to go on with")
        chosen = resumed(read_recipe(run, {}, []), table)
    else:
        if epochs is not None:
            table.pop("steps", None)  # of the recipe file: the command line's word goes before it
        chosen = build(Recipe, table)

    from mmtune.cluster import join

    several = join()  # before anything is computed

    from mmtune.api import train_recipe
    from mmtune.hosts import is_first
    from mmtune.training.stopping import HostsStop, Stop, Stopped
    from mmtune.watcher import await_verdict, part

    if debug_nans:
        import jax

        jax.config.update("jax_debug_nans", True)
    try:
        stop = HostsStop() if several else Stop()
        train_recipe(chosen, resume=resume, force_base=force_base, stop=stop, verbose=is_first())
    except Stopped as stopped:
        if is_first():
            print(stopped, file=sys.stderr)
        part(0, "")
        raise typer.Exit(stopped.exit_code) from None
    except MmtuneError as error:
        if several:
            print(f"mmtune: {error}", file=sys.stderr)
        part(2, str(error))
        raise
    except Exception as error:
        if several:
            await_verdict(error)
            traceback.print_exc()
        part(1, repr(error))
        raise
    part(0, "")
