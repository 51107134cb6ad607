"""`mmtune export`."""

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase


def export(
    model: Annotated[str, typer.Argument(help="tiny, a preset, or a folder such as a run.")],
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    format_: Annotated[
        str, typer.Option("--format", help="hf (transformers), peft (the adapter), keras, int8, int4.")
    ] = "hf",
    dtype: Annotated[
        str | None, typer.Option(help="Of the weights: float32, bfloat16 or float16.  [default: as they are]")
    ] = None,
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Write a model for other libraries; it is read back and compared before it gets its name."""
    from mmtune.cli.output import printable
    from mmtune.exporting import check_export
    from mmtune.models.load import load

    check_export(out, format_, dtype)
    # Wide, also where a run was trained in less: an adapter is rounded into the weights once, as they are written.
    folder = load(model, precision="float32", base=base, force_base=force_base).export(out, format_, dtype)
    typer.echo(printable(f"{folder}: written, read back and found the same"), err=True)
