"""A training run from recipe to run folder: plan, fit, evaluate, save; and the same again from where it was cut."""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmtune.data.dataset import FaultLog
from mmtune.distributed.processes import all_gather_objects, is_distributed, is_main_process
from mmtune.distributed.worker import worker
from mmtune.errors import DataError, RecipeError, UsageError, unknown_name
from mmtune.evaluation import Evaluation
from mmtune.model import Model
from mmtune.models.fingerprint import Fingerprint, check_base, write_fingerprint
from mmtune.models.load import setup_of
from mmtune.recipe import Recipe, write_recipe
from mmtune.records import Fault, Record
from mmtune.registry import task_class
from mmtune.reporting import write_report
from mmtune.run_files import LAYOUT, RECIPE, REPORT
from mmtune.task import Task
from mmtune.training.callbacks import Milestones, Watch
from mmtune.training.checkpoints import Checkpoints, Progress
from mmtune.training.display import Display
from mmtune.training.example_stream import Gathered, gather
from mmtune.training.examples import Example, RowMaker
from mmtune.training.features import choose_features
from mmtune.training.log import Logs
from mmtune.training.model import Trainer
from mmtune.training.optimizer import default_learning_rate, make_optimizer
from mmtune.training.placed import write_layout
from mmtune.training.plan import Batch, Plan, Supervised, choose_shapes, load_batches
from mmtune.training.results import rescued, save_weights, write_results
from mmtune.training.run_agreement import agree_on_data
from mmtune.training.shared import own_rows, shared_evaluation
from mmtune.training.soundness import Soundness, lost_in
from mmtune.training.stopping import Interrupted, Stop, Stopped
from mmtune.training.updates import Updates, updates_of


@dataclass(frozen=True)
class Fitted:
    """What a run gave.

    Attributes:
        evaluation: On all validation records; None without.
        faults: Met while training and evaluating.
        seconds: Of all parts of the run.
    """

    evaluation: Evaluation | None
    faults: tuple[Fault, ...]
    seconds: float


def fit(
    model: Model,
    recipe: Recipe,
    data: Sequence[Record],
    val: Sequence[Record] | None,
    *,
    resume: bool = False,
    force_base: bool = False,
    display: Display | None = None,
    faults: Sequence[Fault] = (),
    stop: Stop | None = None,
) -> Fitted:
    """Trains the model and writes the run folder.

    Args:
        model: What to start from; it is changed in place and is the trained model afterwards. When an adapter's run
            ends with an error, the model is as it was.
        recipe: The run, its classes filled in.
        data: Training records.
        val: Validation records, or None.
        resume: Whether to go on from the newest checkpoint of the run folder.
        force_base: Whether a run may go on with another model than it was begun on.
        display: Shows progress; None: silent.
        faults: Met while reading, to be shown with those met here.
        stop: Takes signals from when training begins; None: they do what they do.

    Raises:
        Stopped: When a signal ended the run, which then goes on with `resume`.
        DataError: When no record can be trained on, or the loss is lost.
        UsageError: When the model cannot do the task.
        ModelError: When the run was begun on another model.
        RecipeError: When a key makes no sense with this task or data.
    """
    display = display or Display(quiet=True)
    task = task_class(recipe.task)(recipe.classes, recipe.task_options())
    _check(recipe, task, model, val)
    log = FaultLog()
    worker().begin("start", "preparing the examples")
    examples = gather(data, task, model.tokenizer, log, recipe.max_tokens)
    if not examples.known:
        first = f"; the first: {log.faults[0].record}: {log.faults[0].problem}" if log.faults else ""
        raise DataError(f"none of {len(data)} training records can be used for {recipe.task}{first}")
    if task.needs_picture:
        _check_pictures(examples.known)
    if recipe.dense.on and task.seen_objects(examples.known[0].record) is None:
        raise RecipeError([f"dense: the task {task.name} has no boxes to supervise the vision tower by"])
    task.grammar(examples.known[0].query, model.tokenizer)  # what cannot be decoded is said before it is trained
    _log_unknown_classes(task, val or (), log)
    recipe = replace(recipe, options=recipe.options | dict(task.for_tokenizer(model.tokenizer).settled()))
    recipe = complete(recipe, model, examples)
    precision, before = model.precision, model.dtype
    if recipe.full:
        model.cast("float32")  # first: in fewer bits an adapter's values round away, and so do the steps of training
        if before != "float32":
            display.note(f"the weights, loaded in {before}, are trained and kept in float32")
    model.bake()
    agree_on_data(model, examples, val)
    base = model.fingerprint()
    begun = resume and (Path(recipe.out) / RECIPE).is_file()
    if begun:
        check_base(Path(recipe.out), base, force_base)
    if not recipe.full:
        model.add_lora(recipe.lora, recipe.seed)
    try:
        with stop.listening() if stop is not None else nullcontext():
            return _fit(
                model,
                recipe,
                task,
                examples,
                val,
                resume,
                display,
                log,
                faults,
                stop or Stop(),
                None if begun else base,
            )
    except BaseException:
        model.precision = precision
        if not recipe.full:
            model.drop_lora()
        raise


