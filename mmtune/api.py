"""The Python interface: what the command line calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset
from mmtune.data.read import read, split_off
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import UsageError
from mmtune.evaluation import Evaluation, evaluate_records
from mmtune.model import Model
from mmtune.models.load import RECIPE, load
from mmtune.models.lora_config import LoRA
from mmtune.predicting import task_for
from mmtune.recipe import Recipe, read_recipe
from mmtune.records import Fault, Record
from mmtune.registry import task_class
from mmtune.settings import build, plain

__all__ = ["Evaluation", "Run", "evaluate", "load", "read", "train", "train_recipe"]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: recipe.toml, log.csv, checkpoints, adapter or weights, metrics.json, predictions.jsonl.
        model: The trained model.
        metrics: Of the last evaluation on all validation data; empty without validation data.
        faults: What was set aside while reading and training.
        seconds: Training and evaluation, resumed parts included.
    """

    folder: Path
    model: Model
    metrics: dict[str, Any]
    faults: tuple[Fault, ...]
    seconds: float


def train(
    model: Model | str,
    *,
    task: str,
    data: Dataset | Sequence[Record] | str,
    val: Dataset | Sequence[Record] | str | float | None = None,
    lora: LoRA | None = None,
    full: bool = False,
    out: str | Path = "runs/run",
    resume: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> Run:
    """Fine-tunes a model.

    Args:
        model: A loaded model, which is changed in place, or a name for `mmtune.load`.
        task: Name of the task.
        data: Records, or an address for `mmtune.read`.
        val: The same, or a fraction of `data` to hold back; None: no evaluation.
        lora: The adapter; None: the default one.
        full: Train all weights instead.
        out: The run's folder.
        resume: Go on from the newest checkpoint in `out`.
        verbose: Show progress on standard error.
        **settings: Other fields of `mmtune.Recipe`, such as steps=500 or optimizer={"learning_rate": 1e-4}.

    Raises:
        RecipeError: With every wrong key and value.
        DataError: When no record can be trained on.
    """
    name = model if isinstance(model, str) else model.name
    table = {
        "task": task,
        "data": data if isinstance(data, str) else getattr(data, "name", "") or "records",
        "val": val if val is None or isinstance(val, str) else str(getattr(val, "name", val)),
        "model": name,
        "out": str(out),
        "full": full,
        **{key: plain(v) if hasattr(v, "__dataclass_fields__") else v for key, v in settings.items()},
    }
    if lora is not None:
        table["lora"] = plain(lora)
    recipe = build(Recipe, _over_stored(table, Path(out)) if resume else _given(table))
    return train_recipe(recipe, model=model, data=data, val=val, resume=resume, verbose=verbose)


def train_recipe(
    recipe: Recipe,
    *,
    model: Model | str | None = None,
    data: Dataset | Sequence[Record] | str | None = None,
    val: Dataset | Sequence[Record] | str | float | None = None,
    resume: bool = False,
    verbose: bool = True,
) -> Run:
    """Runs a recipe.

    Args:
        recipe: The run.
        model, data, val: In place of loading and reading what the recipe names.
        resume: Go on from the newest checkpoint in `recipe.out`.
        verbose: Show progress on standard error.
    """
    from mmtune.training.display import Display
    from mmtune.training.fit import check_folder, fit

    check_folder(recipe, resume)
    training = _dataset(recipe.data if data is None else data, recipe)
    validation = _validation(recipe.val if val is None else val, training, recipe)
    if isinstance(validation, tuple):
        training, validation = validation
    classes = recipe.classes or training.classes
    recipe = replace(recipe, classes=tuple(classes))
    if recipe.mesh is not None:
        if isinstance(model, Model):
            raise UsageError("mesh: weights are placed as they are loaded, so give the model by its name")
        from mmtune.sharding.mesh import distribute

        distribute(recipe.mesh, recipe.batch_size)
    held = load(recipe.model, precision=recipe.precision, seed=recipe.seed) if model is None else model
    held = load(held, precision=recipe.precision, seed=recipe.seed) if isinstance(held, str) else held
    faults = [*training.faults, *(validation.faults if validation is not None else ())]
    evaluation, found, seconds = fit(
        held, recipe, training, validation, resume=resume, display=Display(quiet=not verbose), faults=faults
    )
    return Run(Path(recipe.out), held, evaluation.metrics if evaluation else {}, (*faults, *found), seconds)


def evaluate(
    model: Model | str,
    *,
    task: str,
    data: Dataset | Sequence[Record] | str,
    format: str | None = None,  # noqa: A002 - the command line's name for it
    limit: int | None = None,
    sampler: Sampler = GREEDY,
    max_tokens: int | None = None,
    batch_size: int = 16,
    verbose: bool = True,
) -> Evaluation:
    """Predicts and scores a data set.

    Args:
        model: A loaded model, or a name for `mmtune.load`.
        task: Name of the task.
        data: Records, or an address for `mmtune.read`.
        format: Name of the data's format; None: detected.
        limit: Only the first so many records.
        sampler: How tokens are chosen.
        max_tokens: Most tokens of an answer; None: what the truth needs.
        batch_size: Most prompts decoded at once.
        verbose: Show progress on standard error.
    """
    from mmtune.training.display import Display

    dataset = read(data, task=task, format=format) if isinstance(data, str) else data
    records = list(dataset)[:limit]
    if not records:
        raise UsageError("there are no records to evaluate on")
    held = load(model) if isinstance(model, str) else model
    adapter = task_for(held, task, getattr(dataset, "classes", ()))
    display = Display(quiet=not verbose)
    with display.evaluating(len(records)) as on_done:
        found = evaluate_records(
            held,
            adapter,
            records,
            sampler=sampler,
            max_tokens=max_tokens,
            batch_size=batch_size,
            on_done=on_done,
        )
    return replace(found, faults=(*getattr(dataset, "faults", ()), *found.faults))


def _given(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _over_stored(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the recipe of the run in `folder`, if there is one, with the given values over it."""
    file = folder / RECIPE
    stored = plain(read_recipe(file, {}, [])) if file.is_file() else {}
    given = _given(table)
    nested = {key: {**stored[key], **value} for key, value in given.items() if isinstance(stored.get(key), dict)}
    return {**stored, **given, **nested}


def _dataset(data: Dataset | Sequence[Record] | str, recipe: Recipe) -> Dataset:
    if isinstance(data, str):
        return read(data, task=recipe.task, format=recipe.format)
    if isinstance(data, Dataset):
        return data
    records = tuple(data)
    labels = dict.fromkeys(box.label for record in records for box in record.boxes)
    needs = task_class(recipe.task).needs_classes
    return Dataset(records, tuple(labels) if needs else ())


def _validation(
    val: Dataset | Sequence[Record] | str | float | None, training: Dataset, recipe: Recipe
) -> Dataset | tuple[Dataset, Dataset] | None:
    if val is None:
        return None
    fraction = _fraction(val)
    if fraction is not None:
        return split_off(training, fraction, recipe.seed)
    return _dataset(val, recipe)  # pyright: ignore[reportArgumentType]


def _fraction(val: Any) -> float | None:
    """Returns a fraction given as a number or as its text, None for anything else."""
    if isinstance(val, str):
        try:
            val = float(val)
        except ValueError:
            return None
    if not isinstance(val, float):
        return None
    if not 0 < val < 1:
        raise UsageError(f"val: expected a fraction between 0 and 1 or a data set, got {val}")
    return val
