"""`mmtune report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
) -> None:
    """Write a run's report.html anew, from its folder and the validation data that its recipe names."""
    from mmtune.cli.output import printable
    from mmtune.reporting import report as write

    print(printable(str(write(run))))