def _fit(
    model: Model,
    recipe: Recipe,
    task: Task,
    examples: Gathered,
    val: Sequence[Record] | None,
    resume: bool,
    display: Display,
    log: FaultLog,
    faults: Sequence[Fault],
    stop: Stop,
    base: Fingerprint | None,
) -> Fitted:
    """Fits what `fit` has prepared; `base` is to be recorded, None where the folder records it."""
    assert recipe.steps
    worker().begin("wait", "beginning")
    out = Path(recipe.out)
    keras.utils.set_random_seed(recipe.seed)
    model.precision = recipe.precision
    trainer = Trainer(model, recipe, len(task.classes) + 1 if recipe.dense.on else 0)
    updates = updates_of(recipe, recipe.steps)
    trainer.compile(optimizer=make_optimizer(recipe, recipe.steps))
    trainer.build_optimizer()
    shapes = choose_shapes(examples.known, recipe.buckets)
    plan = Plan(examples.all, shapes, recipe.batch_size, recipe.steps, recipe.seed)
    side = 0
    if recipe.dense.on:
        plan = Supervised(plan, updates, recipe.dense.weight)
        side = math.isqrt(model.spec.image_tokens)
    progress, checkpoints = Progress(data=examples.fingerprint), None
    try:
        if is_main_process():
            if base is not None:
                write_fingerprint(base, out)
            write_recipe(recipe, out / RECIPE)
        laid_out = write_layout(trainer, out / LAYOUT)
        checkpoints = Checkpoints(out / "checkpoints", recipe.keep_checkpoints, display.note)
        if resume:
            progress = checkpoints.restore(trainer, progress.data)
        logs = Logs(out, _metric_names(task), progress.step, display.note)
    except OSError as error:
        raise rescued(error, trainer, model, recipe, checkpoints, Progress()) from error
    if recipe.full:
        model.altered = "a run that did not end changed its weights"
    begin = updates.around(progress.step).start if progress.step < recipe.steps else recipe.steps
    features, pictures, kept = choose_features(recipe, model, examples, plan, begin, task.needs_picture)
    display.start(
        recipe,
        model,
        examples=len(examples.all),
        shapes=shapes,
        step=progress.step,
        trainable=_count(trainer),
        faults=[*faults, *log.faults],
        notes=[*laid_out, *filter(None, [kept])],
    )
    vision = model.spec.vision
    way = {} if vision is None else {"resample": vision.resample, "draft": vision.draft}
    rows = RowMaker(
        examples.all,
        task,
        model.tokenizer,
        model.image_size,
        recipe.augment,
        recipe.seed,
        side,
        features=features,
        **way,
    )
    try:
        if not progress.stopped:
            if features is not None:
                worker().begin("start", "encoding pictures")
                with display.counting("encoding pictures", len(pictures)) as on_done:
                    features.fill(pictures, on_done)
                worker().begin("wait", "at the first step")
            _run(trainer, recipe, plan, updates, rows, logs, checkpoints, progress, model, task, val, display, stop)
        worker().begin("work", "saving the trained model")
        checkpoints.wait()
        if val:
            checkpoints.best.restore(trainer, progress.best_step)
        started = time.perf_counter()
        save_weights(trainer, model, recipe, out)
        model.setup = setup_of(recipe)
        model.known_as(str(out))
        with stop.interruptible():
            evaluation = _evaluate(model, task, val, display) if val else None
        unusable = {
            record: fault
            for part in all_gather_objects("evaluated the trained model", rows.faults)
            for record, fault in part.items()
        }
        met = [fault for _, fault in sorted(unusable.items())]
        met += evaluation.faults if evaluation is not None else ()
        seconds = progress.seconds + time.perf_counter() - started
        if is_main_process():
            write_results(out, recipe, evaluation, progress, seconds)
        asked, pairs, metrics = (
            (evaluation.adapter, evaluation.pairs, evaluation.metrics) if evaluation else (task, (), {})
        )
        # After all else: everything that it says is already in the folder.
        if is_main_process():
            with stop.interruptible():
                write_report(out / REPORT, asked, pairs, metrics, recipe)
        display.end(evaluation, met, out)
        return Fitted(evaluation, (*log.faults, *met), seconds)
    except OSError as error:
        raise rescued(error, trainer, model, recipe, checkpoints, progress) from error
    except Interrupted as interrupted:
        raise Stopped(stop.by, progress.step, recipe.steps, out) from interrupted
    finally:
        ending = sys.exc_info()[1]
        display.close()
        logs.close()
        # Other errors end this process alone. The others then wait for it in a step: it cannot wait for them too.
        if not is_distributed() or ending is None or isinstance(ending, Stopped | DataError):
            checkpoints.close()


