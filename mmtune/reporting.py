"""Reports: of an evaluation as it is made, and of a run folder, read again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset
from mmtune.data.images import size_of
from mmtune.data.read import as_fraction, read, split_off
from mmtune.errors import DataError, MmtuneError, UsageError
from mmtune.files import write_text
from mmtune.metrics.resampling import Pairs, Resampling, flat
from mmtune.prediction_files import read_predictions
from mmtune.recipe import Recipe, read_recipe
from mmtune.records import Prediction, Record
from mmtune.registry import task_class
from mmtune.reports.bootstrap import Interval, intervals
from mmtune.reports.findings import find
from mmtune.reports.log_curves import read_curves
from mmtune.reports.page import Report, page
from mmtune.run_files import LOG, METRICS, PREDICTIONS, RECIPE, REPORT
from mmtune.task import Task

_SAME = 1e-6  # metrics that differ by less were computed from the same truth


@dataclass(frozen=True)
class RunFolder:
    """A run as its folder tells it.

    Attributes:
        folder: Where it lies.
        recipe: Its recipe.
        task: The adapter.
        result: The content of metrics.json; empty without.
        pairs: Truth and prediction of each validation record that is still there.
        lost: Why there are none, in a sentence; or how many are not.
    """

    folder: Path
    recipe: Recipe
    task: Task
    result: Mapping[str, Any]
    pairs: Pairs
    lost: str = ""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """As they were written when the run ended."""
        found = self.result.get("metrics", {})
        return found if isinstance(found, Mapping) else {}


def report(run: str | Path) -> Path:
    """Writes `report.html` of a run folder anew, from its files and the validation data that its recipe names.

    Returns:
        The page's file.

    Raises:
        UsageError: When it is no run folder.
        RecipeError, DataError: When one of its files cannot be read.
    """
    held = read_run(run)
    file = held.folder / REPORT
    metrics, changed = current_metrics(held)
    notes = [note for note in (held.lost, changed) if note]
    write_report(file, held.task, held.pairs, metrics, held.recipe, result=held.result, notes=notes)
    return file


def write_report(
    file: Path,
    task: Task,
    pairs: Pairs,
    metrics: Mapping[str, Any],
    recipe: Recipe | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes a page.

    Args:
        file: Where to; a run's `log.csv` is looked for beside it.
        task: The adapter.
        pairs: Truth and prediction of each record; none where nothing was evaluated, or the truth is gone.
        metrics: Of the evaluation, by their contract names.
        recipe: Of the run.
        settings: What to say instead of the recipe.
        result: "n" and "invalid" where there are no pairs.
        notes: Sentences on what a reader should know.
    """
    notes = list(notes)
    found, spans = None, {}
    if pairs:
        found, spans = find(task, pairs), metric_intervals(task, pairs)
    elif recipe is not None and not notes:
        notes.append("The run has no validation data (val), so that nothing was evaluated: give some with --val.")
    counted = result or {}
    text = page(
        Report(
            title=f"{task.name}: {_name(file, recipe, settings)}",
            settings=settings or (_settings(recipe) if recipe is not None else {}),
            recipe=_toml(recipe) if recipe is not None else "",
            curves=read_curves(file.parent / LOG) if recipe is not None else {},
            metrics=metrics,
            headline=task.headline,
            intervals=spans,
            findings=found,
            records=len(pairs) or int(counted.get("n", 0)),
            invalid=sum(p.invalid > 0 for _, p in pairs) if pairs else int(counted.get("invalid", 0)),
            notes=notes,
        )
    )
    write_text(file, text)


def metric_intervals(task: Task, pairs: Pairs) -> dict[tuple[str, ...], Interval]:
    """Returns the bootstrap interval of each metric that has one."""
    return intervals(resampling(task, pairs), len(pairs))


def resampling(task: Task, pairs: Pairs) -> Resampling:
    """Returns what scores resamples of the records by the task's metric."""
    return task.metric().resampling(pairs)


