"""Speed and memory beside the peers: `python -m benchmarks [CASE ...] [--size mini] [--json FILE]`.

Every contender runs in a process of its own, one after the other, in turns; what is shown is the median of all rounds.
KerasHub runs in the environment at hand; transformers and PEFT where they are installed: there, or in the environment
whose Python is given by `--peers`. Where JAX and torch find a GPU, it is the GPU that is measured.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.attempt import ROOT, Attempt, attempt
from benchmarks.speed.chart import draw_speed
from benchmarks.speed.machine import described, machine, ours, peaks_of
from benchmarks.speed.measuring import MALLOC
from benchmarks.speed.sizes import SIZES, decoding_floor, step_flops, weights_dtype, write_data
from mmtune.sharding.canvas import write_drawing


@dataclass(frozen=True)
class Contender:
    """Who does the work, and how.

    Attributes:
        name: As the table shows it, with {rows} for the pictures.
        program: "ours", "kerashub" or "transformers_peft".
        option: What the program makes of it.
        malloc: Whether glibc's malloc is given the settings that our commands begin with.
        processor: Whether it differs from others on a CPU alone, and is left out elsewhere.
    """

    name: str
    program: str
    option: str = ""
    malloc: bool = False
    processor: bool = False


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        title: As the table shows it, with {rows} for the pictures.
        rows: Pictures.
        contenders: The first is ours, to which the others are compared.
        parts: Into so many a picture the seconds of a repetition are divided; 0: they are not.
        trains: Whether it is a training step, which may be measured on any number of pictures.
        once: Whether it is so long that one round and one repetition are enough.
    """

    title: str
    rows: int
    contenders: tuple[Contender, ...]
    parts: int = 0
    trains: bool = False
    once: bool = False

    @property
    def told(self) -> str:
        """As the table shows it."""
        return self.title.format(rows=self.rows)

    @property
    def unit(self) -> int:
        """What a repetition's seconds are divided by."""
        return self.rows * self.parts or 1


@dataclass(frozen=True)
class Plan:
    """How everything is measured.

    Attributes:
        size: Of the model.
        precision: Of activations and products, and of weights that do not train.
        rounds: Processes of each contender.
        repetitions: Measurements in a process.
        peers: Python with torch, transformers and peft.
        limit: Seconds that a process may take; None: any.
        place: Folder for data and checkpoints.
    """

    size: str
    precision: str
    rounds: int
    repetitions: int
    peers: str
    limit: float | None
    place: Path


_OURS = Contender("mmtune", "ours", "live", malloc=True)
_CACHED = Contender("mmtune, image tokens kept", "ours", "cached", malloc=True)
_HUB = Contender("KerasHub fit", "kerashub", "ships")
_HUB_BEST = Contender("KerasHub fit, decoder's LoRA, no metric", "kerashub", "best")
_HUB_MALLOC = Contender("the same with our malloc settings", "kerashub", "best", malloc=True, processor=True)
_TORCH = Contender("transformers + PEFT", "transformers_peft", "ships")
_TORCH_BEST = Contender("transformers + PEFT, logits_to_keep", "transformers_peft", "best")
_HUB_FULL = Contender("KerasHub fit, no metric", "kerashub", "best")
_TORCH_FULL = Contender("transformers", "transformers_peft", "ships")
_TORCH_FULL_BEST = Contender("transformers, logits_to_keep", "transformers_peft", "best")
_SMALL = Contender("KerasHub fit, batches of {rows}", "kerashub", "small batches")
_TORCH_SMALL = Contender("transformers + PEFT, batches of {rows}", "transformers_peft", "small batches")
_DECODING = (_OURS, Contender("KerasHub generate", "kerashub"), Contender("transformers generate", "transformers_peft"))

CASES = {
    "lora": Case(
        "LoRA step, {rows} pictures",
        4,
        (_CACHED, _OURS, _HUB, _HUB_BEST, _HUB_MALLOC, _TORCH, _TORCH_BEST),
        trains=True,
    ),
    "captions": Case(
        "five captions a picture, {rows} pictures, a caption",
        4,
        (_CACHED, _OURS, _HUB_BEST, _SMALL, _TORCH_SMALL),
        parts=5,
        trains=True,
    ),
    "full": Case(
        "full tuning step, {rows} pictures", 4, (_OURS, _HUB_FULL, _TORCH_FULL, _TORCH_FULL_BEST), trains=True
    ),
    "decode1": Case("32 tokens, 1 picture", 1, _DECODING),
    "decode8": Case("32 tokens each, 8 pictures", 8, _DECODING),
    "mixed": Case(
        "200 pictures, prompts of 4 to 40 and answers of up to 64 tokens, 8 at once", 200, _DECODING, once=True
    ),
}


def case_of(name: str, pictures: int | None, device: str) -> Case:
    """Returns a case with the pictures that were asked for, and those contenders that differ on the device."""
    case = CASES[name]
    rows = pictures if pictures and case.trains else case.rows
    kept = [contender for contender in case.contenders if device == "cpu" or not contender.processor]
    named = tuple(replace(contender, name=contender.name.format(rows=rows)) for contender in kept)
    return replace(case, rows=rows, contenders=named)


def command(contender: Contender, name: str, plan: Plan, data: Path, repetitions: int) -> list[str]:
    """Returns what runs a contender."""
    rest = [str(data), plan.precision, str(time.time()), str(repetitions)]
    if contender.program == "transformers_peft":
        file = ROOT / "benchmarks" / "speed" / "transformers_peft.py"
        return [plan.peers, str(file), name, contender.option, str(checkpoint(name, plan)), *rest]
    module = f"benchmarks.speed.{contender.program}"
    return [sys.executable, "-m", module, name, contender.option, plan.size, *rest]


