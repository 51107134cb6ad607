"""Where a run's weights and optimizer variables lie on a mesh: written beside the run, and checked."""

from pathlib import Path

import keras

from mmtune.files import write_text
from mmtune.hosts import is_first
from mmtune.sharding.table import checked_rows, summary, table_text
from mmtune.training.model import Trainer


def write_layout(trainer: Trainer, file: Path) -> list[str]:
    """Writes the table of a trainer's variables and returns what to say of it; nothing without a mesh.

    Raises:
        RuntimeError: When a slot of the optimizer does not lie where its weight does.
    """
    layouts = keras.distribution.distribution()
    if layouts is None:
        return []
    rows = checked_rows(trainer.variables, trainer.optimizer)
    if is_first():
        write_text(file, table_text(rows))
    return summary(rows, layouts)
