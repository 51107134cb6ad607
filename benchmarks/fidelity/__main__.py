"""Asks the findings that are named, or all of them, and then writes the page."""

import argparse
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.fidelity.catalogue import FINDINGS, reason
from benchmarks.fidelity.finding import versioned
from benchmarks.fidelity.page import render, row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fidelity.md"
_PACKAGES = (
    "keras",
    "keras-hub",
    "jax",
    "transformers",
    "torch",
    "peft",
    "pycocotools",
    "pycocoevalcap",
    "supervision",
)


def main() -> int:
    """Returns 1 if mmtune is wrong somewhere; the page is written nevertheless."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description="Ask peers, references and us.")
    parser.add_argument("names", nargs="*", choices=[[], *FINDINGS], metavar="NAME", help=f"of {', '.join(FINDINGS)}")
    names = parser.parse_args().names
    os.environ.setdefault("KERAS_BACKEND", "jax")
    findings = {}
    for name in names or FINDINGS:
        started = time.perf_counter()
        found = findings[name] = FINDINGS[name]()
        print(f"{row(name, found)}  in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if names:
            print(f"{reason(FINDINGS[name])}", file=sys.stderr)
    if not names:
        python = f"Python {platform.python_version()}"
        setting = ", ".join([python, *map(versioned, _PACKAGES)]) + "; float32 on a CPU, without TensorFlow"
        PAGE.write_text(render(findings, date.today(), setting), encoding="utf-8")
    wrong = [name for name, found in findings.items() if not found.right(found.ours)]
    if wrong:
        print(f"mmtune is not where the reference is: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