def complete(recipe: Recipe, model: Model, examples: Gathered) -> Recipe:
    """Returns the recipe with every choice written out that depends on model and data."""
    steps = recipe.steps or recipe.dense.steps + max(1, round(recipe.epochs * len(examples.all) / recipe.batch_size))
    every = recipe.eval_every or max(1, steps // 10)
    optimizer = recipe.optimizer
    if optimizer.learning_rate is None:
        rate = default_learning_rate(recipe.full, model.backbone.count_params())
        optimizer = replace(optimizer, learning_rate=rate)
    save_every = recipe.save_every or every
    max_tokens = recipe.max_tokens or examples.longest
    return replace(
        recipe, steps=steps, eval_every=every, save_every=save_every, max_tokens=max_tokens, optimizer=optimizer
    )


def _run(
    trainer: Trainer,
    recipe: Recipe,
    plan: Sequence[Batch],
    updates: Updates,
    rows: RowMaker,
    logs: Logs,
    checkpoints: Checkpoints,
    progress: Progress,
    model: Model,
    task: Task,
    val: Sequence[Record] | None,
    display: Display,
    stop: Stop,
) -> None:
    """Fits what is left of the plan."""
    assert recipe.steps
    assert recipe.eval_every
    assert recipe.save_every
    metric = recipe.metric or task.headline
    falls = metric in task.falling
    watch = Watch(
        logs,
        plan,
        len(rows.examples),
        progress,
        recipe.log_every,
        display.step,
        lambda batch: [rows.examples[index].record.id for index, _ in batch.members],
        Soundness(model.spec.text.vocabulary_size),
    )
    limited = val[: recipe.eval_limit] if val and recipe.eval_limit else val
    milestones = Milestones(
        watch=watch,
        logs=logs,
        checkpoints=checkpoints,
        progress=progress,
        evaluate=(lambda: _evaluate(model, task, limited, display).metrics) if limited else None,
        better=(lambda a, b: a < b) if falls else (lambda a, b: a > b),
        metric=metric,
        eval_every=recipe.eval_every,
        save_every=recipe.save_every,
        first_eval=recipe.dense.steps + 1,
        patience=recipe.early_stopping,
        steps=recipe.steps,
        show=display.evaluation,
        stop=stop,
        folder=Path(recipe.out),
    )
    milestones.set_model(trainer)
    milestones.catch_up()
    if progress.stopped or progress.step == recipe.steps:
        return
    own, by_tokens = own_rows(recipe.batch_size), recipe.optimizer.average == "tokens"
    shared = updates if updates.accumulation > 1 else None
    batches = load_batches(plan, rows, model.spec.image_tokens, progress.step, own, by_tokens, shared)
    left = len(plan) - progress.step
    quiet: Any = 0  # Keras' own annotation knows only its texts
    try:
        trainer.fit(
            batches,
            steps_per_epoch=left,
            shuffle=False,
            verbose=quiet,
            callbacks=[watch, milestones],
        )
    except FloatingPointError as error:  # of jax_debug_nans
        step = progress.step + 1
        raise DataError(
            f"{lost_in(error)}, at step {step} on the records {watch.records(step)}: look at them, or lower "
            "optimizer.learning_rate"
        ) from error


def _evaluate(model: Model, task: Task, val: Sequence[Record], display: Display) -> Evaluation:
    worker().begin("work", "evaluating")
    with display.counting("evaluating", len(val)) as on_done:
        return shared_evaluation(model, task, val, on_done)


def _metric_names(task: Task) -> tuple[str, ...]:
    return tuple(name for name, value in task.metric().compute().items() if isinstance(value, int | float))


def _check(recipe: Recipe, task: Task, model: Model, val: Sequence[Record] | None) -> None:
    """Refuses what could only fail later, or would be ignored."""
    if task.needs_picture and model.image_size is None:
        raise UsageError(f"the task {task.name} needs pictures, and {model.name} is a text model")
    if task.needs_classes and not task.classes:
        raise DataError(f"{recipe.data}: the task {task.name} needs classes, and the data names none")
    problems = []
    names = _metric_names(task)
    if recipe.metric is not None and recipe.metric not in names:
        problems.append(f"metric: {unknown_name('metric', recipe.metric, names)}")
    if not val and (recipe.early_stopping or recipe.metric is not None):
        problems.append("early_stopping and metric need validation data: give val")
    if problems:
        raise RecipeError(problems)


def _check_pictures(examples: Sequence[Example]) -> None:
    """Refuses data of which not one picture can be opened; single ones are met and listed while training."""
    first: DataError | None = None
    for example in examples:
        try:
            if example.record.picture is not None:
                example.record.picture.open()
                return
        except DataError as error:
            first = first or error
    reason = first or "the records have none"
    raise DataError(f"none of the {len(examples)} training pictures can be opened; the first: {reason}")


def _log_unknown_classes(task: Task, val: Sequence[Record], log: FaultLog) -> None:
    """Notes the classes that only the validation data has: the model is never asked for them."""
    if not task.needs_classes:
        return
    sources = {box.label: record for record in val for box in record.boxes if box.label not in task.classes}
    for label, record in sorted(sources.items()):
        problem = f"the class '{label}' of the validation data is not in the training data, so it is never found"
        log.add(record.source, record.id, "class unknown to training", problem)


def _count(trainer: Trainer) -> int:
    return sum(int(np.prod(v.shape)) for v in trainer.trainable_variables)
