"""Speed and memory beside the peers: `python -m benchmarks [CASE ...] [--size mini] [--rounds 3] [--json FILE]`.

Every contender runs in a process of its own, one after the other, in turns; what is shown is the median of all rounds.
KerasHub runs in the environment at hand; transformers and PEFT where they are installed: there, or in the environment
whose Python is given by `--peers`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.chart import draw_speed
from benchmarks.speed.measuring import MALLOC
from benchmarks.speed.sizes import SIZES, write_data
from mmtune.sharding.canvas import write_drawing

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Contender:
    """Who does the work, and how.

    Attributes:
        name: As the table shows it.
        program: "ours", "kerashub" or "transformers_peft".
        option: What the program makes of it.
        malloc: Whether glibc's malloc is given the settings that our commands begin with.
    """

    name: str
    program: str
    option: str = ""
    malloc: bool = False


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        told: As the table shows it.
        rows: Pictures.
        unit: What of a repetition is shown: its seconds divided by so many.
        contenders: The first is ours, to which the others are compared.
        once: Whether it is so long that one round and one repetition are enough.
    """

    told: str
    rows: int
    unit: int
    contenders: tuple[Contender, ...]
    once: bool = False


_OURS = Contender("mmtune", "ours", "live", malloc=True)
_CACHED = Contender("mmtune, image tokens kept", "ours", "cached", malloc=True)
_HUB = Contender("KerasHub fit", "kerashub", "ships")
_HUB_BEST = Contender("KerasHub fit, decoder's LoRA, no metric", "kerashub", "best")
_HUB_MALLOC = Contender("the same with our malloc settings", "kerashub", "best", malloc=True)
_TORCH = Contender("transformers + PEFT", "transformers_peft", "ships")
_TORCH_BEST = Contender("transformers + PEFT, logits_to_keep", "transformers_peft", "best")
_HUB_FULL = Contender("KerasHub fit, no metric", "kerashub", "best")
_TORCH_FULL = Contender("transformers", "transformers_peft", "ships")
_TORCH_FULL_BEST = Contender("transformers, logits_to_keep", "transformers_peft", "best")
_SMALL = Contender("KerasHub fit, batches of 4", "kerashub", "small batches")
_TORCH_SMALL = Contender("transformers + PEFT, batches of 4", "transformers_peft", "small batches")
_DECODING = (_OURS, Contender("KerasHub generate", "kerashub"), Contender("transformers generate", "transformers_peft"))

CASES = {
    "lora": Case("LoRA step, 4 pictures", 4, 1, (_CACHED, _OURS, _HUB, _HUB_BEST, _HUB_MALLOC, _TORCH, _TORCH_BEST)),
    "captions": Case(
        "five captions a picture, 4 pictures, a caption", 4, 20, (_CACHED, _OURS, _HUB_BEST, _SMALL, _TORCH_SMALL)
    ),
    "full": Case("full tuning step, 4 pictures", 4, 1, (_OURS, _HUB_FULL, _TORCH_FULL, _TORCH_FULL_BEST)),
    "decode1": Case("32 tokens, 1 picture", 1, 1, _DECODING),
    "decode8": Case("32 tokens each, 8 pictures", 8, 1, _DECODING),
    "mixed": Case(
        "200 pictures, prompts of 4 to 40 and answers of up to 64 tokens, 8 at once", 200, 1, _DECODING, True
    ),
}


def command(contender: Contender, case: str, size: str, folder: Path, data: Path, repetitions: int, peers: str) -> Any:
    """Returns what runs a contender."""
    rest = [str(data), str(time.time()), str(repetitions)]
    if contender.program == "transformers_peft":
        file = ROOT / "benchmarks" / "speed" / "transformers_peft.py"
        return [peers, str(file), case, contender.option, str(folder), *rest]
    return [sys.executable, "-m", f"benchmarks.speed.{contender.program}", case, contender.option, size, *rest]


def ours(*words: str) -> str:
    """Runs one of the small programs of `benchmarks.speed.ours` and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.ours", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def run(name: str, size: str, rounds: int, repetitions: int, peers: str, console: Console) -> list[dict[str, Any]]:
    """Returns a row a contender: its medians, over ours where that is a ratio."""
    case = CASES[name]
    found: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in case.contenders}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder / "data.npz", SIZES[size], case.rows)
        if any(contender.program == "transformers_peft" for contender in case.contenders):
            ours("export", size, place, name)
        if case.once:
            rounds, repetitions = 1, 1
        for number in range(rounds):
            for contender in case.contenders:
                console.print(f"{case.told}: {contender.name}, round {number + 1} of {rounds}", style="dim")
                words = command(contender, name, size, folder, folder / "data.npz", repetitions, peers)
                environment = os.environ | (MALLOC if contender.malloc else {})
                done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    console.print(f"{contender.name} failed: {done.stderr.strip().splitlines()[-1:]}", style="red")
                    continue
                found[contender.name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    rows = [row_of(contender, case, found[contender.name]) for contender in case.contenders if found[contender.name]]
    for row in rows:
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
        answers = list(zip(row.pop("tokens"), found[rows[0]["contender"]][0]["tokens"], strict=True))
        row["answers"], row["equal"] = len(answers), sum(theirs == mine for theirs, mine in answers)
    return rows


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
        "flops": runs[0]["flops"] / case.unit,
        "tokens": runs[0]["tokens"],
    }


def show(name: str, rows: Sequence[dict[str, Any]], peak: float, console: Console) -> None:
    """Prints a case's table."""
    table = Table("contender", "seconds", "CPU s", "times ours", "peak GiB", "first step s", title=CASES[name].told)
    for row in rows:
        share = f" ({row['flops'] / row['seconds'] / peak:.0%} of matmul peak)" if row["flops"] and peak else ""
        wrong = row["answers"] - row["equal"]
        table.add_row(
            row["contender"] + (f" ({wrong} of {row['answers']} answers differ)" if wrong else ""),
            f"{row['seconds']:.3f}{share}",
            f"{row['cpu']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_gib']:.2f}",
            f"{row['started']:.1f}",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure mmtune beside its peers.")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="what to measure; all of it where none is named")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="sizes of the model")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender, in turns")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements in a process")
    parser.add_argument("--peers", default=sys.executable, help="Python with torch, transformers and peft")
    parser.add_argument("--json", type=Path, help="write all rows here")
    parser.add_argument("--chart", type=Path, help="draw them here, as .svg or .png")
    options = parser.parse_args(arguments)
    console = Console()
    peak = float(ours("peak"))
    console.print(f"matmul peak: {peak / 1e9:.0f} GFLOP/s, float32, {os.cpu_count()} cores")
    results: dict[str, Any] = {"matmul_peak": peak, "cores": os.cpu_count(), "size": options.size, "cases": {}}
    for name in options.cases or CASES:
        rows = run(name, options.size, options.rounds, options.repetitions, options.peers, console)
        show(name, rows, peak, console)
        results["cases"][name] = rows
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
        if options.chart:
            title = f"{options.size}, float32, {os.cpu_count()} cores: seconds and peak memory, less is better"
            write_drawing(options.chart, draw_speed(title, {CASES[n].told: r for n, r in results["cases"].items()}))


if __name__ == "__main__":
    main()
