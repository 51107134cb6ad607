"""The Python interface: what the command line calls."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.dataset import Dataset
from mmtune.data.read import as_fraction, read, split_off
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import DataError, RecipeError, UsageError
from mmtune.evaluation import Evaluation, evaluate_records
from mmtune.model import Model
from mmtune.models.load import load
from mmtune.models.lora_config import LoRA
from mmtune.predicting import task_for
from mmtune.recipe import Recipe, read_recipe, resumed
from mmtune.records import Fault, Record
from mmtune.registry import task_class
from mmtune.run_files import RECIPE
from mmtune.settings import build, plain

if TYPE_CHECKING:
    from mmtune.training.display import Display
    from mmtune.training.stopping import Stop

__all__ = ["Evaluation", "Run", "evaluate", "load", "read", "train", "train_recipe"]


# Stands in a recipe for data that no address reads.
_PASSED = "records"


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
    full: bool | None = None,
    out: str | Path = "runs/run",
    resume: bool = False,
    force_base: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> Run:
    """Fine-tunes a model.

    Args:
        model: A loaded model, or a name for `mmtune.load`. A loaded one is changed in place: an adapter that it has
            becomes a part of its weights, and with `full` these become float32. It keeps its precision unless
            `precision` is given.
        task: Name of the task.
        data: Records, or an address for `mmtune.read`.
        val: The same, or a fraction of `data` to hold back; None: no evaluation.
        lora: The adapter; None: the default one.
        full: Train all weights instead.
        out: The run's folder.
        resume: Go on from the newest checkpoint in `out`.
        force_base: As for `mmtune.load`; with `resume` also where the run was begun on another model.
        verbose: Show progress on standard error.
        **settings: Other fields of `mmtune.Recipe`, such as steps=500 or optimizer={"learning_rate": 1e-4}.

    Raises:
        RecipeError: With every wrong key and value; for quantised weights with `full`.
        UsageError: For a loaded model that its name does not load as: the run could not say what it was trained on.
        DataError: When no record can be trained on.
    """
    given = {
        "task": task,
        "data": _address(data),
        "val": _address(val),
        "model": model if isinstance(model, str) else model.name,
        "out": str(out),
        "full": full,
        "lora": plain(lora) if lora is not None else None,
        **{key: plain(value) if is_dataclass(value) else value for key, value in settings.items()},
    }
    given = {key: value for key, value in given.items() if value is not None}
    file = Path(out) / RECIPE
    going_on = resume and file.is_file()
    if isinstance(model, Model) and not going_on:
        given.setdefault("precision", model.precision)
    recipe = resumed(read_recipe(file, {}, []), given) if going_on else build(Recipe, given)
    return train_recipe(recipe, model=model, data=data, val=val, resume=resume, force_base=force_base, verbose=verbose)


def train_recipe(
    recipe: Recipe,
    *,
    model: Model | str | None = None,
    data: Dataset | Sequence[Record] | str | None = None,
    val: Dataset | Sequence[Record] | str | float | None = None,
    resume: bool = False,
    force_base: bool = False,
    verbose: bool = True,
    stop: "Stop | None" = None,
) -> Run:
    """Runs a recipe.

    Args:
        recipe: The run.
        model, data, val: In place of loading and reading what the recipe names.
        resume: Go on from the newest checkpoint in `recipe.out`.
        force_base: As for `train`.
        verbose: Show progress on standard error.
        stop: Takes SIGTERM, SIGHUP and SIGINT while it trains, which end in `mmtune.training.stopping.Stopped`; None:
            they do what they do.

    Raises:
        UsageError: When another process trains in `recipe.out`.
    """
    from mmtune.distributed.processes import is_main_process
    from mmtune.run_lock import run_lock
    from mmtune.training.display import Display
    from mmtune.training.run_agreement import agree_on_recipe

    display = Display(quiet=not verbose)
    with run_lock(Path(recipe.out)) if is_main_process() else nullcontext() as taken_over:
        if taken_over:
            display.note(taken_over)
        agree_on_recipe(recipe, model, {"resume": resume, "force_base": force_base})
        return _train(recipe, model, data, val, resume, force_base, display, stop)


def _train(
    recipe: Recipe,
    model: Model | str | None,
    data: Dataset | Sequence[Record] | str | None,
    val: Dataset | Sequence[Record] | str | float | None,
    resume: bool,
    force_base: bool,
    display: "Display",
    stop: "Stop | None",
) -> Run:
    from jax import device_count

    from mmtune.distributed.processes import is_distributed
    from mmtune.distributed.worker import worker
    from mmtune.sharding.mesh import distributed
    from mmtune.training.fit import fit

    if not resume and (Path(recipe.out) / RECIPE).is_file():
        raise UsageError(f"{recipe.out} already holds a run: resume it with --resume, or choose another --out")
    if recipe.mesh is not None and isinstance(model, Model):
        raise UsageError("mesh: weights are placed as they are loaded, so give the model by its name")
    worker().begin("start", "reading the data")
    training = _dataset(recipe.data if data is None else data, recipe)
    validation = _validation(recipe.val if val is None else val, training, recipe)
    if isinstance(validation, tuple):
        training, validation = validation
    recipe = replace(recipe, classes=recipe.classes or training.classes)
    if recipe.mesh is None and is_distributed():
        recipe = replace(recipe, mesh=f"data={device_count()}")
    with distributed(recipe.mesh):
        worker().begin("start", "loading the model")
        held = _model(model or recipe.model, recipe, resume, force_base)
        recipe = replace(recipe, quantize=held.quantized, weights=held.dtype)
        spec = held.spec
        held.spec = recipe.pictures.applied(spec)
        faults = [*training.faults, *(validation.faults if validation is not None else ())]
        try:
            done = fit(
                held,
                recipe,
                training,
                validation,
                resume=resume,
                force_base=force_base,
                display=display,
                faults=faults,
                stop=stop,
            )
        except BaseException:
            held.spec = spec
            raise
    metrics = done.evaluation.metrics if done.evaluation else {}
    return Run(Path(recipe.out), held, metrics, (*faults, *done.faults), done.seconds)


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
    options: Mapping[str, Any] | None = None,
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
        options: Options of the task that go before those the model was taught.
        verbose: Show progress on standard error.
    """
    from mmtune.training.display import Display

    dataset = _held(data, task, format)
    records = list(dataset[:limit])
    if not records:
        raise UsageError("there are no records to evaluate on")
    held = load(model) if isinstance(model, str) else model
    adapter = task_for(held, task, dataset.classes, options)
    display = Display(quiet=not verbose)
    with display.counting("evaluating", len(records)) as on_done:
        found = evaluate_records(
            held,
            adapter,
            records,
            sampler=sampler,
            max_tokens=max_tokens,
            batch_size=batch_size,
            on_done=on_done,
        )
    if not found.records:
        raise DataError(f"none of {len(records)} records could be evaluated; the first: {found.faults[0].problem}")
    return replace(found, faults=(*dataset.faults, *found.faults))


