"""`mmtune train`."""

import contextlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mmtune.cli.base_options import Base, ForceBase
from mmtune.errors import MmtuneError, UsageError
from mmtune.run_files import RECIPE

if TYPE_CHECKING:
    from mmtune.distributed.cluster_env import Cluster
    from mmtune.recipe import Recipe


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
    join_seconds: Annotated[
        float, typer.Option(help="With several processes: how long to wait until all have come.")
    ] = 300,
    wait_seconds: Annotated[
        float, typer.Option(help="With several processes: how long one of them may make no progress.")
    ] = 1800,
) -> None:
    """Fine-tune a model on a data set; the run folder holds everything it made.

    A run that was cut goes on with `mmtune train --out RUN --resume`. SIGTERM and Ctrl-C save a checkpoint first.
    """
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

    def choose() -> "Recipe":
        if full and lora_rank is not None:
            raise UsageError("--full trains all weights and --lora-rank an adapter: give one of them")
        if steps is not None and epochs is not None:
            raise UsageError("--steps and --epochs both say how long to train: give one of them")
        for name, seconds in (("--join-seconds", join_seconds), ("--wait-seconds", wait_seconds)):
            if not 0 < seconds < math.inf:
                raise UsageError(f"{name}: expected a number above 0, got {seconds:g}")
        return _recipe(recipe, changes, assignments + (set_ or []), resume)

    from mmtune.distributed.cluster_env import detect_cluster
    from mmtune.distributed.worker import is_worker

    cluster = None if is_worker() else detect_cluster(os.environ)
    if cluster is None:
        _train(choose(), resume, force_base, debug_nans)
    else:
        flags = {"--resume": resume, "--force-base": force_base, "--debug-nans": debug_nans}
        raise typer.Exit(_supervise(cluster, choose, flags, join_seconds, wait_seconds))


def _recipe(file: Path | None, changes: Mapping[str, Any], assignments: list[str], resume: bool) -> "Recipe":
    """Returns the recipe that was asked for, or that of the run that is resumed."""
    from mmtune.recipe import Recipe, read_recipe, read_table, resumed
    from mmtune.settings import build

    table = read_table(file, changes, assignments)
    if resume:
        run = Path(table.get("out", "")) / RECIPE
        if not table.get("out") or not run.is_file():
            raise UsageError(f"--resume: {table.get('out') or 'no --out given'} holds no run to go on with")
        return resumed(read_recipe(run, {}, []), table)
    if changes["epochs"] is not None:
        table.pop("steps", None)  # of the recipe file: the command line's word goes before it
    return build(Recipe, table)


def _supervise(
    cluster: "Cluster", choose: "Callable[[], Recipe]", flags: dict[str, bool], join: float, wait: float
) -> int:
    """Trains as one of several processes, in a child process, and returns the exit code of all."""
    from mmtune.distributed.agreement import stated, versions
    from mmtune.distributed.standard_streams import open_standard_streams
    from mmtune.distributed.supervisor import Limits, supervise
    from mmtune.settings import plain

    open_standard_streams()
    try:
        recipe = choose()
    except MmtuneError as error:
        return supervise(cluster, {}, None, Limits(join, wait), str(error))
    statement = versions() | stated(plain(recipe) | flags)
    return supervise(cluster, statement, Path(recipe.out), Limits(join, wait))


def _train(recipe: "Recipe", resume: bool, force_base: bool, debug_nans: bool) -> None:
    """Trains in this process, alone or as a worker among several."""
    from mmtune.distributed.worker import is_worker, start_worker, worker

    if is_worker():
        try:
            start_worker()  # before anything is computed
        except MmtuneError as error:
            _end_worker(error)

    from mmtune.api import train_recipe
    from mmtune.distributed.processes import is_main_process
    from mmtune.training.stopping import DistributedStop, Stop, Stopped

    if debug_nans:
        import jax

        jax.config.update("jax_debug_nans", True)
    stop = DistributedStop() if worker().supervised else Stop()
    try:
        train_recipe(recipe, resume=resume, force_base=force_base, stop=stop, verbose=is_main_process())
    except Stopped as stopped:
        if is_main_process():
            print(stopped, file=sys.stderr)
        raise typer.Exit(stopped.exit_code) from None
    except BaseException as error:  # rich leaves by SystemExit where nobody reads what it prints
        if worker().supervised:
            _end_worker(error)
        raise


def _end_worker(error: BaseException) -> NoReturn:
    """Ends this worker with what is wrong, which the other processes are told."""
    from mmtune.distributed.processes import say
    from mmtune.distributed.worker import worker

    if isinstance(error, KeyboardInterrupt):  # by the supervisor, which knows why
        worker().exit(130)
    if isinstance(error, SystemExit):
        worker().fail("left the training, as where what it prints is not read any more (`| head`)", 1)
        worker().exit(1)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        error = UsageError(f"{error.filename}: {error.strerror}")  # as any command says it
    if isinstance(error, MmtuneError):
        worker().fail(str(error), 2)
        say(str(error))
        worker().exit(2)
    if _is_of_exchange(error):
        worker().wait_for_peer_failure()
    worker().fail(f"ended: {(str(error).strip().splitlines() or [repr(error)])[0]}", 1)
    with contextlib.suppress(OSError):
        traceback.print_exc()
    worker().exit(1)


def _is_of_exchange(error: BaseException) -> bool:
    """Whether an error may come from an exchange with a process that has died: then another process is to be named."""
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
