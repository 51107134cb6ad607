"""What a run leaves in its folder when training is over, and what becomes of it where the folder cannot take it."""

import tempfile
from pathlib import Path

from mmtune.distributed.processes import is_distributed, is_main_process
from mmtune.errors import ModelError
from mmtune.evaluation import Evaluation
from mmtune.files import save_tensors, write_json
from mmtune.model import Model
from mmtune.models.peft_files import save_adapter
from mmtune.recipe import Recipe
from mmtune.run_files import ADAPTER, METRICS, PREDICTIONS, TRAINED
from mmtune.training.best import trained_weights
from mmtune.training.callbacks import Metrics
from mmtune.training.checkpoints import Checkpoints, Progress, unwritten
from mmtune.training.model import Trainer
from mmtune.training.stopping import resume_command


def save_weights(trainer: Trainer, model: Model, recipe: Recipe, folder: Path) -> None:
    """Writes what was trained: an adapter, or weights by path.

    Raises:
        OSError: When it cannot be written.
    """
    if model.lora is not None:
        save_adapter(model.lora, folder / ADAPTER, recipe.model)
        return
    weights = trained_weights(trainer)
    if is_main_process():
        save_tensors(weights, folder / TRAINED)


def write_results(out: Path, recipe: Recipe, evaluation: Evaluation | None, progress: Progress, seconds: float) -> None:
    """Writes metrics.json, and the answers to the validation data where there is any."""
    result: Metrics = {"task": recipe.task, "n": 0, "metrics": {}, "invalid": 0}
    if evaluation is not None:
        result = evaluation.as_json()
        evaluation.write_predictions(out / PREDICTIONS)
    result |= {"step": progress.step, "best_step": progress.best_step, "seconds": round(seconds, 2)}
    write_json(out / METRICS, result)


def rescued(
    error: OSError, trainer: Trainer, model: Model, recipe: Recipe, checkpoints: Checkpoints | None, progress: Progress
) -> ModelError:
    """Returns what to say when the run's folder cannot be written.

    Weights that no checkpoint holds are written to the system's folder for temporary files, unless parts of them lie
    with other processes.

    Args:
        error: What happened.
        trainer, model, recipe, progress: The run.
        checkpoints: Its checkpoints; None: they could not be opened.
    """
    out = Path(recipe.out)
    said = f"{error.filename or out}: cannot be written: {unwritten(error) or error}"
    if checkpoints is None or not progress.step:
        return ModelError(f"{said}: make room, or choose another --out")
    if not is_distributed():  # the others train on, and take no part in it
        checkpoints.wait()
    latest = checkpoints.latest or 0
    goes_on = f"make room and go on from step {latest} with {resume_command(out)}"
    if not latest:
        goes_on = "make room, or choose another --out"
    if latest >= progress.step or is_distributed():
        return ModelError(f"{said}: {goes_on}")
    try:
        folder = Path(tempfile.mkdtemp(prefix="mmtune-"))
        save_weights(trainer, model, recipe, folder)
    except OSError:
        return ModelError(f"{said}, nor can {tempfile.gettempdir()}: {goes_on}")
    return ModelError(f"{said}: the weights of step {progress.step} are in {folder}; {goes_on}")