def read_run(run: str | Path) -> RunFolder:
    """Returns a run with the truth of its predictions.

    Raises:
        UsageError: When it is no run folder.
        RecipeError, DataError: When one of its files cannot be read.
    """
    folder = Path(run)
    if not (folder / RECIPE).is_file():
        what = "holds no recipe.toml" if folder.is_dir() else "is no folder"
        raise UsageError(f"{run}: expected the folder of a run, as `mmtune train --out` makes it, but it {what}")
    recipe = replace(read_recipe(folder / RECIPE, {}, []), out=str(folder))
    task = task_class(recipe.task)(recipe.classes, recipe.task_options())
    result = read_metrics(folder / METRICS)
    if not (folder / PREDICTIONS).is_file():
        lost = "" if recipe.val is None else "The run has no predictions yet: it was not finished."
        return RunFolder(folder, recipe, task, result, (), lost)
    predictions = read_predictions(folder / PREDICTIONS)
    try:
        truth = {record.id: record for record in validation_data(recipe)}
    except (MmtuneError, OSError) as error:
        reason = str(error).split("\n")[0]
        lost = f"The validation data cannot be read again, so that examples and intervals are left out: {reason}"
        return RunFolder(folder, recipe, task, result, (), lost)
    pairs = tuple((truth[p.record], p) for p in predictions if p.record in truth)
    gone = len(predictions) - len(pairs)
    lost = f"{gone} of {len(predictions)} predictions are of records that the validation data no longer has." * bool(
        gone
    )
    return RunFolder(folder, recipe, task, result, tuple(_prepared(task, *pair) for pair in pairs), lost)


def validation_data(recipe: Recipe) -> Dataset:
    """Returns the validation data that a recipe names, read again.

    Raises:
        UsageError, DataError: When that is not possible.
    """
    if recipe.val is None:
        raise DataError("the recipe names none (val)")
    fraction = as_fraction(recipe.val)
    address = recipe.data if fraction is not None else str(recipe.val)
    if address == "records":
        raise DataError("the run was given records by a program, and no address")
    data = read(address, task=recipe.task, format=recipe.format)
    return data if fraction is None else split_off(data, fraction, recipe.seed)[1]


def _prepared(task: Task, record: Record, prediction: Prediction) -> tuple[Record, Prediction]:
    """Returns a pair as evaluation has it: with the picture's size, and masks where only texts have some."""
    if record.size is None and record.picture is not None:
        try:
            record = replace(record, size=size_of(record.picture))
        except DataError:
            return record, prediction
    return task.prepared(record), prediction


def current_metrics(run: RunFolder) -> tuple[Mapping[str, Any], str]:
    """Returns the metrics of a run on its validation data as it is now, and a sentence where they have changed."""
    if not run.pairs:
        return run.metrics, ""
    metric = run.task.metric()
    for pair in run.pairs:
        metric.update(*pair)
    now, old = metric.compute(), flat(run.metrics)
    totals = {name: value for (name, *below), value in flat(now).items() if not below}
    differ = [name for name, value in totals.items() if abs(value - old.get((name,), value)) > _SAME]
    if not differ:
        return now, ""
    return now, (
        f"The metrics are of the validation data as it is now. It is not what the run was evaluated on: in {METRICS}, "
        f"{', '.join(f'{name} is {old[(name,)]:.4f}' for name in differ)}."
    )


def read_metrics(file: Path) -> Mapping[str, Any]:
    """Returns the content of metrics.json; empty without.

    Raises:
        DataError: When it is no JSON object.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected the metrics of a run as JSON, but it cannot be read ({error})") from error
    if not isinstance(found, Mapping):
        raise DataError(f"{file}: expected the metrics of a run as a JSON object, found {type(found).__name__}")
    return found


def _settings(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    return {
        "model": recipe.model,
        "training data": recipe.data,
        "validation data": recipe.val,
        "trained": "all weights" if recipe.full else f"LoRA, rank {lora.rank}",
        "steps": recipe.steps or f"{recipe.epochs:g} epochs",
        "batch size": recipe.batch_size,
        "learning rate": recipe.optimizer.learning_rate,
        "precision": recipe.precision,
        "quantised": recipe.quantize,
        "seed": recipe.seed,
        "classes": ", ".join(recipe.classes) or None,
        "run folder": recipe.out,
    }


def _toml(recipe: Recipe) -> str:
    import tomli_w

    from mmtune.settings import plain

    return tomli_w.dumps(plain(recipe))


def _name(file: Path, recipe: Recipe | None, settings: Mapping[str, Any] | None) -> str:
    if recipe is not None:
        return recipe.out
    return str((settings or {}).get("model", file.stem))
