"""Checkpoints of a run through Orbax: what trains, the optimizer, random state and progress. The base is not copied."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.distributed.processes import is_distributed, is_main_process
from mmtune.errors import ModelError
from mmtune.training.best import Best
from mmtune.training.model import Trainer
from mmtune.training.sums import damage, write_sums

# What TensorStore says, which raises no OSError.
_PHRASES = {
    "RESOURCE_EXHAUSTED": errno.ENOSPC,
    "No space left": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "PERMISSION_DENIED": errno.EACCES,
    "Permission denied": errno.EACCES,
}


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: Batches trained on.
        best: Best value of the run's metric so far, None before the first evaluation.
        best_step: The step of that value.
        evaluated: The step of the last evaluation.
        waited: Evaluations since then.
        seconds: Time spent in earlier parts of the run.
        stopped: Whether early stopping ended the run.
        data: Fingerprint of the examples.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    evaluated: int = 0
    waited: int = 0
    seconds: float = 0.0
    stopped: bool = False
    data: str = ""


class Checkpoints:
    """The checkpoints of a run.

    Orbax writes each in the background under a temporary name, so a kill leaves the one before intact. A checkpoint
    that cannot be written (the disk is full) does not end the training: it is said, and the next one is tried as ever.
    Of several processes the one that cannot write its part ends, and with it the others.

    Args:
        folder: The run's `checkpoints` folder.
        keep: How many of the latest are kept.
        say: Takes a line about what went wrong.

    Attributes:
        failed: Why the last checkpoint could not be written; empty when it was.
    """

    def __init__(self, folder: Path, keep: int = 2, say: Callable[[str], None] = lambda _: None):
        import orbax.checkpoint as ocp

        for name in ("absl", "asyncio"):  # what goes wrong is said here, in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._ocp = ocp
        self.folder = folder
        self.best = Best(folder)
        self.failed = ""
        self._say = say
        self._saving = 0
        self._bests: dict[int, int] = {}
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    @property
    def latest(self) -> int | None:
        """The newest finished checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, trainer: Trainer, progress: Progress) -> None:
        """Begins to write a checkpoint; the trainer's variables must be in sync with its training state.

        Of a step that has one already nothing is written: an evaluation that was made up for is made up for again.
        """
        self.wait()
        self.best.write()
        if progress.step in self._manager.all_steps():
            return
        args = self._ocp.args
        self._saving = progress.step
        self._bests[progress.step] = progress.best_step
        with self._failures():
            state = _state(trainer)
            _check_room(self.folder, state)
            self._manager.save(
                progress.step,
                args=args.Composite(state=args.StandardSave(state), progress=args.JsonSave(asdict(progress))),
                force=True,
            )

    def wait(self) -> None:
        """Returns when nothing is being written any more."""
        if not self._saving:
            return
        with self._failures():
            self._manager.wait_until_finished()
            if is_main_process():
                write_sums(self.folder / str(self._saving))
            self.failed = ""
            kept = self._manager.all_steps()
            self.best.prune({self._bests.get(step, 0) for step in kept})
        self._saving = 0

    def restore(self, trainer: Trainer, data: str) -> Progress:
        """Loads the newest checkpoint that can be read into the trainer and returns its progress.

        The trainer may lie on another mesh than when the checkpoint was saved.

        Args:
            trainer: As it was when the checkpoint was saved, but for its values.
            data: Fingerprint of the examples at hand.

        Returns:
            The progress of a new run when there is no checkpoint yet.

        Raises:
            ModelError: When none can be read, or the run was begun on other data.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps:
            return Progress(data=data)
        unreadable: list[int] = []
        problems: list[str] = []
        for step in steps:
            try:
                progress = self._read(trainer, step, data)
            except ModelError:
                raise
            except Exception as error:
                unreadable.append(step)
                problems.append(f"{step}: {_first_line(error)}")
                continue
            for other, problem in zip(unreadable, problems, strict=True):
                self._say(f"checkpoint {problem}: it cannot be read, the run goes on from step {step}")
                self._set_aside(other)
            for kept in self._manager.all_steps():
                self._bests[kept] = progress.best_step if kept == step else self._best_step(kept)
            return progress
        raise ModelError(
            f"{self.folder}: no checkpoint can be read ({'; '.join(problems)}): "
            "put back a copy of one, or begin a new run"
        )

    def _read(self, trainer: Trainer, step: int, data: str) -> Progress:
        if (problem := damage(self.folder / str(step))) is not None:
            raise ValueError(problem)
        args = self._ocp.args
        variables = _variables(trainer)
        template = {group: {k: v.value for k, v in named.items()} for group, named in variables.items()}
        restored = self._manager.restore(
            step, args=args.Composite(state=args.StandardRestore(template), progress=args.JsonRestore())
        )
        if restored["progress"]["data"] != data:
            raise ModelError(f"{self.folder}: the run was begun on other data than what is read now; begin a new one")
        progress = Progress(**restored["progress"])
        for group, named in variables.items():
            for key, variable in named.items():
                variable.assign(restored["state"][group][key])
        return progress

    def _best_step(self, step: int) -> int:
        try:
            args = self._ocp.args
            return int(
                self._manager.restore(step, args=args.Composite(progress=args.JsonRestore()))["progress"]["best_step"]
            )
        except Exception:  # an older checkpoint that cannot be read counts on nothing
            return 0

    def _set_aside(self, step: int) -> None:
        """Renames a checkpoint that cannot be read, so that its step can be saved again."""
        if is_main_process():
            shutil.rmtree(self.folder / f"unreadable-{step}", ignore_errors=True)
            os.replace(self.folder / str(step), self.folder / f"unreadable-{step}")
        self._manager.reload()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Says that a checkpoint could not be written, and makes room of what was begun."""
        try:
            yield
        except Exception as error:
            if (reason := unwritten(error)) is None:
                raise
            step, self._saving, self.failed = self._saving, 0, reason
            if is_distributed():  # the others wait for this one, whose part of the checkpoint does not come
                raise OSError(None, reason, str(self.folder)) from error
            for begun in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(begun, ignore_errors=True)
            self._manager.reload()
            self._say(f"{self.folder}: the checkpoint of step {step} cannot be written: {reason}; the training goes on")

    def close(self) -> None:
        """Waits for what is being written and ends Orbax' threads."""
        self.wait()
        self._manager.close()