def checkpoint(name: str, plan: Plan) -> Path:
    """Returns where a case's weights lie as transformers reads them; several cases have the same."""
    return plan.place / f"{'mixed' if name == 'mixed' else 'plain'}-{weights_dtype(name, plan.precision)}"


def export(name: str, plan: Plan, console: Console) -> None:
    """Writes a case's weights as transformers reads them, unless they are there."""
    folder = checkpoint(name, plan)
    if folder.exists():
        return
    console.print(f"weights of {plan.size} for transformers", style="dim")
    folder.mkdir()
    made = attempt(ours("export", plan.size, str(folder), name, plan.precision), plan.limit)
    if made.failure:
        tell(f"they could not be written: {made.failure}", made, console)


def tell(sentence: str, failed: Attempt, console: Console) -> None:
    """Prints that something failed, and the end of what it said."""
    if failed.errors:
        console.print(failed.errors, style="dim", markup=False)
    console.print(sentence, style="red", markup=False)


def run(name: str, case: Case, plan: Plan, device: Mapping[str, Any], console: Console) -> list[dict[str, Any]]:
    """Returns a row a contender: its medians, over ours where that is a ratio, or why there are none."""
    data = plan.place / f"{name}.npz"
    write_data(data, SIZES[plan.size], case.rows)
    if any(contender.program == "transformers_peft" for contender in case.contenders):
        export(name, plan, console)
    found: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in case.contenders}
    failed: dict[str, str] = {}
    rounds, repetitions = (1, 1) if case.once else (plan.rounds, plan.repetitions)
    for number in range(rounds):
        for contender in case.contenders:
            console.print(f"{case.told}: {contender.name}, round {number + 1} of {rounds}", style="dim")
            words = command(contender, name, plan, data, repetitions)
            done = attempt(words, plan.limit, MALLOC if contender.malloc else None)
            if done.failure:
                tell(f"{contender.name} failed: {done.failure}", done, console)
                failed[contender.name] = done.failure
            else:
                found[contender.name].append(json.loads(done.line))
    rows = [row_of(contender, case, found[contender.name]) for contender in case.contenders if found[contender.name]]
    for row in rows:
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
        row["floor"] = floor(name, case, plan, device, row["contender"] != _CACHED.name)
        answers = list(zip(row.pop("tokens"), found[rows[0]["contender"]][0]["tokens"], strict=True))
        row["answers"], row["equal"] = len(answers), sum(theirs == mine for theirs, mine in answers)
    lost = [{"contender": who, "failed": why} for who, why in failed.items() if not found[who]]
    return rows + lost


def floor(name: str, case: Case, plan: Plan, device: Mapping[str, Any], encodes: bool) -> float:
    """Returns the seconds that the device needs for the products and reads of the work alone; 0 where not known."""
    size = SIZES[plan.size]
    if case.trains:
        return step_flops(size, name, case.rows, encodes) / device["matmul_peak"] / case.unit
    if case.once:
        return 0.0
    return decoding_floor(size, case.rows, plan.precision, device["matmul_peak"], device["read_peak"]) / case.unit


def row_of(contender: Contender, case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns a contender's medians."""
    return {
        "contender": contender.name,
        "seconds": statistics.median(statistics.median(one["seconds"]) for one in runs) / case.unit,
        "cpu": statistics.median(statistics.median(one["cpu"]) for one in runs) / case.unit,
        "first": statistics.median(one["first"] for one in runs),
        "started": statistics.median(one["started"] for one in runs),
        "peak_gib": statistics.median(one["peak_gib"] for one in runs),
        "trainable": runs[0]["trainable"],
        "tokens": runs[0]["tokens"],
    }


def show(told: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints a case's table."""
    table = Table(
        "contender", "seconds", "times ours", "of the best possible", "CPU s", "peak GiB", "first step s", title=told
    )
    for row in rows:
        if "failed" in row:
            table.add_row(row["contender"], f"failed: {row['failed']}")
            continue
        wrong = row["answers"] - row["equal"]
        table.add_row(
            row["contender"] + (f" ({wrong} of {row['answers']} answers differ)" if wrong else ""),
            f"{row['seconds']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['floor'] / row['seconds']:.0%}" if row["floor"] else "",
            f"{row['cpu']:.3f}",
            f"{row['peak_gib']:.2f}",
            f"{row['started']:.1f}",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure mmtune beside its peers.")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="what to measure; all of it where none is named")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="sizes of the model")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of all contenders")
    parser.add_argument("--pictures", type=int, help="pictures of a training step")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender, in turns")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements in a process")
    parser.add_argument("--limit", type=float, help="seconds after which a process is ended and counts as failed")
    parser.add_argument("--peers", default=sys.executable, help="Python with torch, transformers and peft")
    parser.add_argument("--json", type=Path, help="write all rows here")
    parser.add_argument("--chart", type=Path, help="draw them here, as .svg or .png")
    options = parser.parse_args(arguments)
    console = Console()
    found = machine(options.precision)
    console.print(f"{described(found)}: {peaks_of(found)}")
    results: dict[str, Any] = found | {"size": options.size, "cases": {}}
    measured: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        plan = Plan(
            options.size,
            options.precision,
            options.rounds,
            options.repetitions,
            options.peers,
            options.limit,
            Path(place),
        )
        for name in options.cases or CASES:
            case = case_of(name, options.pictures, found["device"])
            rows = run(name, case, plan, found, console)
            show(case.told, rows, console)
            results["cases"][name] = rows
            measured[case.told] = [row for row in rows if "failed" not in row]
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
            if options.chart:
                title = f"{options.size}, {described(found)}: seconds and peak memory, less is better"
                write_drawing(options.chart, draw_speed(title, {told: rows for told, rows in measured.items() if rows}))


if __name__ == "__main__":
    main()
