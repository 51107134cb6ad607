"""A training run as a frozen, validated description: what `mmtune train` reads from TOML and writes back complete."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtune.data.augment import Augment
from mmtune.errors import MmtuneError, RecipeError
from mmtune.files import write_text
from mmtune.models.lora_config import LoRA
from mmtune.registry import task_class
from mmtune.settings import assign, build, flat, number_problems, plain
from mmtune.sharding.mesh import mesh_problems

if TYPE_CHECKING:
    from mmtune.models.spec import ModelSpec

BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer and its schedule.

    Attributes:
        name: "adamw", or "muon" (arXiv 2502.16982), which moves matrices along orthogonal directions and leaves the
            rest to Adam: for full tuning of small models.
        learning_rate: Peak; None: chosen by model size and by LoRA or full tuning.
        schedule: "cosine" falls to zero, "constant" stays.
        warmup: Share of all steps in which the rate rises from zero.
        weight_decay: On matrices only, not on norms, biases and embeddings.
        beta_1, beta_2: Moments' decay; 0.999 is what PaliGemma's transfers use.
        clip: Largest norm of the whole gradient; 0: no clipping.
        accumulation: Batches an update; their gradient is that of one batch of all their rows.
        label_smoothing: Share of the target probability spread over the vocabulary.
        location_smoothing: Standard deviation in bins over which a location token's target is spread; 0: none.
        average: What counts alike in a batch's loss: "answers", as PaliGemma was trained, or their "tokens". Where
            answers of very different lengths are taught, such as lists of boxes that are often empty, the first token
            of a long one counts for little beside the end of an empty one, and lists end too soon; by tokens not.
    """

    name: Literal["adamw", "muon"] = "adamw"
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
    average: Literal["answers", "tokens"] = "answers"


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Dense supervision of a tuned vision tower by the data's own boxes (`mmtune.training.dense`); off as it stands.

    Attributes:
        steps: The first so many of a run's steps train the tower alone, under this supervision.
        weight: Weight of its loss beside the answers' after that; it falls to zero at four fifths of the run.
        learning_rate: Peak in the first steps; None: that of the optimizer.
    """

    steps: int = 0
    weight: float = 0.0
    learning_rate: float | None = None

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return self.steps > 0 or self.weight > 0


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How pictures are prepared, in place of what the checkpoint says; None: as it says.

    Attributes:
        mean, std: Of red, green and blue: what is taken off colours in 0..1, and what they are divided by then.
        resample: How they are brought to the model's size.
        draft: Whether JPEG files are decoded at a fraction of their size, of large ones in a fraction of the time.
            Pixels differ a little; pictures that are augmented are decoded whole.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resample: Literal["bilinear", "bicubic"] | None = None
    draft: bool | None = None

    def problems(self) -> list[str]:
        """Returns what is wrong, a sentence each."""
        problems = []
        if self.mean is not None and not all(0 <= value <= 1 for value in self.mean):
            problems.append(f"pictures.mean: expected three numbers from 0 to 1, got {list(self.mean)}")
        if self.std is not None and not all(0 < value <= 1 for value in self.std):
            problems.append(f"pictures.std: expected three numbers above 0, at most 1, got {list(self.std)}")
        return problems

    def applied(self, spec: "ModelSpec") -> "ModelSpec":
        """Returns a model's description with these settings.

        Raises:
            RecipeError: When there are any, and the model does not see.
        """
        changes = {name: value for name, value in vars(self).items() if value is not None}
        if not changes:
            return spec
        if spec.vision is None:
            raise RecipeError([f"pictures.{next(iter(changes))}: the model is for text alone: leave it out"])
        return replace(spec, vision=replace(spec.vision, **changes))


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Image tokens of a frozen vision tower, computed once a picture (`mmtune.training.features`).

    Attributes:
        features: "auto": in memory where they fit and pictures are seen more than once; "memory"; "disk": in files that
            later runs use too; "off": computed in every step. They are never kept where that would be wrong: the tower
            is tuned, or pictures are augmented.
        memory_gib, disk_gib: Most that they may take.
        folder: Where files lie; None: in the user's cache directory.
    """

    features: Literal["auto", "memory", "disk", "off"] = "auto"
    memory_gib: float = 2.0
    disk_gib: float = 20.0
    folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run.

    Attributes:
        task: Name of the task.
        data: Training data, as `mmtune.read` takes it.
        val: Validation data, or a fraction of the training data such as "0.1"; None: no evaluation.
        model: What to start from.
        base: Where `model` is a run or an adapter: the model that it is put on; None: the one that it names itself.
        out: The run's folder.
        format: Name of the data's format; None: detected.
        seed: Seed of everything random.
        steps: Number of batches; None: `epochs`.
        epochs: Passes over the data where `steps` is None.
        batch_size: Rows a batch.
        full: Train all weights instead of an adapter.
        lora: The adapter, unused with `full`.
        freeze_vision: With `full`, keep the vision tower as it is; None: it is tuned too. An adapter reaches the tower
            by `lora.vision`.
        precision: Dtype of activations and products.
        weights: Dtype in which the base's weights are held under an adapter; with `full`, in which they are read before
            they become float32. None: the precision, and float32 with `full`.
        quantize: "int8" or "int4": keep the base weights in so few bits under the adapter; None: as they are.
        rematerialise: What the backward pass recomputes to save memory.
        mesh: Device mesh such as "data=2,model=4"; None: one device.
        eval_every: Steps between evaluations; None: a tenth of the run. Also at the end.
        eval_limit: Most validation records used while training; the last evaluation uses all. None: all.
        save_every: Steps between checkpoints; None: as `eval_every`.
        keep_checkpoints: How many of the latest are kept.
        log_every: Steps between lines of the log.
        early_stopping: Stop after so many evaluations without a better metric; 0: never.
        metric: Metric that says which checkpoint is best; None: the task's own.
        max_tokens: Most tokens of a target; longer ones are reported and left out. None: whatever the data needs.
        buckets: Most row lengths that are compiled.
        optimizer: AdamW.
        dense: Dense supervision, for tasks with boxes where the vision tower is tuned.
        pictures: How pictures are prepared, where that should not be as the checkpoint says.
        cache: What is kept of a frozen vision tower.
        augment: Changes to training pictures.
        options: The task's own options.
        classes: Class names; empty: the data's.
    """

    task: str
    data: str
    model: str = "tiny"
    base: str | None = None
    val: str | float | None = None
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
    weights: Literal["float32", "bfloat16", "float16"] | None = None
    quantize: Literal["int8", "int4"] | None = None
    rematerialise: Literal["none", "dots", "full"] = "none"
    mesh: str | None = None
    eval_every: int | None = None
    eval_limit: int | None = None
    save_every: int | None = None
    keep_checkpoints: int = 2
    log_every: int = 10
    early_stopping: int = 0
    metric: str | None = None
    max_tokens: int | None = None
    buckets: int = 4
    optimizer: Optimizer = field(default_factory=Optimizer)
    dense: Dense = field(default_factory=Dense)
    pictures: Pictures = field(default_factory=Pictures)
    cache: Cache = field(default_factory=Cache)
    augment: Augment = field(default_factory=Augment)
    options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = number_problems(self)
        problems += [
            f"{name}: expected 1 or more, got {value}"
            for name in (
                "steps",
                "batch_size",
                "eval_every",
                "eval_limit",
                "save_every",
                "keep_checkpoints",
                "log_every",
                "max_tokens",
                "buckets",
            )
            if (value := getattr(self, name)) is not None and value < 1
        ]
        problems += [
            f"{name}: expected 0 or more, got {value}"
            for name in ("early_stopping",)
            if (value := getattr(self, name)) < 0
        ]
        if self.epochs <= 0:
            problems.append(f"epochs: expected a number above 0, got {self.epochs}")
        if not 0 <= self.seed < 2**32:
            problems.append(f"seed: expected a whole number from 0 to 4294967295, got {self.seed}")
        if self.mesh is not None:
            problems += mesh_problems(self.mesh, self.batch_size)
        if self.steps is not None and self.optimizer.accumulation > self.steps:
            problems.append(
                f"optimizer.accumulation: {self.optimizer.accumulation} batches an update, but only {self.steps} steps"
            )
        problems += [] if self.full else self._adapter_problems()
        if self.full and self.quantize:
            problems.append(f"quantize: weights in {self.quantize} cannot be trained: leave out full, or quantize")
        problems += self._dense_problems()
        problems += [
            f"cache.{name}: expected a number above 0, got {value}"
            for name in ("memory_gib", "disk_gib")
            if (value := getattr(self.cache, name)) <= 0
        ]
        problems += self.pictures.problems()
        problems += _optimizer_problems(self.optimizer)
        try:
            build(task_class(self.task).Options, self.options, "options.")
        except RecipeError as error:
            problems += error.problems
        except MmtuneError as error:
            problems.append(f"task: {error}")
        if problems:
            raise RecipeError(dict.fromkeys(problems))

    def _adapter_problems(self) -> list[str]:
        problems = self.lora.problems()
        if self.freeze_vision is False:
            problems.append(
                "freeze_vision: an adapter leaves all weights as they are: false goes with full, or set lora.vision"
            )
        if self.freeze_vision and self.lora.vision:
            problems.append("freeze_vision: true and lora.vision: true contradict each other")
        return problems

    def _dense_problems(self) -> list[str]:
        dense = self.dense
        problems = []
        if dense.steps < 0:
            problems.append(f"dense.steps: expected 0 or more, got {dense.steps}")
        if dense.weight < 0:
            problems.append(f"dense.weight: expected 0 or more, got {dense.weight}")
        if dense.learning_rate is not None and dense.learning_rate <= 0:
            problems.append(f"dense.learning_rate: expected a number above 0, got {dense.learning_rate}")
        if dense.on and not self.tunes_vision:
            problems.append("dense: supervises a vision tower that is tuned: set full, without freeze_vision")
        if self.steps is not None and dense.steps >= self.steps:
            problems.append(f"dense.steps: {dense.steps} of {self.steps} steps leave none for the answers")
        return problems

    @property
    def tunes_vision(self) -> bool:
        """Whether the vision tower's own weights are trained."""
        return self.full and not self.freeze_vision

    def task_options(self) -> Any:
        """Returns the task's options as its own dataclass."""
        return build(task_class(self.task).Options, self.options, "options.")


