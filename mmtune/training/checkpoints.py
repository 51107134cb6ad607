"""Checkpoints of a run through Orbax: what trains, the optimizer, random state and progress. The base is not copied."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError
from mmtune.files import atomic
from mmtune.models.load import assign_weights
from mmtune.training.model import Trainer

BEST = "best.safetensors"


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
    """The checkpoints of a run. Orbax writes each under a temporary name, so a kill leaves the one before intact.

    Args:
        folder: The run's `checkpoints` folder.
        keep: How many of the latest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        self.folder = folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    @property
    def latest(self) -> int | None:
        """The newest checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, trainer: Trainer, progress: Progress) -> None:
        """Writes a checkpoint; the trainer's variables must be in sync with its training state.

        Of a step that has one already nothing is written: an evaluation that was made up for is made up for again.
        """
        if progress.step == self.latest:
            return
        args = self._ocp.args
        self._manager.save(
            progress.step,
            args=args.Composite(state=args.StandardSave(_state(trainer)), progress=args.JsonSave(asdict(progress))),
            force=True,
        )

    def restore(self, trainer: Trainer, data: str) -> Progress:
        """Loads the newest checkpoint into the trainer and returns its progress.

        Args:
            trainer: As it was when the checkpoint was saved, but for its values.
            data: Fingerprint of the examples at hand.

        Raises:
            ModelError: When there is no checkpoint, or it was trained on other data.
        """
        step = self.latest
        if step is None:
            raise ModelError(f"{self.folder}: no checkpoint to resume from")
        args = self._ocp.args
        variables = _variables(trainer)
        template = {group: {k: v.value for k, v in named.items()} for group, named in variables.items()}
        restored = self._manager.restore(
            step, args=args.Composite(state=args.StandardRestore(template), progress=args.JsonRestore())
        )
        if restored["progress"]["data"] != data:
            raise ModelError(f"{self.folder}: the run was begun on other data than what is read now; begin a new one")
        for group, named in variables.items():
            for key, variable in named.items():
                variable.assign(restored["state"][group][key])
        return Progress(**restored["progress"])

    def save_best(self, trainer: Trainer) -> None:
        """Keeps the present weights as the best ones."""
        write_trained(trainer, self.folder / BEST)

    def restore_best(self, trainer: Trainer) -> None:
        """Puts the best weights back, if any were kept."""
        if (self.folder / BEST).is_file():
            assign_weights(trainer.lasting_variables, self.folder / BEST)

    def close(self) -> None:
        """Ends Orbax' threads."""
        self._manager.close()


def write_trained(trainer: Trainer, file: Path) -> None:
    """Writes the variables that were trained by path, as `mmtune.models.load.assign_weights` reads them."""
    from safetensors.numpy import save_file

    with atomic(file) as temporary:
        save_file({variable.path: np.asarray(variable.value) for variable in trainer.lasting_variables}, temporary)


def _variables(trainer: Trainer) -> dict[str, dict[str, Any]]:
    return {
        "trained": {variable.path: variable for variable in trainer.trainable_variables},
        "optimizer": {f"{i:05d}": variable for i, variable in enumerate(trainer.optimizer.variables)},
        "random": {"seed": trainer.seeds.state},
    }


def _state(trainer: Trainer) -> dict[str, dict[str, Any]]:
    return {group: {k: v.value for k, v in named.items()} for group, named in _variables(trainer).items()}
