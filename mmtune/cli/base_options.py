"""Options about the base of a run or an adapter, for every command that takes a model."""

from typing import Annotated

import typer

Base = Annotated[
    str | None,
    typer.Option("--base", help="Put the run or adapter on this model.  [default: the one that it names]"),
]
ForceBase = Annotated[
    bool, typer.Option("--force-base", help="Use a base that is not the one that the run or adapter was trained on.")
]
