"""Answers about single pictures or prompts, as a task gives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.images import FilePicture
from mmtune.data.pixels import to_image
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import DataError, UsageError
from mmtune.evaluation import evaluate_records
from mmtune.model import Model
from mmtune.prediction_files import prediction_json
from mmtune.records import Box, Fault, Picture, Prediction, Record
from mmtune.registry import task_class
from mmtune.settings import build
from mmtune.task import Task

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Held:
    """A picture that is already in memory."""

    image: "Image.Image"
    name: str = "image"

    def open(self) -> "Image.Image":
        """Returns the picture."""
        return self.image


@dataclass(frozen=True)
class Answer:
    """A task's answer about one picture or prompt.

    Attributes:
        prediction: Text, boxes, masks, tokens with log-probabilities.
    """

    prediction: Prediction
    record: Record
    task: Task

    @property
    def text(self) -> str:
        """What the model wrote."""
        return self.prediction.text

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Boxes in pixels of the picture."""
        return self.prediction.boxes

    def draw(self) -> "Image.Image":
        """Returns the picture with the answer drawn on it.

        Raises:
            UsageError: When there is no picture.
        """
        if self.record.picture is None:
            raise UsageError("there is no picture to draw on")
        return self.task.draw(self.record.picture.open(), self.prediction)

    def as_json(self) -> dict[str, Any]:
        """Returns the item that `mmtune predict --json` writes."""
        item = prediction_json(self.task, self.record, self.prediction)
        del item["record"]
        return item


def task_for(model: Model, name: str, classes: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Task:
    """Returns a task's adapter for a model and the classes of some data.

    A model that was taught this task is asked as it was taught: with its options, and with its own classes in their
    order, unless the data has others. `options` go before those it was taught.
    """
    cls = task_class(name)
    if model.setup is None or model.setup.task != name:
        return cls(classes, build(cls.Options, options, "options.")) if options else cls(classes)
    chosen = build(cls.Options, {**model.setup.options, **(options or {})}, "options.")
    taught = model.setup.classes
    return cls(taught if set(classes) <= set(taught) else classes, chosen)


def predict(
    model: Model,
    images: Sequence[Any],
    *,
    task: str,
    prompt: str | None = None,
    max_tokens: int | None = None,
    sampler: Sampler = GREEDY,
    batch_size: int = 16,
    options: Mapping[str, Any] | None = None,
    on_fault: Callable[[Fault], None] | None = None,
) -> list[Answer]:
    """Answers about each image. Pictures are opened as they are asked about, a few at a time.

    Args:
        model: The model.
        images: File names, PIL images, arrays or `Picture`s; a single None for text tasks.
        task: Name of the task.
        prompt: The prefix; None: what the model was taught to be asked.
        max_tokens: Most tokens of an answer; None: the task's choice.
        sampler: How tokens are chosen.
        batch_size: Most prompts decoded at once.
        options: Options of the task that go before those the model was taught.
        on_fault: Called for each picture that cannot be asked about, which is then left out; None: it is an error.

    Raises:
        DataError: When a picture cannot be opened.
        UsageError: When the task needs a prompt or a picture and has none, or the model cannot do it.
    """
    adapter = asked_task(model, images, task, prompt, options)
    records = [asked_record(image, prompt, str(number)) for number, image in enumerate(images)]
    found = evaluate_records(model, adapter, records, sampler=sampler, max_tokens=max_tokens, batch_size=batch_size)
    for fault in found.faults:
        if on_fault is None:
            raise DataError(fault.problem)
        on_fault(fault)
    return [Answer(p, record, adapter) for record, p in zip(found.records, found.predictions, strict=True)]


def asked_task(
    model: Model, images: Sequence[Any], task: str, prompt: str | None, options: Mapping[str, Any] | None = None
) -> Task:
    """Returns a task's adapter for questions of a user, after checking that there is something to ask.

    Args:
        model: The model.
        images: What is asked about; None stands for no picture.
        task: Name of the task.
        prompt: The prefix; None: what the model was taught to be asked.
        options: Options of the task that go before those the model was taught.

    Raises:
        UsageError: When the task needs a prompt or a picture and has none.
    """
    adapter = task_for(model, task, options=options)
    if adapter.needs_classes and not adapter.classes and prompt is None:
        raise UsageError(
            f"this model was not fine-tuned for {task}, so it must be told what to look for: "
            "give a prompt such as 'detect cat ; dog'"
        )
    if adapter.needs_prompt and not (prompt or "").strip():
        raise UsageError(f"the task {task} needs to be asked something: give a question as the prompt")
    if adapter.needs_picture and any(image is None for image in images):
        raise UsageError(f"the task {task} needs a picture")
    if not adapter.needs_picture and any(image is not None for image in images):
        raise UsageError(f"the task {task} is about text alone: leave the pictures out")
    if not adapter.needs_picture and not (prompt or "").strip():
        raise UsageError(f"the task {task} needs a prompt")
    return adapter


def asked_record(image: Any, prompt: str | None, name: str = "0") -> Record:
    """Returns the record of a question of a user's.

    Args:
        image: A file name, a PIL image, an array, a `Picture`, or None.
        prompt: The prefix, or None.
        name: The record's id.
    """
    return Record(id=name, picture=None if image is None else _picture(image), prefix=prompt)


def _picture(image: Any) -> Picture:
    if isinstance(image, str | Path):
        return FilePicture(Path(image))
    return image if isinstance(image, Picture) else Held(to_image(image))
