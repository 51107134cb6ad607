"""The weights of the best evaluations, a file each, for as long as a checkpoint counts on them."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from mmtune.distributed.processes import fetch_global_array, is_main_process
from mmtune.files import save_tensors
from mmtune.models.load import assign_weights
from mmtune.training.model import Trainer

_NAME = re.compile(r"best-(\d+)\.safetensors")


class Best:
    """Files `best-STEP.safetensors`. Weights that cannot be written are kept in memory and tried again.

    Args:
        folder: The run's `checkpoints` folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._taken = 0
        self._held: tuple[int, Mapping[str, np.ndarray]] | None = None

    def take(self, trainer: Trainer, step: int) -> None:
        """Keeps the present weights as those of a step."""
        self._taken = step
        self._held = step, trained_weights(trainer)
        self.write()

    def write(self) -> None:
        """Writes what is held in memory; where that fails it stays there."""
        if self._held is None:
            return
        step, weights = self._held
        try:
            if is_main_process():
                save_tensors(weights, self._file(step))
        except OSError:
            return
        self._held = None

    def prune(self, steps: Collection[int]) -> None:
        """Removes the files of all other steps, but for the one that was taken last."""
        for file in self._folder.glob("best-*.safetensors") if is_main_process() else ():
            match = _NAME.fullmatch(file.name)
            if match and int(match[1]) not in {*steps, self._taken}:
                file.unlink()

    def restore(self, trainer: Trainer, step: int) -> None:
        """Puts the weights of a step into the trainer; step 0: there was no evaluation.

        Raises:
            ModelError: When their file is missing or broken.
        """
        if self._held is not None and self._held[0] == step:
            for variable in trainer.lasting_variables:
                variable.assign(self._held[1][variable.path])
        elif step:
            assign_weights(trainer.lasting_variables, self._file(step))

    def _file(self, step: int) -> Path:
        return self._folder / f"best-{step}.safetensors"


def trained_weights(trainer: Trainer) -> dict[str, np.ndarray]:
    """Returns what was trained by path, as `mmtune.models.load.assign_weights` reads it."""
    return {variable.path: fetch_global_array(variable.value) for variable in trainer.lasting_variables}
