"""A run as it is asked for on the page, and the command line that it is."""

from dataclasses import dataclass

from mmtune.cli.exercises import EXERCISES, SETTINGS
from mmtune.errors import UsageError
from mmtune.registry import task_class


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as it is asked for on the page.

    Attributes:
        task, model: As in the recipe.
        data: Address of the training data.
        data_name, model_name: What visitors see in the place of data and model; "": the same.
        val: Share of it that is held back.
        steps, batch_size: As in the recipe.
        learning_rate: 0 leaves it to the recipe.
        lora_rank: Rank of the adapter.
    """

    task: str
    data: str
    model: str = "tiny"
    val: float = 0.2
    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 0.0
    lora_rank: int = 8
    data_name: str = ""
    model_name: str = ""

    def __post_init__(self) -> None:
        task_class(self.task)
        for name, low, high in (("steps", 1, 100_000), ("batch_size", 1, 256), ("lora_rank", 1, 256)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(f"{name}: expected a whole number from {low} to {high}")
            if value != int(value):
                raise UsageError(f"{name}: expected a whole number, got {value}")
        for name, high in (("val", 0.9), ("learning_rate", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise UsageError(f"{name}: expected a number from 0 to {high}")

    def words(self, out: str) -> list[str]:
        """Returns the command line behind `mmtune` that runs it into a folder."""
        return self._words(self.data, self.model, out)

    def shown_words(self, out: str) -> list[str]:
        """Returns the same with names in the place of the server's paths."""
        return self._words(self.data_name or self.data, self.model_name or self.model, out)

    def _words(self, data: str, model: str, out: str) -> list[str]:
        words = ["train", "--task", self.task, "--data", data, "--model", model, "--out", out]
        words += ["--val", f"{self.val:g}"] if self.val else []
        words += ["--steps", str(int(self.steps)), "--batch-size", str(int(self.batch_size))]
        words += ["--lora-rank", str(int(self.lora_rank))]
        settings = ["log_every=5", f"lora.alpha={2 * int(self.lora_rank)}"]
        settings += [f"optimizer.learning_rate={self.learning_rate:g}"] if self.learning_rate else []
        return [*words, "--set", *settings, *_taught(self.model, self.task)]


def _taught(model: str, task: str) -> list[str]:
    """Returns the settings by which `mmtune quickstart` teaches the embedded model; the rate is the plan's own."""
    if model != "tiny" or task not in EXERCISES:
        return []
    recipe = SETTINGS | EXERCISES[task].settings
    values = [
        (f"{part}.{key}", value) for part in ("optimizer", "options") for key, value in recipe.get(part, {}).items()
    ]
    return [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values
        if key != "optimizer.learning_rate"
    ]


def suggested(task: str, data: str, model: str, records: int) -> Plan:
    """Returns a plan with sensible values.

    Args:
        task, data, model: As in `Plan`.
        records: How many examples there are: each is seen about ten times, within bounds that a visitor waits for.
    """
    steps = min(max(10 * records // 8, 60), 480)
    if model == "tiny":
        taught = SETTINGS | (EXERCISES[task].settings if task in EXERCISES else {})
        rate, rank = taught["optimizer"]["learning_rate"], taught["lora"].rank
        return Plan(task=task, data=data, model=model, steps=steps, learning_rate=rate, lora_rank=rank)
    return Plan(task=task, data=data, model=model, steps=steps)
