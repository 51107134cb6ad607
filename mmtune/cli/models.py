"""`mmtune models`."""

from typing import Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase


def models(
    model: Annotated[str | None, typer.Argument(help="A model to describe; left out: all are listed.")] = None,
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """List the models there are, or describe one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mmtune.models.load import load, preset_metadata

    console = Console()
    table = Table(box=None)
    if model is None:
        table.add_column("model")
        table.add_column("parameters", justify="right")
        table.add_column("what it is")
        table.add_row("tiny", "2,875,680", "embedded, works offline")
        for name, about in sorted(preset_metadata().items()):
            description = str(about.get("description", "")).split(". ")[0]
            table.add_row(name, f"{about.get('params', 0):,}", description)
        console.print(table)
        console.print("Also: a run folder, a Keras preset folder, kaggle://..., hf://...", highlight=False)
        return
    from dataclasses import asdict

    loaded = load(model, base=base, force_base=force_base)
    table.add_column("property")
    table.add_column("value")
    table.add_row("name", escape(model))
    table.add_row("parameters", f"{loaded.backbone.count_params():,}")
    table.add_row("family", loaded.spec.family)
    for part, spec in (("text", loaded.spec.text), ("vision", loaded.spec.vision)):
        for key, value in asdict(spec).items() if spec is not None else ():
            table.add_row(f"{part}.{key}", str(value))
    if (vision := loaded.spec.vision) is not None:
        way = f"{vision.image_size} px square, {vision.resample} with antialiasing"
        table.add_row("image", f"{way}; mean {list(vision.mean)} and deviation {list(vision.std)} of colours in 0..1")
    if loaded.setup is not None:
        table.add_row("fine-tuned for", loaded.setup.task)
        table.add_row("classes", escape(" ; ".join(loaded.setup.classes)))
    console.print(table)
