"""Where a run's weights and optimizer variables lie on a mesh: written beside the run, and checked."""

from pathlib import Path

import keras

from mmtune.distributed.processes import is_main_process
from mmtune.files import write_text
from mmtune.sharding.canvas import write_drawing
from mmtune.sharding.drawing import draw_layout
from mmtune.sharding.layout import Layouts
from mmtune.sharding.table import checked_rows, summary, table_text
from mmtune.training.model import Trainer


def write_layout(trainer: Trainer, file: Path) -> list[str]:
    """Writes a trainer's layout and returns what to say of it; nothing without a mesh.

    Args:
        trainer: Whose variables they are.
        file: The table; a picture gets the same name with the ending .svg.

    Raises:
        RuntimeError: When a slot of the optimizer does not lie where its weight does.
    """
    layouts = keras.distribution.distribution()
    if layouts is None:
        return []
    rows = checked_rows(trainer.variables, trainer.optimizer)
    if is_main_process():
        write_text(file, table_text(rows))
        if isinstance(layouts, Layouts):
            title = f"layout on {' x '.join(f'{axis}={size}' for axis, size in layouts.sizes.items())}"
            write_drawing(file.with_suffix(".svg"), draw_layout(title, rows, layouts.sizes))
    return summary(rows, layouts)
