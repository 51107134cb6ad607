"""Fine-tuning from the page: a run is `mmtune train` in a process of its own, in a folder as it always is."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.cli.exercises import EXERCISES, SETTINGS
from mmtune.data.confinement import OPTION
from mmtune.data.images import LIMIT
from mmtune.errors import UsageError, unknown_name
from mmtune.registry import task_class
from mmtune.reporting import read_metrics
from mmtune.reports.log_curves import read_log
from mmtune.run_files import ADAPTER, LOG, METRICS, RECIPE, TRAINED
from mmtune.run_lock import holder
from mmtune.training.log import metric_names

from .data_check import Checked, DataCheck
from .limits import LIMITS, Limits
from .uploads import safe_name, unpacked

_OUTPUT = "output.txt"
_MOST_CHECKS = 2  # at once
_STOPPING = 20  # seconds that a process has to end by itself
_ENDED = (0, *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)))  # a run that was stopped
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # as XLA says it
_TOLD = 600  # characters of a failed run's last words


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as it is asked for on the page.

    Attributes:
        task, model: As in the recipe.
        data: Address of the training data.
        val: Share of it that is held back.
        steps, batch_size: As in the recipe.
        learning_rate: 0 leaves it to the recipe.
        lora_rank: Rank of the adapter.
    """

    task: str
    data: str
    model: str = "tiny"
    val: float = 0.2
    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 0.0
    lora_rank: int = 8

    def __post_init__(self) -> None:
        task_class(self.task)
        for name, low, high in (("steps", 1, 100_000), ("batch_size", 1, 256), ("lora_rank", 1, 256)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(f"{name}: expected a whole number from {low} to {high}")
            if value != int(value):
                raise UsageError(f"{name}: expected a whole number, got {value}")
        for name, high in (("val", 0.9), ("learning_rate", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise UsageError(f"{name}: expected a number from 0 to {high}")

    def words(self, out: Path) -> list[str]:
        """Returns the command line behind `mmtune` that runs it into a folder."""
        words = ["train", "--task", self.task, "--data", self.data, "--model", self.model, "--out", str(out)]
        words += ["--val", f"{self.val:g}"] if self.val else []
        words += ["--steps", str(int(self.steps)), "--batch-size", str(int(self.batch_size))]
        words += ["--lora-rank", str(int(self.lora_rank))]
        settings = ["log_every=5", f"lora.alpha={2 * int(self.lora_rank)}"]
        settings += [f"optimizer.learning_rate={self.learning_rate:g}"] if self.learning_rate else []
        return [*words, "--set", *settings, *_taught(self.model, self.task)]


def _taught(model: str, task: str) -> list[str]:
    """Returns the settings by which `mmtune quickstart` teaches the embedded model; the rate is the plan's own."""
    if model != "tiny" or task not in EXERCISES:
        return []
    recipe = SETTINGS | EXERCISES[task].settings
    values = [
        (f"{part}.{key}", value) for part in ("optimizer", "options") for key, value in recipe.get(part, {}).items()
    ]
    return [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values
        if key != "optimizer.learning_rate"
    ]


def suggested(task: str, data: str, model: str, records: int) -> Plan:
    """Returns a plan with sensible values.

    Args:
        task, data, model: As in `Plan`.
        records: How many examples there are: each is seen about ten times, within bounds that a visitor waits for.
    """
    steps = min(max(10 * records // 8, 60), 480)
    if model == "tiny":
        taught = SETTINGS | (EXERCISES[task].settings if task in EXERCISES else {})
        rate, rank = taught["optimizer"]["learning_rate"], taught["lora"].rank
        return Plan(task=task, data=data, model=model, steps=steps, learning_rate=rate, lora_rank=rank)
    return Plan(task=task, data=data, model=model, steps=steps)


class Trainer:
    """Runs and data sets of a server. One run is trained at a time.

    Args:
        folder: Where runs go, and uploads below `data`.
        data: Data sets that the operator offers: addresses by name.
        limits: Sizes of uploads.
    """

    def __init__(self, folder: Path, data: Mapping[str, str], limits: Limits = LIMITS):
        self.folder = folder
        self._data = dict(data)
        self._limits = limits
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._running = ""
        self._stopped: set[str] = set()
        self._checks: list[DataCheck] = []
        self._commands: dict[str, str] = {}

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(self._data)

    def upload(self, files: Sequence[str | Path]) -> str:
        """Takes in a data set and returns its name.

        Raises:
            DataError: When it is too large or no zip.
        """
        stem = safe_name(Path(files[0]).stem) if len(files) == 1 else "upload"
        with self._lock:
            name = _free(stem, [*self._data, *_names(self.folder / "data")])
            folder = unpacked(files, self.folder / "data" / name, self._limits)
            # The address says it, so that it holds for the run's process, its recipe, and the command that is shown.
            self._data[name] = f"{folder}?{OPTION}=1"
        return name

    def address(self, name: str) -> str:
        """Returns what a data set is read by.

        Raises:
            UsageError: When it is none of ours.
        """
        if not isinstance(name, str) or name not in self._data:
            raise UsageError(unknown_name("data set", str(name)[:100], self._data))
        return self._data[name]

    def check(self, name: str, task: str, out: Path) -> Checked:
        """Looks a data set over for a task and draws overlays into a folder, in a process of its own.

        Raises:
            DataError: When it cannot be read, nothing in it can be used, or it takes too much time or memory.
            UsageError: When other data sets are being looked over.
        """
        task_class(task)
        with self._lock:
            if len(self._checks) >= _MOST_CHECKS:
                raise UsageError("busy: other data sets are being looked over; try again in a moment")
            check = DataCheck(self.address(name), task, out, self._limits)
            self._checks.append(check)
        try:
            return check.result()
        finally:
            with self._lock:
                self._checks.remove(check)

    def cancel_checks(self) -> None:
        """Ends the checks that are under way."""
        with self._lock:
            for check in self._checks:
                check.cancel()

    def command(self, plan: Plan) -> str:
        """Returns the command line that does the same as `start`."""
        return shlex.join(["mmtune", *plan.words(self.folder / self._name(plan, ""))])

    def ended(self, name: str) -> Path:
        """Returns the folder of a run that has ended.

        Raises:
            UsageError: When it has not, or is none of ours.
        """
        if self.status(name)["state"] != "done":
            raise UsageError(f"{name} has not ended: there is no model yet")
        return self.folder / name

    def start(self, plan: Plan, name: str = "") -> str:
        """Starts a run and returns its name.

        Raises:
            UsageError: When one is running already.
        """
        with self._lock:
            name = self._name(plan, name)
            self._launch(name, plan.words(self.folder / name))
        return name

    def resume(self, name: str) -> str:
        """Goes on with a run that was stopped.

        Raises:
            UsageError: When it is none of ours, has ended, or another one is running.
        """
        with self._lock:
            if self.status(name)["state"] == "done":
                raise UsageError(f"{name} has ended: there is nothing to go on with")
            if not (self.folder / name / RECIPE).is_file():
                raise UsageError(f"{name} was stopped before it had begun: start it anew")
            self._launch(name, ["train", "--out", str(self.folder / name), "--resume"])
        return name

    def stop(self, name: str) -> None:
        """Ends a run's process; what it had saved stays, and it can be resumed.

        Raises:
            UsageError: When it is not running.
        """
        with self._lock:
            process = self._process
            if name != self._running or process is None or process.poll() is not None:
                raise UsageError(f"{str(name)[:100]} is not running")
            self._stopped.add(name)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def status(self, name: str) -> dict[str, Any]:
        """Returns {"run", "state", "step", "steps", "loss", "metrics", "command", "message"}.

        The state is "running", "stopped", "failed" or "done"; the message is a failed run's last words.

        Raises:
            UsageError: When it is none of ours.
        """
        if not isinstance(name, str) or name not in (*_names(self.folder), *self._commands):
            raise UsageError(unknown_name("run", str(name)[:100], _names(self.folder)))
        folder = self.folder / name
        log = read_log(folder / LOG)
        state = self._state(name)
        losses = log.get("loss", [])
        return {
            "run": name,
            "state": state,
            "step": int(max((points[-1][0] for points in log.values()), default=0)),
            "steps": self._steps(folder),
            "loss": losses[-1][1] if losses else None,
            "metrics": {metric: log[metric][-1][1] for metric in metric_names(log)},
            "command": self._commands.get(name, f"mmtune train --out {shlex.quote(str(folder))} --resume"),
            "message": self._last_words(name) if state == "failed" else "",
        }

    def runs(self) -> tuple[str, ...]:
        """Names of the runs in the folder, the newest first."""
        names = [name for name in _names(self.folder) if (self.folder / name / RECIPE).is_file()]
        return tuple(sorted(names, key=lambda name: -(self.folder / name / RECIPE).stat().st_mtime))

    def close(self) -> None:
        """Ends what is running."""
        self.cancel_checks()
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self.stop(self._running)

    def _name(self, plan: Plan, name: str) -> str:
        return _free(safe_name(name or plan.task), _names(self.folder))

    def _launch(self, name: str, words: list[str]) -> None:
        if self._process is not None and self._process.poll() is None:
            raise UsageError(f"busy: {self._running} is being trained; stop it, or wait until it has ended")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stopped.discard(name)
        self._running = name
        self._commands[name] = shlex.join(["mmtune", *words])
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120", LIMIT: str(self._limits.most_pixels)}
        with self._output(name).open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mmtune.demos.train_process", *words],
                stdin=subprocess.PIPE,  # closed when this process ends, whatever way: the run is stopped by that
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _state(self, name: str) -> str:
        process = self._process if name == self._running else None
        folder = self.folder / name
        if (process is not None and process.poll() is None) or holder(folder) is not None:
            return "running"
        if (folder / ADAPTER).is_file() or (folder / TRAINED).is_file():
            return "done"
        if process is not None and process.returncode not in _ENDED and name not in self._stopped:
            return "failed"
        return "stopped"

    def _steps(self, folder: Path) -> int | None:
        from mmtune.recipe import read_recipe

        return read_recipe(folder / RECIPE, {}, []).steps if (folder / RECIPE).is_file() else None

    def _output(self, name: str) -> Path:
        return self.folder / f".{name}.{_OUTPUT}"

    def _last_words(self, name: str) -> str:
        file = self._output(name)
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if _NO_MEMORY in text:
            return (
                "the accelerator's memory is full. The page's models and this run share it: choose a smaller batch or "
                "model, or train from the command line while the page is closed."
            )
        return text.strip()[-_TOLD:]


def final_metrics(folder: Path) -> dict[str, float]:
    """Returns the numbers of a run's metrics.json, none where there is none yet."""
    found = read_metrics(folder / METRICS)
    table = found.get("metrics", found)
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name != "data"]


def _free(name: str, taken: Sequence[str]) -> str:
    number, free = 1, name
    while free in taken or free == "data":
        number += 1
        free = f"{name}-{number}"
    return free
