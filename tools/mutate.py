"""Mutation testing: puts single faults into a copy of the project and runs the tests that should notice.

`python -m tools.mutate` runs every mutant of `mutants.toml`, `python -m tools.mutate 'clip*'` those of a name. The exit
status is 0 when every mutant was killed.
"""

import contextlib
import fnmatch
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("mutants.toml")
SECONDS = 120

KILLED, SURVIVED, TIMED_OUT, INVALID = "killed", "survived", "timed out", "invalid"


@dataclass(frozen=True)
class Mutant:
    """A single fault.

    Attributes:
        name: Unique in the list.
        file: The file it is put into, from the root of the project.
        old, new: The text that is replaced, which occurs exactly once, and what replaces it.
        tests: Files or node ids of pytest: at least one of these tests should fail.
        why: What a user would get.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def problem(self, root: Path) -> str | None:
        """Returns why the mutant does not fit the project any more, None when it does."""
        file = root / self.file
        if not file.is_file():
            return f"{self.file}: there is no such file"
        if (count := file.read_text().count(self.old)) != 1:
            return f"{self.file}: expected the old text once, it occurs {count} times"
        if self.new == self.old:
            return "the new text is the old one"
        if not self.tests:
            return "it names no tests"
        return next((f"{test}: there is no such test" for test in self.tests if not _exists(root, test)), None)


@dataclass(frozen=True)
class Result:
    """What became of a mutant: one of `KILLED`, `SURVIVED`, `TIMED_OUT`, `INVALID`, and the failed test or reason."""

    mutant: Mutant
    status: str
    detail: str = ""
    seconds: float = 0.0


def read_mutants(file: Path = LIST) -> list[Mutant]:
    """Returns the mutants of a list, in its order."""
    return [Mutant(**(entry | {"tests": tuple(entry["tests"])})) for entry in tomllib.loads(file.read_text())["mutant"]]


def run_mutants(mutants: Sequence[Mutant], root: Path = ROOT, seconds: float = SECONDS) -> Iterator[Result]:
    """Yields the result of each mutant, one at a time, in a temporary copy of the project.

    All named tests run without any mutant first. A mutant whose tests fail then is invalid: nothing follows from them.

    Args:
        mutants: What to run.
        root: The project; it is never changed.
        seconds: Limit of each mutant's tests.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "copy"
        _copy(root, copy)
        valid = [mutant for mutant in mutants if mutant.problem(root) is None]
        sets = {mutant.tests for mutant in valid}
        tests = sorted({test for each in sets for test in each})
        failed, output = _failures(copy, tests, seconds * len(sets))
        for mutant in mutants:
            problem = mutant.problem(root)
            if problem is None and failed is None:
                problem = f"its tests do not run without the mutant: {output}"
            for node in failed or ():
                if problem is None and any(_within(node, test) for test in mutant.tests):
                    problem = f"{node} fails without the mutant"
            yield Result(mutant, INVALID, problem) if problem is not None else _run(mutant, copy, seconds)


def _run(mutant: Mutant, copy: Path, seconds: float) -> Result:
    file = copy / mutant.file
    before, started = file.read_text(), time.perf_counter()
    _write(file, before.replace(mutant.old, mutant.new))
    try:
        code, output = _pytest(copy, ["-x", *mutant.tests], seconds)
    finally:
        _write(file, before)
    took = time.perf_counter() - started
    if code is None:
        return Result(mutant, TIMED_OUT, f"after {seconds:g} s", took)
    if code == 0:
        return Result(mutant, SURVIVED, "", took)
    if code in (4, 5):  # of pytest: a wrong name, or no tests
        return Result(mutant, INVALID, _last_line(output), took)
    return Result(mutant, KILLED, next(iter(_failed(output)), _last_line(output)), took)


def _copy(root: Path, copy: Path) -> None:
    """Copies the files that git knows or would add, and links the packages that lie outside of their parent."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    settings = tomllib.loads((copy / "pyproject.toml").read_text())
    packages = settings.get("tool", {}).get("setuptools", {}).get("package-dir", {})
    for package, folder in packages.items():
        if "." in package:  # or the editable install would give the original
            (copy / package.replace(".", "/")).symlink_to(copy / folder)
        code = f"import {package} as p, pathlib; print(pathlib.Path(p.__file__).resolve())"
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=copy, env=_environment(copy), capture_output=True, text=True, check=True
        )
        if not Path(found.stdout.strip()).is_relative_to(copy.resolve()):
            raise SystemExit(f"{package} is imported from {found.stdout.strip()}, not from the copy")


def _failures(copy: Path, tests: Sequence[str], seconds: float) -> tuple[list[str] | None, str]:
    """Returns the tests that fail without a mutant, or None where they do not run and what pytest says."""
    if not tests:
        return [], ""
    code, output = _pytest(copy, tests, seconds)
    if code is None:
        return None, f"more than {seconds:g} s"
    failed = _failed(output)
    return (failed, "") if code == 0 or (code == 1 and failed) else (None, _last_line(output))


def _pytest(copy: Path, words: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Returns pytest's exit status, None after the limit, and its output."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--tb=no", "-rfE", *words]
    # Into a file: a process that a test leaves behind would hold a pipe open beyond the limit.
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            command, cwd=copy, env=_environment(copy), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        return code, output.read()


def _environment(copy: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(copy), os.environ.get("PYTHONPATH")]))}


def _write(file: Path, text: str) -> None:
    """Writes a module. A compiled file of the same second and size would be taken for it."""
    file.write_text(text)
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def _failed(output: str) -> list[str]:
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)


def _last_line(output: str) -> str:
    return next((line for line in reversed(output.splitlines()) if line.strip()), "no output")


def _within(node: str, test: str) -> bool:
    """Whether a failed test is one of those that a name stands for."""
    return node == test or node.startswith((f"{test}::", f"{test}["))


def _exists(root: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    file = root / name
    if not function or not file.is_file():
        return file.is_file()
    return re.search(rf"^def {re.escape(function.partition('[')[0])}\(", file.read_text(), re.MULTILINE) is not None


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names or patterns; none: all mutants.")] = None,
    file: Annotated[str, typer.Option(help="Only mutants of files that match this pattern.")] = "*",
    seconds: Annotated[float, typer.Option(help="Limit of each mutant's tests.")] = SECONDS,
    listed: Annotated[bool, typer.Option("--list", help="List the mutants and run nothing.")] = False,
) -> None:
    """Runs mutants one at a time; the exit status is 1 unless every one is killed."""
    mutants = read_mutants()
    for name in names or ():
        if not any(fnmatch.fnmatchcase(mutant.name, name) for mutant in mutants):
            raise typer.BadParameter(f"no mutant is called '{name}': --list shows all")
    chosen = [
        mutant
        for mutant in mutants
        if fnmatch.fnmatchcase(mutant.file, file)
        and (not names or any(fnmatch.fnmatchcase(mutant.name, name) for name in names))
    ]
    if listed:
        for mutant in chosen:
            typer.echo(f"{mutant.name:<42}{mutant.file:<36}{mutant.why}")
        return
    results = []
    for result in run_mutants(chosen, seconds=seconds):
        results.append(result)
        typer.echo(f"{result.status:<10}{result.seconds:6.1f} s  {result.mutant.name:<42}{result.detail}")
    counts = Counter(result.status for result in results)
    told = ", ".join(f"{counts[status]} {status}" for status in (KILLED, SURVIVED, TIMED_OUT, INVALID))
    typer.echo(f"{len(results)} mutants: {told}")
    raise typer.Exit(any(result.status != KILLED for result in results))


if __name__ == "__main__":
    typer.run(main)
