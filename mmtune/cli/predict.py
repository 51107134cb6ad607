"""`mmtune predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli.base_options import Base, ForceBase
from mmtune.errors import DataError, UsageError

if TYPE_CHECKING:
    from mmtune.predicting import Answer


def predict(
    model: Annotated[str, typer.Argument(help="tiny, a preset, or a folder such as a run.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    image: Annotated[list[Path] | None, typer.Option(help="Pictures: --image a.jpg b.jpg ...")] = None,
    prompt: Annotated[str | None, typer.Option(help="The prefix; left out: what the model was taught.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    json: Annotated[str | None, typer.Option(help="Write the answers to this file ('-': standard output).")] = None,
    draw: Annotated[Path | None, typer.Option(help="Draw the answers on the pictures, into this folder.")] = None,
    beams: Annotated[int, typer.Option(min=1, help="Width of beam search; 1 is greedy.")] = 1,
    codec: Annotated[
        str | None, typer.Option(help="Mask codec of segmentation: small, public, or an .npz file.")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="Keep the base weights in int8 or int4.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Options of the task: options.noise_boxes=25 ...")
    ] = None,
    base: Base = None,
    force_base: ForceBase = False,
) -> None:
    """Answer about pictures or prompts."""
    from mmtune.cli.options import option_changes, task_options
    from mmtune.cli.output import check_outputs, printable, write_json
    from mmtune.registry import task_class

    adapter, flags = task_class(task), {"codec": codec}
    task_options(adapter, set_ or (), flags)  # checked before a large model is loaded
    check_outputs(json, draw / "picture.png" if draw is not None else None)
    files = list(image or [])
    problems: list[str] = []
    if adapter.needs_picture:
        if not files:
            raise UsageError(f"the task {task} needs a picture: --image FILE")
        files = _pictures(files, problems)
    elif draw is not None:
        raise UsageError(f"the task {task} is about text alone: leave --draw out")

    from mmtune.decoding.sampling import Sampler
    from mmtune.models.load import load
    from mmtune.predicting import predict as run

    answers = run(
        load(model, quantize=quantize, base=base, force_base=force_base),
        files or [None],
        task=task,
        prompt=prompt,
        max_tokens=max_tokens,
        sampler=Sampler(beams=beams),
        options=option_changes(set_ or (), flags),
        on_fault=lambda fault: problems.append(fault.problem),
    )
    if not answers:
        raise DataError("\n".join(problems))
    for problem in problems:
        typer.echo(printable(f"left out: {problem}"), err=True)
    if json != "-":
        for answer in answers:
            name = f"{answer.record.picture.name}: " if answer.record.picture else ""
            typer.echo(printable(f"{name}{answer.text}"))
    write_json([answer.as_json() for answer in answers], json)
    if draw is not None:
        _draw(answers, draw)


def _pictures(files: list[Path], problems: list[str]) -> list[Path]:
    """Returns the files that begin as pictures do, and adds what keeps the others from being used to `problems`.

    Only their headers are read: a name that was mistyped is said before a large model is loaded.

    Raises:
        DataError: When there is no picture among them.
    """
    from mmtune.data.images import FilePicture, size_of

    good = []
    for file in files:
        try:
            size_of(FilePicture(file))
            good.append(file)
        except DataError as error:
            problems.append(str(error))
    if not good:
        raise DataError("\n".join(problems))
    return good


def _draw(answers: "Sequence[Answer]", folder: Path) -> None:
    """Writes each picture with its answer, under its own name as long as no two have the same."""
    from mmtune.cli.output import printable
    from mmtune.files import atomic

    taken: set[str] = set()
    for answer in answers:
        assert answer.record.picture is not None
        stem = name = Path(answer.record.picture.name).stem
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        with atomic(folder / f"{name}.png") as temporary:
            answer.draw().save(temporary, "PNG")
        typer.echo(printable(f"drawn: {folder / name}.png"), err=True)
