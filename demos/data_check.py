"""A data set looked over in a process of its own, whose time and memory are bounded and which can be ended.

    python -m mmtune.demos.data_check ADDRESS TASK OUT SECONDS BYTES

The last line of standard output is JSON: {"records", "usable", "lines", "overlays"} or {"problem"}.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.data.images import LIMIT
from mmtune.errors import DataError, MmtuneError

from .limits import LIMITS, Limits


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        records: How many there are.
        usable: How many of them the task can use.
        lines: The report.
        overlays: Pictures with the decoded targets, without the contact sheet.
    """

    records: int
    usable: int
    lines: tuple[str, ...]
    overlays: tuple[Path, ...]


class DataCheck:
    """The process that looks a data set over; it has begun.

    Args:
        address: Of the data set.
        task: Name of the task.
        out: Folder for overlays.
        limits: Time and memory.
    """

    def __init__(self, address: str, task: str, out: Path, limits: Limits = LIMITS):
        self._limits, self._cancelled = limits, False
        words = [address, task, str(out), str(limits.check_seconds), str(limits.check_memory)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmtune.demos.data_check", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {LIMIT: str(limits.most_pixels), "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def result(self) -> Checked:
        """Waits for the end and returns what was found.

        Raises:
            DataError: When the data cannot be used, takes too long or too much memory, or the check was cancelled.
        """
        try:
            said, _ = self._process.communicate(timeout=self._limits.check_seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            seconds = f"{self._limits.check_seconds:,} seconds"
            raise DataError(f"looking it over took longer than {seconds}: give a part of it") from None
        finally:
            self._kill()
        if self._cancelled:
            raise DataError("the check was cancelled")
        lines = said.decode(errors="replace").splitlines()
        try:
            found = json.loads(lines[-1])
        except (IndexError, ValueError):
            raise DataError(_too_much(self._limits.check_memory)) from None
        if "problem" in found:
            raise DataError(found["problem"])
        overlays = tuple(map(Path, found["overlays"]))
        return Checked(found["records"], found["usable"], tuple(found["lines"]), overlays)

    def cancel(self) -> None:
        """Ends the process; whoever waits for the result is told."""
        self._cancelled = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def found_in(address: str, task: str, out: Path) -> dict[str, Any]:
    """Returns what the process prints about a data set."""
    from mmtune.data.check import check
    from mmtune.data.read import read
    from mmtune.registry import task_class

    adapter = task_class(task)
    dataset = read(address, task=task)
    report = check(dataset, adapter(dataset.classes), out if adapter.needs_picture else None)
    if not report.usable:
        why = f": {report.faults[0].problem}" if report.faults else ""
        return {"problem": f"none of {report.records} records can be used for {task}{why}"}
    return {
        "records": report.records,
        "usable": report.usable,
        "lines": replace(report, overlays=()).lines(),  # they are shown, not named
        "overlays": [str(file) for file in report.overlays[:-1]],
    }


def main(address: str, task: str, out: str, seconds: str, memory: str) -> None:
    """Bounds this process, looks a data set over, and prints what was found."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * int(seconds), 2 * int(seconds)))
    try:
        found = found_in(address, task, Path(out))
    except MmtuneError as error:
        found = {"problem": str(error)}
    except MemoryError:
        found = {"problem": _too_much(int(memory))}
    print("\n" + json.dumps(found))


def _too_much(memory: int) -> str:
    return f"looking it over takes more than {memory / 2**30:.0f} GiB of memory: give a part of it, or smaller pictures"


if __name__ == "__main__":
    main(*sys.argv[1:])