def read_table(file: Path | None, changes: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Returns the keys that were given: those of a TOML file, then top-level changes, then `--set` assignments.

    Args:
        file: A TOML file, or None.
        changes: Top-level values; those that are None are left out.
        assignments: Texts such as "optimizer.learning_rate=1e-4".

    Raises:
        RecipeError: When the file is no TOML, or an assignment no assignment.
    """
    table: dict[str, Any] = {}
    if file is not None:
        try:
            table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError([f"{file}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError([f"{file}: no TOML: {error}"]) from error
    return assign(table | {key: value for key, value in changes.items() if value is not None}, assignments)


def read_recipe(file: Path | None, changes: Mapping[str, Any], assignments: list[str]) -> Recipe:
    """Returns the recipe that `read_table` gives, with defaults for all other keys.

    Raises:
        RecipeError: With all faults and their keys, after the file's name.
    """
    table = read_table(file, changes, assignments)
    try:
        return build(Recipe, table)
    except RecipeError as error:
        where = f"{file}: " if file is not None else ""
        raise RecipeError([f"{where}{problem}" for problem in error.problems]) from error


def resumed(stored: Recipe, given: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a run that is gone on with: a run keeps the recipe that it was begun with.

    Args:
        stored: The run's recipe.
        given: Keys that the user gave anew; they must say the same. `out` only says where the run lies now, and
            `mesh` what devices it goes on with.

    Raises:
        RecipeError: With every key that differs.
    """
    old = dict(flat(plain(stored)))
    problems = []
    for key, value in flat(given):
        was = old.get(key)
        if key not in ("out", "mesh") and not _same(was, value):
            problems.append(
                f"{key}: the run was begun with {was!r}, not {value!r}: leave it out, or choose another --out"
            )
    if problems:
        raise RecipeError(problems)
    return replace(stored, out=str(given.get("out", stored.out)), mesh=given.get("mesh", stored.mesh))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return one == other


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Writes the whole recipe as TOML, defaults included."""
    import tomli_w

    write_text(file, tomli_w.dumps(plain(recipe)))


def _optimizer_problems(optimizer: Optimizer) -> list[str]:
    problems = []
    if optimizer.learning_rate is not None and optimizer.learning_rate <= 0:
        problems.append(f"optimizer.learning_rate: expected more than 0, got {optimizer.learning_rate}")
    for name, low, high in (
        ("warmup", 0, 1),
        ("beta_1", 0, BELOW_ONE),
        ("beta_2", 0, BELOW_ONE),
        ("label_smoothing", 0, 1),
        ("weight_decay", 0, math.inf),
        ("clip", 0, math.inf),
        ("location_smoothing", 0, 200),
    ):
        value = getattr(optimizer, name)
        if value < low or value > high:
            problems.append(f"optimizer.{name}: expected {low} to {high}, got {value}")
    if optimizer.accumulation < 1:
        problems.append(f"optimizer.accumulation: expected 1 or more, got {optimizer.accumulation}")
    return problems
