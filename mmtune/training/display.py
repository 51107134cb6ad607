"""What a person sees of a run: a bar, a line an evaluation, the table at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmtune.evaluation import Evaluation
from mmtune.model import Model
from mmtune.recipe import Recipe
from mmtune.records import Fault
from mmtune.reports.tables import metrics_table, print_faults

SHOWN = 3  # metrics in a line while training; the log has them all


class Display:
    """Prints to standard error, so that standard output stays free for results.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task: Any = None

    def start(
        self,
        recipe: Recipe,
        model: Model,
        *,
        examples: int,
        shapes: Sequence[Any],
        step: int,
        trainable: int,
        faults: Sequence[Fault],
        notes: Sequence[str] = (),
    ) -> None:
        """Says what is about to run, with further notes."""
        total = model.backbone.count_params()
        how = "all weights" if recipe.full else f"LoRA rank {recipe.lora.rank}"
        self.console.print(
            f"{recipe.task} on {recipe.model} ({total:,} parameters), {how}: {trainable:,} trainable; "
            f"{examples:,} examples, {recipe.steps:,} steps of {recipe.batch_size}, "
            f"learning rate {recipe.optimizer.learning_rate:g}",
            markup=False,
        )
        lengths = ", ".join(f"{shape.text_length}+{shape.target_length}" for shape in shapes)
        self.console.print(f"{len(shapes)} compiled shapes (text + targets): {lengths}", markup=False, highlight=False)
        for note in notes:
            self.console.print(note, markup=False, highlight=False, soft_wrap=True)
        if faults:
            print_faults(self.console, faults)
        if step:
            self.console.print(f"resumed at step {step}")
        self._task = self._bar.add_task("training", total=recipe.steps, completed=step, note="")
        self._bar.start()

    def note(self, line: str) -> None:
        """Prints a line."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, row: dict[str, Any]) -> None:
        """Moves the bar."""
        note = f"loss {row['loss']:.4f}  {row['examples_per_second']:.1f} examples/s"
        self._bar.update(self._task, completed=row["step"], note=note)

    def evaluation(self, row: dict[str, Any]) -> None:
        """Prints a line of metrics."""
        numbers = [f"{name} {value:.4f}" for name, value in row.items() if name != "step" and value != -1]
        self.console.print(f"step {row['step']}: {'  '.join(numbers[:SHOWN])}", highlight=False)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows a second bar while something is done `total` times, such as records predicted."""
        running = self._task is not None
        if not running:
            self._bar.start()
        task = self._bar.add_task(what, total=total, note="")
        try:
            yield lambda count: self._bar.update(task, completed=count)
        finally:
            self._bar.remove_task(task)
            if not running:
                self._bar.stop()

    def end(self, evaluation: Evaluation | None, faults: Sequence[Fault], out: Path) -> None:
        """Prints the final metrics, what was met while training, and where the run lies."""
        self.close()
        if evaluation is not None:
            self.console.print(
                metrics_table(evaluation.metrics, f"{evaluation.task} on {len(evaluation.records)} records")
            )
        print_faults(self.console, faults)
        self.console.print(f"run folder: {out}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.stop()
