"""`mmtune push`."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="A model's folder, as `mmtune export` writes it.")],
    address: Annotated[str, typer.Argument(help="hf://org/name, or kaggle://owner/model/framework/variation.")],
    private: Annotated[bool, typer.Option("--private", help="Make the model one that only its owners see.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be uploaded.")] = False,
) -> None:
    """Upload a model; what has arrived already is not sent again."""
    from mmtune.cli.output import printable
    from mmtune.pushing import files_to_push
    from mmtune.pushing import push as run

    files = files_to_push(folder)
    for name, size in files:
        typer.echo(printable(f"{size:>16,}  {name}"))
    total = sum(size for _, size in files)
    if dry_run:
        typer.echo(printable(f"{len(files)} files, {total:,} bytes would go to {address}"), err=True)
        return
    place = run(folder, address, private=private)
    typer.echo(printable(f"uploaded {len(files)} files, {total:,} bytes: {place}"), err=True)
