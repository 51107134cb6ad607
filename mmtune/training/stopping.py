"""Stopping on request: SIGTERM, SIGHUP (a closed terminal) and Ctrl-C end a run with everything kept."""

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmtune.distributed.worker import worker

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - not an error
    """A run that was asked to stop, and that a checkpoint goes on from.

    Args:
        by: Name of the signal.
        step: Batches trained on.
        steps: Length of the run.
        folder: The run's.

    Attributes:
        exit_code: The command line's: 128 and the signal's number, as shells count.
    """

    def __init__(self, by: str, step: int, steps: int, folder: Path):
        self.folder = folder
        self.exit_code = 128 + signal.Signals[by]
        super().__init__(f"stopped by {by} at step {step} of {steps}, and kept: go on with\n{resume_command(folder)}")


def resume_command(folder: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"mmtune train --out {shlex.quote(str(folder))} --resume"


class Interrupted(BaseException):
    """Ends what may be left undone (`Stop.interruptible`) the moment the signal comes.

    Args:
        by: Name of the signal.
    """

    def __init__(self, by: str):
        self.by = by
        super().__init__(by)


class Stop:
    """Whether a run was asked to stop. Without `listening` it never is.

    Attributes:
        by: Name of the signal, empty before.
    """

    def __init__(self) -> None:
        self.by = ""
        self._open = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM, SIGHUP and SIGINT in this block; a second Ctrl-C ends the process as ever.

        Handlers belong to the main thread: in others nothing is taken. What is ignored (`nohup`) stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._take) for number in heard}
        self._before = before.get(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def due(self, step: int) -> bool:
        """Returns whether the run is to end after this step."""
        del step
        return bool(self.by)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Marks work that can be done again: a signal leaves the block at once, one that came before does not enter it.

        Raises:
            Interrupted: When asked to stop.
        """
        self._open = True
        try:
            if self.by:
                raise Interrupted(self.by)
            yield
        finally:
            self._open = False

    def _take(self, number: int, frame: Any) -> None:
        del frame
        self.by = signal.Signals(number).name
        signal.signal(signal.SIGINT, self._before)
        if self._open:
            self._open = False
            raise Interrupted(self.by)


class DistributedStop(Stop):
    """The same for several processes: JAX takes SIGTERM and lets all of them agree on a step.

    What may be left undone is left by all of them together, and raises `Interrupted` itself.
    """

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Leaves the signals to JAX."""
        yield

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Notes by what signal the work in this block is interrupted, if it is."""
        try:
            yield
        except Interrupted as interrupted:
            self.by = interrupted.by
            raise

    def due(self, step: int) -> bool:
        """Returns whether all processes end after this step."""
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.by = worker().stop or "SIGTERM"
        return bool(self.by)
