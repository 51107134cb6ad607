"""A training run from recipe to run folder: plan, fit, evaluate, save; and the same again from where it was cut."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmtune.data.dataset import FaultLog
from mmtune.errors import DataError, RecipeError, UsageError, unknown_name
from mmtune.evaluation import Evaluation, evaluate_records, write_predictions
from mmtune.files import atomic
from mmtune.model import Model, Setup
from mmtune.models.peft_files import save_adapter
from mmtune.recipe import Recipe, read_recipe, write_recipe
from mmtune.records import Fault, Record
from mmtune.registry import task_class
from mmtune.settings import plain
from mmtune.task import Task
from mmtune.training.callbacks import Metrics, Milestones, Watch
from mmtune.training.checkpoints import Checkpoints, Progress, trained
from mmtune.training.display import Display
from mmtune.training.examples import Example, RowMaker, list_examples
from mmtune.training.log import Logs
from mmtune.training.model import Trainer
from mmtune.training.optimizer import default_learning_rate, make_optimizer
from mmtune.training.plan import choose_shapes, load_batches, make_plan


def fit(
    model: Model,
    recipe: Recipe,
    data: Sequence[Record],
    val: Sequence[Record] | None,
    *,
    resume: bool = False,
    display: Display | None = None,
    faults: Sequence[Fault] = (),
) -> tuple[Evaluation | None, list[Fault], float]:
    """Trains the model and writes the run folder.

    Args:
        model: What to start from; it is changed in place and is the trained model afterwards.
        recipe: The run, its classes filled in.
        data: Training records.
        val: Validation records, or None.
        resume: Whether to go on from the newest checkpoint of the run folder.
        display: Shows progress; None: silent.
        faults: Met while reading, to be shown with those met here.

    Returns:
        The last evaluation on all validation records (None without), the faults met, and the seconds of all parts.
    """
    display = display or Display(quiet=True)
    out = Path(recipe.out)
    task = task_class(recipe.task)(recipe.classes, recipe.task_options())
    log = FaultLog()
    examples = list_examples(data, task, model.tokenizer, log, recipe.max_tokens)
    if not examples:
        first = f"; the first: {log.faults[0].record}: {log.faults[0].problem}" if log.faults else ""
        raise DataError(f"none of {len(data)} training records can be used for {recipe.task}{first}")
    _check_metric(recipe, task)
    recipe = complete(recipe, model, len(examples))
    assert recipe.steps
    write_recipe(recipe, out / "recipe.toml")

    keras.utils.set_random_seed(recipe.seed)
    if model.lora is not None:
        model.bake()
    if not recipe.full:
        model.add_lora(recipe.lora, recipe.seed)
    model.precision = recipe.precision
    trainer = Trainer(model, recipe)
    trainer.compile(optimizer=make_optimizer(recipe, recipe.steps))
    trainer.optimizer.build(trainer.trainable_variables)

    shapes = choose_shapes(examples, recipe.buckets)
    plan = make_plan(examples, shapes, recipe.batch_size, recipe.steps, recipe.seed)
    checkpoints = Checkpoints(out / "checkpoints")
    progress = checkpoints.restore(trainer) if resume and checkpoints.latest is not None else Progress()
    display.start(
        recipe,
        model,
        examples=len(examples),
        shapes=shapes,
        step=progress.step,
        trainable=_count(trainer),
        faults=[*faults, *log.faults],
    )
    rows = RowMaker(examples, task, model.tokenizer, model.image_size, recipe.augment, recipe.seed)
    logs = Logs(out, _metric_names(task), progress.step)
    try:
        if progress.step < recipe.steps and not progress.stopped:
            _run(trainer, recipe, plan, examples, rows, logs, checkpoints, progress, model, task, val, display)
        if val:
            checkpoints.restore_best(trainer)
        started = time.perf_counter()
        _save_weights(trainer, model, recipe, out)
        model.setup = Setup(recipe.task, recipe.classes, dict(recipe.options))
        model.name = str(out)
        evaluation = _evaluate(model, task, val, display) if val else None
        for record, problem in rows.faults.items():
            log.add("", record, "unreadable picture", problem)
        seconds = progress.seconds + time.perf_counter() - started
        _write_results(out, task, recipe, evaluation, progress, seconds)
        display.end(evaluation, list(rows.faults.items()), out)
        return evaluation, log.faults, seconds
    finally:
        display.close()
        logs.close()
        checkpoints.close()


def complete(recipe: Recipe, model: Model, examples: int) -> Recipe:
    """Returns the recipe with every choice written out that depends on model and data."""
    steps = recipe.steps or max(1, round(recipe.epochs * examples / recipe.batch_size))
    every = recipe.eval_every or max(1, steps // 10)
    optimizer = recipe.optimizer
    if optimizer.learning_rate is None:
        rate = default_learning_rate(recipe.full, model.backbone.count_params())
        optimizer = replace(optimizer, learning_rate=rate)
    save_every = recipe.save_every or every
    freeze = recipe.freeze_vision if recipe.freeze_vision is not None else not recipe.full
    return replace(
        recipe,
        steps=steps,
        epochs=steps * recipe.batch_size / examples,
        eval_every=every,
        save_every=save_every,
        freeze_vision=freeze,
        optimizer=optimizer,
    )


def _run(
    trainer: Trainer,
    recipe: Recipe,
    plan: list,
    examples: list[Example],
    rows: RowMaker,
    logs: Logs,
    checkpoints: Checkpoints,
    progress: Progress,
    model: Model,
    task: Task,
    val: Sequence[Record] | None,
    display: Display,
) -> None:
    """Fits what is left of the plan."""
    assert recipe.steps
    assert recipe.eval_every
    assert recipe.save_every
    falls = task.headline_falls
    watch = Watch(
        logs,
        plan,
        len(examples),
        progress,
        recipe.log_every,
        display.step,
        lambda batch: [examples[index].record.id for index, _ in batch.members],
    )
    limited = val[: recipe.eval_limit] if val and recipe.eval_limit else val
    milestones = Milestones(
        watch=watch,
        logs=logs,
        checkpoints=checkpoints,
        progress=progress,
        evaluate=(lambda: _evaluate(model, task, limited, display).metrics) if limited else None,
        better=(lambda a, b: a < b) if falls else (lambda a, b: a > b),
        metric=recipe.metric or task.headline,
        eval_every=recipe.eval_every,
        save_every=recipe.save_every,
        patience=recipe.early_stopping,
        steps=recipe.steps,
        show=display.evaluation,
    )
    left = plan[progress.step :]
    batches = load_batches(left, rows, model.spec.image_tokens)
    quiet: Any = 0  # Keras' own annotation knows only its texts
    trainer.fit(batches, steps_per_epoch=len(left), shuffle=False, verbose=quiet, callbacks=[watch, milestones])


def _evaluate(model: Model, task: Task, val: Sequence[Record], display: Display) -> Evaluation:
    with display.evaluating(len(val)) as on_done:
        return evaluate_records(model, task, val, on_done=on_done)


def _metric_names(task: Task) -> tuple[str, ...]:
    return tuple(name for name, value in task.metric().compute().items() if isinstance(value, int | float))


def _check_metric(recipe: Recipe, task: Task) -> None:
    names = _metric_names(task)
    if recipe.metric is not None and recipe.metric not in names:
        raise RecipeError([f"metric: {unknown_name('metric', recipe.metric, names)}"])


def _count(trainer: Trainer) -> int:
    return sum(int(np.prod(v.shape)) for v in trainer.trainable_variables)


def _save_weights(trainer: Trainer, model: Model, recipe: Recipe, out: Path) -> None:
    if model.lora is not None:
        save_adapter(model.lora, out / "adapter.safetensors", recipe.model)
        return
    from safetensors.numpy import save_file

    with atomic(out / "weights.safetensors") as temporary:
        save_file({key: np.asarray(v.value) for key, v in trained(trainer).items()}, temporary)


def _write_results(
    out: Path, task: Task, recipe: Recipe, evaluation: Evaluation | None, progress: Progress, seconds: float
) -> None:
    result: Metrics = {"task": recipe.task, "n": 0, "metrics": {}, "invalid": 0}
    if evaluation is not None:
        result = evaluation.as_json()
        write_predictions(task, evaluation, out / "predictions.jsonl")
    result |= {"step": progress.step, "best_step": progress.best_step, "seconds": round(seconds, 2)}
    with atomic(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")


def check_folder(recipe: Recipe, resume: bool) -> None:
    """Refuses to write over a run, to resume one that is not there, or to resume it under another recipe.

    Raises:
        UsageError: When the folder holds a run and `resume` is off.
        RecipeError: With every key in which the recipe differs from the run's.
    """
    file = Path(recipe.out) / "recipe.toml"
    if not file.is_file():
        return
    if not resume:
        raise UsageError(f"{recipe.out} already holds a run: resume it with --resume, or choose another --out")
    old, new = plain(read_recipe(file, {}, [])), plain(recipe)
    problems = [
        f"{key}: the run was begun with {old.get(key)!r}, not {new.get(key)!r}: leave it out, or choose another --out"
        for key in new
        if old.get(key) != new.get(key)
    ]
    if problems:
        raise RecipeError(problems)
