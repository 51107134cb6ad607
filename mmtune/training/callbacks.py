"""What happens between steps: the log, evaluations, checkpoints, early stopping, a check for lost numbers."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmtune.distributed.worker import worker
from mmtune.errors import DataError
from mmtune.training.checkpoints import Checkpoints, Progress
from mmtune.training.log import Logs
from mmtune.training.plan import Batch
from mmtune.training.soundness import Soundness
from mmtune.training.stopping import Interrupted, Stop, Stopped

Metrics = dict[str, Any]


class Watch(keras.callbacks.Callback):
    """Writes the log: one row every `every` steps, with the mean loss since the row before.

    Args:
        logs: Where rows go.
        plan: All batches of the run.
        epoch_size: Examples an epoch.
        progress: Advanced with every step.
        every: Steps between rows.
        show: Called with each row, for a progress display.
        names: Gives record ids of a batch, for the message when the loss is lost.
        soundness: Says when it is.
    """

    def __init__(
        self,
        logs: Logs,
        plan: Sequence[Batch],
        epoch_size: int,
        progress: Progress,
        every: int,
        show: Callable[[Metrics], None],
        names: Callable[[Batch], list[str]],
        soundness: Soundness,
    ):
        super().__init__()
        self._logs, self._plan, self._epoch_size = logs, plan, epoch_size
        self._progress, self._every, self._show, self._names = progress, every, show, names
        self._soundness = soundness
        self._held: list[tuple[int, Any, Any, Any]] = []
        self._since = time.perf_counter()
        self._working = False  # whether the supervisor knows that it trains

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the step; every so often writes."""
        del batch
        self._progress.step += 1
        if self._working:
            worker().progress(f"step {self._progress.step}", step=True)
        else:
            self._working = True
            worker().begin("steps", f"step {self._progress.step}")
        assert logs is not None
        self._held.append((self._progress.step, logs["loss"], logs["gradient_norm"], logs["learning_rate"]))
        if self._progress.step % self._every == 0 or self._progress.step == len(self._plan):
            self.flush()

    def records(self, step: int) -> str:
        """Returns the ids of the records of a step's batch."""
        return ", ".join(dict.fromkeys(self._names(self._plan[step - 1])))

    def restart_clock(self) -> None:
        """Leaves the time since the last row out of the seconds of a step: it went into something else."""
        self._since = time.perf_counter()
        self._working = False

    def flush(self) -> None:
        """Writes one row of what is held."""
        if not self._held:
            return
        losses = [float(loss) for _, loss, *_ in self._held]
        for step, loss, norm, _ in self._held:
            if (problem := self._soundness.problem(float(loss), float(norm))) is not None:
                raise DataError(
                    f"{problem} at step {step} on the records {self.records(step)}: look at them, lower "
                    "optimizer.learning_rate, or let --debug-nans find the operation; "
                    "what was saved before is still good"
                )
        seconds = (time.perf_counter() - self._since) / len(losses)
        step, _, norm, rate = self._held[-1]
        size = len(self._plan[step - 1].members)
        row = {
            "step": step,
            "epoch": round(step * size / self._epoch_size, 4),
            "loss": float(np.mean(losses)),
            "learning_rate": float(rate),
            "seconds": seconds,
            "examples_per_second": size / seconds,
            "gradient_norm": float(norm),
        }
        self._held.clear()
        self._logs.write(row)
        self._show(row)
        self._since = time.perf_counter()


