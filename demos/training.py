"""Fine-tuning from the page: a run is `mmtune train` in a process of its own, in a folder as it always is."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmtune.data.confinement import OPTION
from mmtune.data.images import LIMIT
from mmtune.data.read import parse_address
from mmtune.distributed.cluster_env import COUNT
from mmtune.errors import DataError, MmtuneError, UsageError, unknown_name
from mmtune.registry import task_class
from mmtune.reporting import read_metrics
from mmtune.reports.log_curves import read_log
from mmtune.run_files import ADAPTER, LOG, METRICS, RECIPE, TRAINED
from mmtune.run_lock import holder
from mmtune.training.log import metric_names

from .data_check import Checked, DataCheck
from .limits import LIMITS, Limits
from .path_names import PathNames, path_name
from .plan import Plan
from .upload_store import UploadStore, free_name
from .uploads import safe_name

_OUTPUT = "output.txt"
_OWNER = "owner"
_MOST_CHECKS = 2  # at once
_STOPPING = 20  # seconds that a process has to end by itself
_ENDED = (0, *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)))  # a run that was stopped
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # as XLA says it
_TOLD = 600  # characters of a failed run's last words


class Trainer:
    """Runs and data sets of a server, each visitor's own. One run is trained at a time.

    The operator's data sets are everybody's. The operator's runs, those that no visitor of this folder started, are
    shown to all visitors of a page that only its owner reaches, and to nobody else. There, all runs that were in the
    folder when the server began are the operator's.

    Args:
        folder: Where runs go, and uploads below `data`.
        data: Data sets that the operator offers: addresses by name.
        limits: What is taken from visitors.
        alone: Whether only the owner of this machine reaches the page.
        names: What folders of the server are called.
    """

    def __init__(
        self,
        folder: Path,
        data: Mapping[str, str],
        limits: Limits = LIMITS,
        *,
        alone: bool = True,
        names: PathNames | None = None,
    ):
        self.folder = folder
        self.names = names or PathNames()
        self._data = dict(data)
        self._limits = limits
        self._alone = alone
        self._earlier = frozenset(_names(folder))
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._running = self._in_use = ""
        self._stopped: set[str] = set()
        self._checks: list[tuple[str, DataCheck]] = []
        self._checked: list[str] = []
        self._commands: dict[str, str] = {}
        for file in folder.glob(f".*.{_OWNER}"):  # of a run that was removed, or never began
            if not (folder / file.name.removeprefix(".").removesuffix(f".{_OWNER}")).is_dir():
                file.unlink(missing_ok=True)
        self.names.add(folder, "")
        for name, address in self._data.items():
            target = parse_address(address).target
            if Path(target).exists():
                self.names.add(target, name.partition("?")[0].partition(":")[0])
        self.uploads = UploadStore(folder / "data", self.names, limits)
        self.clean()

    def datasets(self, visitor: str) -> tuple[str, ...]:
        """Names of the data sets that a visitor sees: the operator's, then the visitor's own, the latest used last."""
        return tuple(self._addresses(visitor))

    def upload(self, visitor: str, files: Sequence[str | Path]) -> str:
        """Takes in a data set and returns its name.

        Raises:
            DataError: When it is too large or no zip.
            UsageError: When the quota is used up.
        """
        self.clean()
        return self.uploads.add(visitor, files, self._data)

    def clean(self) -> None:
        """Removes uploads that were not used for long, save what is being looked over or trained on."""
        with self._lock:
            used = {*self._checked, self._in_use if self._is_training() else ""}
            used |= {_data_of(self.folder / name) for name in _names(self.folder) if holder(self.folder / name)}
            self.uploads.remove_old(used)

    def address(self, visitor: str, name: object) -> str:
        """Returns what a data set is read by.

        Raises:
            UsageError: When it is none of the visitor's.
        """
        addresses = self._addresses(visitor)
        if not isinstance(name, str) or name not in addresses:
            raise UsageError(unknown_name("data set", str(name)[:100], addresses))
        return addresses[name]

    def data_name(self, visitor: str, name: str) -> str:
        """Returns a data set as it stands in the command that a visitor sees; raises as `address` does."""
        self.address(visitor, name)
        return path_name(self._data[name]) if name in self._data else f"{name}?{OPTION}=1"

    def check(self, visitor: str, name: str, task: str, out: Path) -> Checked:
        """Looks a data set over for a task and draws overlays into a folder, in a process of its own.

        Raises:
            DataError: When it cannot be read, nothing in it can be used, or it takes too much time or memory.
            UsageError: When other data sets are being looked over, or it is none of the visitor's.
        """
        task_class(task)
        with self._lock:
            address = self.address(visitor, name)
            if len(self._checks) >= _MOST_CHECKS:
                raise UsageError("busy: other data sets are being looked over; try again in a moment")
            check = DataCheck(address, task, out, self._limits)
            self._checks.append((visitor, check))
            self._checked.append(address)
            self.uploads.touch(address)
        try:
            found = check.result()
        except DataError as error:
            raise DataError(self.names.hide(error)) from error
        finally:
            with self._lock:
                self._checks.remove((visitor, check))
                self._checked.remove(address)
        return replace(found, lines=tuple(map(self.names.hide, found.lines)))

    def cancel_checks(self, visitor: str) -> None:
        """Ends a visitor's checks that are under way."""
        with self._lock:
            for whose, check in self._checks:
                if whose == visitor:
                    check.cancel()

    def command(self, plan: Plan) -> str:
        """Returns the command line that does the same as `start`, with names in the place of the server's paths."""
        return shlex.join(["mmtune", *plan.shown_words(self._name(plan))])

    def ended(self, visitor: str, name: str) -> Path:
        """Returns the folder of a run that has ended.

        Raises:
            UsageError: When it has not, or is none of the visitor's.
        """
        if self.status(visitor, name)["state"] != "done":
            raise UsageError(f"{name} has not ended: there is no model yet")
        return self.folder / name

    def start(self, visitor: str, plan: Plan) -> str:
        """Starts a run and returns its name.

        Raises:
            UsageError: When one is running already.
        """
        with self._lock:
            self._refuse_while_training(visitor)
            name = self._name(plan)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file(name, _OWNER).write_text(visitor)
            self._commands[name] = self.command(plan)
            self._launch(name, plan.words(str(self.folder / name)), plan.data)
        return name

    def resume(self, visitor: str, name: str) -> str:
        """Goes on with a run that was stopped.

        Raises:
            UsageError: When it is none of the visitor's, has ended, its data set is gone, or another one is running.
        """
        with self._lock:
            if self.status(visitor, name)["state"] == "done":
                raise UsageError(f"{name} has ended: there is nothing to go on with")
            folder = self.folder / name
            if not (folder / RECIPE).is_file():
                raise UsageError(f"{name} was stopped before it had begun: start it anew")
            if self.uploads.is_gone(data := _data_of(folder)):
                hours = f"{self._limits.upload_hours:g}"
                raise UsageError(
                    f"the data set of {name} is gone: uploads are removed {hours} hours after their last use; "
                    "upload it again and start a new run"
                )
            self._refuse_while_training(visitor)
            self._launch(name, ["train", "--out", str(folder), "--resume"], data)
        return name

    def stop(self, visitor: str, name: str) -> None:
        """Ends a run's process; what it had saved stays, and it can be resumed.

        Raises:
            UsageError: When it is not running, or none of the visitor's.
        """
        with self._lock:
            self._refuse_unknown(visitor, name)
            if name != self._running or not self._is_training():
                raise UsageError(f"{name} is not running")
            self._end()

    def status(self, visitor: str, name: object) -> dict[str, Any]:
        """Returns {"run", "state", "step", "steps", "loss", "metrics", "command", "message"}.

        The state is "running", "stopped", "failed" or "done"; the message is a failed run's last words.

        Raises:
            UsageError: When it is none of the visitor's.
        """
        name = self._refuse_unknown(visitor, name)
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
            "command": self._commands.get(name, f"mmtune train --out {shlex.quote(name)} --resume"),
            "message": self._last_words(name) if state == "failed" else "",
        }

    def runs(self, visitor: str) -> tuple[str, ...]:
        """Names of the runs that a visitor sees, the newest first."""
        names = [name for name in self._seen(visitor) if (self.folder / name / RECIPE).is_file()]
        return tuple(sorted(names, key=lambda name: -(self.folder / name / RECIPE).stat().st_mtime))

    def latest(self, visitor: str) -> str | None:
        """Returns the run that a visitor started last, None without any; the operator's are none of them."""
        own = [name for name in self._seen(visitor) if self._owner(name) == visitor]
        return max(own, key=lambda name: self._file(name, _OWNER).stat().st_mtime, default=None)

    def close(self) -> None:
        """Ends what is running."""
        with self._lock:
            for _, check in self._checks:
                check.cancel()
            if self._is_training():
                self._end()

    def _addresses(self, visitor: str) -> dict[str, str]:
        return self._data | self.uploads.of(visitor)

    def _owner(self, name: str) -> str:
        """Returns the identity of the visitor whose run it is, "" for the operator's."""
        try:
            return self._file(name, _OWNER).read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    def _seen(self, visitor: str) -> list[str]:
        """Returns the names of the runs that a visitor may see, in no order."""
        names = dict.fromkeys((*_names(self.folder), *self._commands))
        return [name for name in names if self._is_seen(visitor, name)]

    def _is_seen(self, visitor: str, name: str) -> bool:
        owner = self._owner(name)
        if not owner or name in self._earlier:
            return self._alone or (owner != "" and owner == visitor)
        return owner == visitor

    def _refuse_unknown(self, visitor: str, name: object) -> str:
        seen = self._seen(visitor)
        if not isinstance(name, str) or name not in seen:
            raise UsageError(unknown_name("run", str(name)[:100], seen))
        return name

    def _refuse_while_training(self, visitor: str) -> None:
        if not self._is_training():
            return
        if self._is_seen(visitor, self._running):
            raise UsageError(f"busy: {self._running} is being trained; stop it, or wait until it has ended")
        raise UsageError("busy: another visitor's run is being trained; try again when it has ended")

    def _is_training(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self) -> None:
        process = self._process
        assert process is not None
        self._stopped.add(self._running)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _name(self, plan: Plan) -> str:
        return free_name(safe_name(plan.task), [*_names(self.folder), *self._commands])

    def _launch(self, name: str, words: list[str], data: str) -> None:
        self._stopped.discard(name)
        self._running, self._in_use = name, data
        self.uploads.touch(data)
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120", LIMIT: str(self._limits.most_pixels)}
        environment[COUNT] = "1"  # whatever started the page, a run of it has no others to join
        with self._file(name, _OUTPUT).open("wb") as output:
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
        if (process is not None and self._is_training()) or holder(folder) is not None:
            return "running"
        if (folder / ADAPTER).is_file() or (folder / TRAINED).is_file():
            return "done"
        if process is not None and process.returncode not in _ENDED and name not in self._stopped:
            return "failed"
        return "stopped"

    def _steps(self, folder: Path) -> int | None:
        from mmtune.recipe import read_recipe

        return read_recipe(folder / RECIPE, {}, []).steps if (folder / RECIPE).is_file() else None

    def _file(self, name: str, what: str) -> Path:
        """Returns a file about a run, beside its folder."""
        return self.folder / f".{name}.{what}"

    def _last_words(self, name: str) -> str:
        file = self._file(name, _OUTPUT)
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if _NO_MEMORY in text:
            return (
                "the accelerator's memory is full. The page's models and this run share it: choose a smaller batch or "
                "model, or train from the command line while the page is closed."
            )
        return self.names.hide(text.strip())[-_TOLD:]


def final_metrics(folder: Path) -> dict[str, float]:
    """Returns the numbers of a run's metrics.json, none where there is none yet."""
    found = read_metrics(folder / METRICS)
    table = found.get("metrics", found)
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name != "data"]


def _data_of(folder: Path) -> str:
    """Returns the address of a run's data set, "" where its recipe does not say it."""
    from mmtune.recipe import read_recipe

    try:
        return read_recipe(folder / RECIPE, {}, []).data if (folder / RECIPE).is_file() else ""
    except MmtuneError:
        return ""