def _model(model: Model | str, recipe: Recipe, resume: bool, force_base: bool) -> Model:
    """Returns what a run begins from: a model by its name, or a loaded one if the recipe can say what it is.

    Raises:
        RecipeError: When its weights are not those that the recipe says, or quantised and to be trained.
        UsageError: When a loaded one is not what its name loads.
    """
    if isinstance(model, str):
        weights = recipe.weights or ("float32" if recipe.full else None)
        model = load(
            model,
            precision=recipe.precision,
            weights=weights,
            quantize=recipe.quantize,
            base=recipe.base,
            force_base=force_base,
        )
    else:
        if model.altered:
            raise UsageError(
                f"{model.name}: {model.altered}, so the run could not be loaded by this name: load it anew, or write "
                "it by model.export and train what that folder loads as"
            )
        problems = []
        if recipe.weights not in (None, model.dtype):
            problems.append(f"weights: the run is of weights in {recipe.weights}, the given model has {model.dtype}")
        # Recipes without `weights` are older and did not say of loaded models whether they were quantised.
        begun = resume and recipe.weights is not None and (Path(recipe.out) / RECIPE).is_file()
        if model.quantized and recipe.quantize != model.quantized and (begun or recipe.quantize):
            wanted = f"weights in {recipe.quantize}" if recipe.quantize else "weights that are not quantised"
            problems.append(f"quantize: the run is of {wanted}, the given model has {model.quantized}")
        if problems:
            raise RecipeError(problems)
    if recipe.full and model.quantized:
        raise RecipeError(
            [
                f"full: the weights of {model.name} are in {model.quantized}, which cannot be trained: leave out full "
                "for an adapter on them, or load it as it was before it was quantised"
            ]
        )
    if recipe.quantize and not model.quantized:
        model.quantize(recipe.quantize)
    return model


def _address(data: Any) -> Any:
    """Returns what stands for some data in a recipe: its address, a fraction, or that it was passed as records."""
    if data is None or isinstance(data, str | float | int):
        return data
    name = data.name if isinstance(data, Dataset) else ""
    if name and isinstance(data, Dataset) and not data.partial:
        return name
    return f"{_PASSED} of {name}" if name else _PASSED


def _dataset(data: Dataset | Sequence[Record] | str, recipe: Recipe) -> Dataset:
    if isinstance(data, str) and data.partition(" of ")[0] == _PASSED and not Path(data).exists():
        raise UsageError(
            f"{data}: the run was trained on records that were passed to mmtune.train, which no address reads again: "
            f"go on with mmtune.train(..., data=records, out={recipe.out!r}, resume=True)"
        )
    return _held(data, recipe.task, recipe.format)


def _held(data: Dataset | Sequence[Record] | str, task: str, form: str | None) -> Dataset:
    """Returns the data set of an address or of bare records, whose classes are the labels that occur."""
    if isinstance(data, str):
        return read(data, task=task, format=form)
    if isinstance(data, Dataset):
        return data
    records = tuple(data)
    labels = dict.fromkeys(box.label for record in records for box in record.boxes)
    return Dataset(records, tuple(labels) if task_class(task).needs_classes else ())


def _validation(
    val: Dataset | Sequence[Record] | str | float | None, training: Dataset, recipe: Recipe
) -> Dataset | tuple[Dataset, Dataset] | None:
    if val is None:
        return None
    fraction = as_fraction(val)
    if fraction is not None:
        return split_off(training, fraction, recipe.seed)
    return _dataset(val, recipe)  # pyright: ignore[reportArgumentType]
