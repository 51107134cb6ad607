"""A training run as a frozen, validated description: what `mmtune train` reads from TOML and writes back complete."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmtune.data.augment import Augment
from mmtune.errors import MmtuneError, RecipeError
from mmtune.files import atomic
from mmtune.models.lora_config import LoRA
from mmtune.registry import task_class
from mmtune.settings import assign, build, plain


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        learning_rate: Peak; None: chosen by model size and by LoRA or full tuning.
        schedule: "cosine" falls to zero, "constant" stays.
        warmup: Share of all steps in which the rate rises from zero.
        weight_decay: On matrices only, not on norms, biases and embeddings.
        beta_1, beta_2: Moments' decay; 0.999 is what PaliGemma's transfers use.
        clip: Largest norm of the whole gradient; 0: no clipping.
        accumulation: Batches whose gradients are averaged before an update.
        label_smoothing: Share of the target probability spread over the vocabulary.
        location_smoothing: Standard deviation in bins over which a location token's target is spread; 0: none.
    """

    learning_rate: float | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    clip: float = 1.0
    accumulation: int = 1
    label_smoothing: float = 0.0
    location_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run.

    Attributes:
        task: Name of the task.
        data: Training data, as `mmtune.read` takes it.
        val: Validation data, or a fraction of the training data such as "0.1"; None: no evaluation.
        model: What to start from.
        out: The run's folder.
        format: Name of the data's format; None: detected.
        seed: Seed of everything random.
        steps: Number of batches; None: `epochs`.
        epochs: Passes over the data where `steps` is None.
        batch_size: Rows a batch.
        full: Train all weights instead of an adapter.
        lora: The adapter, unused with `full`.
        freeze_vision: Keep the vision tower as it is; None: frozen with LoRA, tuned in full.
        precision: Dtype of activations and products.
        rematerialise: What the backward pass recomputes to save memory.
        mesh: Device mesh such as "data=2,model=4"; None: one device.
        eval_every: Steps between evaluations; None: a tenth of the run. Also at the end.
        eval_limit: Most validation records used while training; the last evaluation uses all. None: all.
        save_every: Steps between checkpoints; None: as `eval_every`.
        log_every: Steps between lines of the log.
        early_stopping: Stop after so many evaluations without a better metric; 0: never.
        metric: Metric that says which checkpoint is best; None: the task's own.
        max_tokens: Most tokens of a target; longer ones are reported and left out. None: whatever the data needs.
        buckets: Most row lengths that are compiled.
        optimizer: AdamW.
        augment: Changes to training pictures.
        options: The task's own options.
        classes: Class names; empty: the data's.
    """

    task: str
    data: str
    model: str = "tiny"
    val: str | None = None
    out: str = "runs/run"
    format: str | None = None
    seed: int = 0
    steps: int | None = None
    epochs: float = 10.0
    batch_size: int = 8
    full: bool = False
    lora: LoRA = field(default_factory=LoRA)
    freeze_vision: bool | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    rematerialise: Literal["none", "dots", "full"] = "none"
    mesh: str | None = None
    eval_every: int | None = None
    eval_limit: int | None = None
    save_every: int | None = None
    log_every: int = 10
    early_stopping: int = 0
    metric: str | None = None
    max_tokens: int | None = None
    buckets: int = 4
    optimizer: Optimizer = field(default_factory=Optimizer)
    augment: Augment = field(default_factory=Augment)
    options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            f"{name}: expected 1 or more, got {value}"
            for name in ("steps", "batch_size", "eval_every", "eval_limit", "save_every", "log_every", "max_tokens")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if self.epochs <= 0:
            problems.append(f"epochs: expected more than 0, got {self.epochs}")
        problems += [] if self.full else self.lora.problems()
        problems += _optimizer_problems(self.optimizer)
        try:
            build(task_class(self.task).Options, self.options, "options.")
        except RecipeError as error:
            problems += error.problems
        except MmtuneError as error:
            problems.append(f"task: {error}")
        if problems:
            raise RecipeError(problems)

    @property
    def tunes_vision(self) -> bool:
        """Whether the vision tower's own weights are trained."""
        return self.full and not self.freeze_vision

    def task_options(self) -> Any:
        """Returns the task's options as its own dataclass."""
        return build(task_class(self.task).Options, self.options, "options.")


def read_recipe(file: Path | None, changes: Mapping[str, Any], assignments: list[str]) -> Recipe:
    """Returns a recipe from a TOML file, then the command line's options, then its `--set` assignments.

    Args:
        file: A TOML file, or None.
        changes: Top-level values; those that are None are left out.
        assignments: Texts such as "optimizer.learning_rate=1e-4".

    Raises:
        RecipeError: With all faults and their keys, after the file's name.
    """
    table: dict[str, Any] = {}
    if file is not None:
        try:
            table = tomllib.loads(Path(file).read_text())
        except OSError as error:
            raise RecipeError([f"{file}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError([f"{file}: no TOML: {error}"]) from error
    table |= {key: value for key, value in changes.items() if value is not None}
    try:
        return build(Recipe, assign(table, assignments))
    except RecipeError as error:
        where = f"{file}: " if file is not None else ""
        raise RecipeError([f"{where}{problem}" for problem in error.problems]) from error


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Writes the whole recipe as TOML, defaults included."""
    import tomli_w

    with atomic(file) as temporary:
        temporary.write_text(tomli_w.dumps(plain(recipe)))


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """Returns the recipe with some values replaced, validated anew."""
    return replace(recipe, **changes)


def _optimizer_problems(optimizer: Optimizer) -> list[str]:
    problems = []
    if optimizer.learning_rate is not None and optimizer.learning_rate <= 0:
        problems.append(f"optimizer.learning_rate: expected more than 0, got {optimizer.learning_rate}")
    for name, low, high in (
        ("warmup", 0, 1),
        ("beta_1", 0, 1),
        ("beta_2", 0, 1),
        ("label_smoothing", 0, 1),
        ("weight_decay", 0, float("inf")),
        ("clip", 0, float("inf")),
        ("location_smoothing", 0, 200),
    ):
        value = getattr(optimizer, name)
        if not low <= value <= high:
            problems.append(f"optimizer.{name}: expected {low} to {high}, got {value}")
    if optimizer.accumulation < 1:
        problems.append(f"optimizer.accumulation: expected 1 or more, got {optimizer.accumulation}")
    return problems