class Milestones(keras.callbacks.Callback):
    """Evaluates and saves at set steps.

    Args:
        watch: The log's callback, which must stand before this one.
        logs: Where metrics go.
        checkpoints: The run's checkpoints.
        progress: The run's progress.
        evaluate: Gives the metrics of the model as it is; None: no evaluation.
        better: Whether the first value is better than the second.
        metric: Name of the metric that decides.
        eval_every, save_every: Steps.
        first_eval: No evaluation comes before this step: nothing was taught yet.
        patience: Evaluations without a better value before the run ends; 0: never.
        steps: Length of the run.
        show: Called with each evaluation's metrics.
        stop: Asked after each step whether to end the run.
        folder: The run's, for the command that goes on with it.
    """

    def __init__(
        self,
        *,
        watch: Watch,
        logs: Logs,
        checkpoints: Checkpoints,
        progress: Progress,
        evaluate: Callable[[], Metrics] | None,
        better: Callable[[float, float], bool],
        metric: str,
        eval_every: int,
        save_every: int,
        first_eval: int,
        patience: int,
        steps: int,
        show: Callable[[Metrics], None],
        stop: Stop,
        folder: Path,
    ):
        super().__init__()
        self._stop = stop
        self._watch, self._logs, self._checkpoints, self._progress = watch, logs, checkpoints, progress
        self._evaluate, self._better, self._metric, self._show = evaluate, better, metric, show
        self._eval_every, self._save_every, self._patience, self._steps = eval_every, save_every, patience, steps
        self._first_eval, self._folder = first_eval, folder
        self._start = time.perf_counter()
        self._before = progress.seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Evaluates and saves when the step is one of the set ones, and saves when the run is to end.

        Raises:
            Stopped: When it is to end, after it was saved.
        """
        del batch, logs
        step = self._progress.step
        evaluates = self._evaluates_at(step)
        saves = step % self._save_every == 0 or step == self._steps
        stops = self._stop.due(step)
        if not (evaluates or saves or stops):
            return
        self._watch.flush()
        trainer: Any = self.model
        trainer.jax_state_sync()
        if evaluates and not stops:
            stops = not self._evaluate_now(step)
        self._progress.seconds = self._before + time.perf_counter() - self._start
        if saves or stops or trainer.stop_training:
            worker().begin("work", f"saving the checkpoint of step {step}")
            self._checkpoints.save(trainer, self._progress)
        if stops:
            self._checkpoints.wait()
            if self._checkpoints.failed:
                raise OSError(None, self._checkpoints.failed, str(self._checkpoints.folder))
            raise self.stopped()
        self._watch.restart_clock()

    def catch_up(self) -> None:
        """Evaluates a resumed run if it was stopped before its evaluation was done; the trainer must be set.

        Raises:
            Stopped: When it is to end again; its checkpoint is the one that it was resumed from.
        """
        step = self._progress.step
        if step and self._evaluates_at(step) and self._progress.evaluated < step and not self._evaluate_now(step):
            raise self.stopped()

    def stopped(self) -> Stopped:
        """Returns what says that the run was stopped."""
        return Stopped(self._stop.by, self._progress.step, self._steps, self._folder)

    def _evaluates_at(self, step: int) -> bool:
        due = step % self._eval_every == 0 or step == self._steps
        return self._evaluate is not None and due and step >= self._first_eval

    def _evaluate_now(self, step: int) -> bool:
        """Returns whether the evaluation was done; False: the run was asked to stop, and nothing is changed."""
        assert self._evaluate is not None
        assert self.model is not None
        try:
            with self._stop.interruptible():
                metrics = self._evaluate()
        except Interrupted:
            return False
        value = float(metrics[self._metric])
        progress: Any = self._progress
        progress.evaluated = step
        before = math.nan if progress.best is None else progress.best
        # A NaN is never the best, not even the first one.
        better = not math.isnan(value) and (math.isnan(before) or self._better(value, before))
        if better or value == progress.best:  # of equals the later ones have seen more
            progress.best, progress.best_step = value, step
            self._checkpoints.best.take(self.model, step)  # pyright: ignore[reportArgumentType]
        progress.waited = 0 if better else progress.waited + 1
        if self._patience and progress.waited >= self._patience:
            progress.stopped = self.model.stop_training = True
        numbers = {name: v for name, v in metrics.items() if isinstance(v, int | float)}
        self._logs.write({"step": step, **numbers})
        self._show({"step": step, **numbers})
        return True
