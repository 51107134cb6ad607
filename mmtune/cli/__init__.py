"""The command line: a thin shell over the Python interface. A subcommand's file is imported only when it is called."""

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import typer

from mmtune.errors import MmtuneError, UsageError

UNUSABLE_INPUT = 2


class Command(NamedTuple):
    """Where a subcommand lives ("module:function", or "module:app" for a group) and its line in the help."""

    target: str
    help: str


COMMANDS = {
    "quickstart": Command("mmtune.cli.quickstart:quickstart", "Fine-tune the embedded model on generated scenes."),
    "data": Command("mmtune.cli.data:app", "Check a data set, or convert it to another format."),
    "train": Command("mmtune.cli.train:train", "Fine-tune a model on a data set."),
    "eval": Command("mmtune.cli.evaluate:evaluate", "Score a model on a data set."),
    "score": Command("mmtune.cli.score:score", "Score official result files, without a model."),
    "report": Command("mmtune.cli.report:report", "Write the page of a run anew: curves, intervals, every fault."),
    "compare": Command("mmtune.cli.compare:compare", "Say what differs between two runs on the same data."),
    "predict": Command("mmtune.cli.predict:predict", "Answer about pictures or prompts."),
    "plan": Command("mmtune.cli.plan:plan", "Say what a training takes on devices that are not there."),
    "export": Command("mmtune.cli.export:export", "Write a model for transformers, PEFT or Keras."),
    "push": Command("mmtune.cli.push:push", "Upload a model to the Hugging Face hub or to Kaggle."),
    "demo": Command("mmtune.cli.demo:demo", "Try and fine-tune models in a page."),
    "models": Command("mmtune.cli.models:models", "List the models there are, or describe one."),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 a fault of ours, 2 wrong usage or unusable input."""
    words = spread_lists(list(sys.argv[1:] if arguments is None else arguments))
    try:
        _application(words)(args=words, prog_name="mmtune")
    except MmtuneError as error:
        lines = str(error).split("\n")
        print(f"mmtune: {lines[0]}" if len(lines) == 1 else "mmtune:\n  " + "\n  ".join(lines), file=sys.stderr)
        sys.exit(UNUSABLE_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"mmtune: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(UNUSABLE_INPUT)


def spread_lists(words: list[str]) -> list[str]:
    """Repeats the flag for each further value of a list: `--set a=1 b=2` becomes `--set a=1 --set b=2`.

    After `--image`, what follows up to the next flag is taken for pictures once the model has been named; after
    `--set`, what holds an equals sign.

    >>> spread_lists(["predict", "tiny", "--image", "a.jpg", "b.jpg"])
    ['predict', 'tiny', '--image', 'a.jpg', '--image', 'b.jpg']
    """
    out: list[str] = []
    flag = ""
    named = False
    for index, word in enumerate(words):
        if word.startswith("-"):
            flag = word if word in ("--image", "--set") else ""
            out.append(word)
            continue
        follows = out and out[-1] == flag
        if flag and not follows and ((flag == "--image" and named) or (flag == "--set" and "=" in word)):
            out.append(flag)
        named = named or (index > 0 and (not words[index - 1].startswith("-") or "=" in words[index - 1]))
        out.append(word)
    return out


def _application(words: Sequence[str]) -> typer.Typer:
    """Returns the application with the called subcommand loaded and the others known by name and help only."""
    app = typer.Typer(
        name="mmtune",
        help="Fine-tune, evaluate and show PaliGemma and Gemma 2 on your own data.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_nothing)
    called = next((word for word in words if not word.startswith("-")), None)
    for name, command in COMMANDS.items():
        if name != called:
            app.command(name, help=command.help)(_nothing)
            continue
        module, _, attribute = command.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=command.help)
        else:
            app.command(name)(found)
    if called is not None and called not in COMMANDS:
        from mmtune.errors import unknown_name

        raise UsageError(unknown_name("command", called, COMMANDS))
    return app


def _nothing() -> None:
    pass
