"""The run's log: a CSV that grows as the run goes, TensorBoard and Weights & Biases where they are installed."""

import csv
import importlib.util
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmtune.distributed.processes import is_main_process
from mmtune.files import atomic, write_text
from mmtune.run_files import LOG, WANDB

COLUMNS = ("step", "epoch", "loss", "learning_rate", "seconds", "examples_per_second", "gradient_norm")


def metric_names(columns: Iterable[str]) -> tuple[str, ...]:
    """Returns the columns of a log that are metrics."""
    return tuple(name for name in columns if name not in COLUMNS)


class CsvLog:
    """Rows by step; a resumed run cuts off what lies behind its checkpoint.

    Args:
        file: `log.csv` of the run.
        metrics: Names of the metrics, which become the last columns.
        step: Rows of later steps are cut off.
    """

    def __init__(self, file: Path, metrics: tuple[str, ...], step: int = 0):
        self.columns = (*COLUMNS, *metrics)
        rows = []
        if file.is_file():
            with file.open(newline="") as old:
                rows = [
                    row for row in csv.DictReader(old) if (row["step"] or "x").isdigit() and int(row["step"]) <= step
                ]
        with atomic(file) as temporary, temporary.open("w", newline="") as new:
            writer = csv.DictWriter(new, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self._file = file.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self.columns, extrasaction="ignore")

    def write(self, values: Mapping[str, Any]) -> None:
        """Appends a row and flushes it; columns without a value stay empty."""
        self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardLog:
    """Event files for TensorBoard, through `tensorboardX` where it is installed."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(folder))

    def write(self, values: Mapping[str, Any]) -> None:
        """Adds each number at the row's step."""
        for name, value in values.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, int(values["step"]))

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


class WandbLog:
    """A Weights & Biases run, where `wandb` is installed and a project is named by WANDB_PROJECT."""

    def __init__(self, folder: Path):
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(dir=str(folder), resume="allow", id=wandb_id(folder), name=folder.resolve().name)

    def write(self, values: Mapping[str, Any]) -> None:
        """Logs the row."""
        self._run.log(dict(values), step=int(values["step"]))

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def wandb_id(folder: Path) -> str:
    """Returns the id of a run at Weights & Biases: drawn once, so that folders of one name do not share a run.

    A resumed run has the id that lies in its folder, also where that was moved.
    """
    file = folder / WANDB
    if not file.is_file():
        write_text(file, f"{secrets.token_hex(8)}\n")
    return file.read_text(encoding="utf-8").strip()


class Logs:
    """All logs of a run behind one `write`. A log that cannot be written is said once and does not end the run.

    Args:
        folder: The run's.
        metrics, step: As of `CsvLog`.
        say: Takes a line about what went wrong.
    """

    def __init__(
        self, folder: Path, metrics: tuple[str, ...], step: int = 0, say: Callable[[str], None] = lambda _: None
    ):
        self._folder, self._say, self._failed = folder, say, False
        self._logs: list[Any] = []
        if not is_main_process():
            return
        self._logs = [CsvLog(folder / LOG, metrics, step)]
        if importlib.util.find_spec("tensorboardX") is not None:
            self._logs.append(TensorBoardLog(folder / "tensorboard"))
        if importlib.util.find_spec("wandb") is not None and os.environ.get("WANDB_PROJECT"):
            self._logs.append(WandbLog(folder))

    def write(self, values: Mapping[str, Any]) -> None:
        """Writes a row, keyed by column, to every log."""
        for log in self._logs:
            self._try(lambda log=log: log.write(values))

    def close(self) -> None:
        """Closes every log."""
        for log in self._logs:
            self._try(log.close)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if not self._failed:
                self._say(f"{self._folder}: the log cannot be written: {error.strerror}; the training goes on")
            self._failed = True