def unwritten(error: Exception) -> str | None:
    """Returns why a file could not be written, such as "No space left on device"; None for errors of another kind."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((os.strerror(number) for phrase, number in _PHRASES.items() if phrase in str(error)), None)


def _check_room(folder: Path, state: dict[str, dict[str, Any]]) -> None:
    """Refuses what does not fit on the disk before Orbax begins, whose threads go on when their work has failed.

    Raises:
        OSError: When there is too little room for the bytes of the state.
    """
    needed = sum(value.nbytes for named in state.values() for value in named.values())
    if is_distributed() or shutil.disk_usage(folder).free > needed:
        return
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _variables(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Returns what a checkpoint holds, by group; the sums of gradients of an update that is not complete are one."""
    sums = trainer.accumulators
    own = trainer.optimizer.variables[: -len(sums) or None]
    variables = {
        "trained": {variable.path: variable for variable in trainer.trainable_variables},
        "optimizer": {f"{i:05d}": variable for i, variable in enumerate(own)},
        "random": {"seed": trainer.seeds.state},
    }
    return variables | ({"accumulated": {variable.path: variable for variable in sums}} if sums else {})


def _state(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Returns copies: the next step takes the memory of the variables while they are still being written."""
    import jax.numpy as jnp

    return {group: {k: jnp.copy(v.value) for k, v in named.items()} for group, named in _variables(trainer).items()}
