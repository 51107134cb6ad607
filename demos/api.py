"""What other programs call, by `gradio_client`: names and arguments that do not change with the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.events import api

from mmtune.errors import MmtuneError
from mmtune.registry import task_class

from .asking import Answering
from .path_names import PathNames
from .plan import Plan
from .training import Trainer
from .visitors import visitor_of


def add_predict(answering: Answering) -> None:
    """Adds `/predict` and `/models`, inside a `gr.Blocks`."""

    def predict(
        request: gr.Request,
        image: str | None,
        task: str,
        prompt: str = "",
        model: str = "",
        max_tokens: float = 0,
    ) -> tuple[Any, Any]:
        """Returns the picture with the answer drawn on it, and the item that `mmtune predict --json` writes.

        Args:
            request: Whoever asks; no argument of the function as it is called.
            image: The picture; null for tasks about text alone.
            task: Name of the task.
            prompt: The prompt; empty: what the model was taught to be asked.
            model: Its name; empty: the first one.
            max_tokens: Most tokens of the answer; 0: the task's choice.
        """
        with _told(answering.names):
            shown = answering.answer(visitor_of(request), image, task, prompt, model, max_tokens)
            return shown.saved(), shown.answer.as_json()

    def models(request: gr.Request) -> list[dict[str, Any]]:
        """Returns [{"name", "base", "task", "classes"}], the default first; not loaded yet: the name only."""
        return [_described(answering, name) for name in answering.shelf.seen(visitor_of(request))]

    inputs = [
        gr.Image(type="filepath", image_mode=None, visible=False, label="image"),
        gr.Textbox(visible=False, label="task", value="detection"),
        gr.Textbox(visible=False, label="prompt", value=""),
        gr.Textbox(visible=False, label="model", value=""),
        gr.Number(visible=False, label="max_tokens", value=0),
    ]
    outputs = [gr.Image(visible=False, format="png", label="drawn"), gr.JSON(visible=False, label="answer")]
    caller = gr.Button(visible=False)
    # As it was sent: what cannot be decoded, and what is no text or number, is ours to tell of.
    caller.click(predict, inputs, outputs, api_name="predict", concurrency_limit=None, preprocess=False)
    api(models, api_name="models")


def add_training(answering: Answering, trainer: Trainer) -> None:
    """Adds `/train_data`, `/train_start`, `/train_status`, `/train_stop` and `/train_resume`."""

    def train_data(request: gr.Request, files: list[str]) -> dict[str, str]:
        """Takes in a data set, a zip of its folder or its files; returns {"data": its name}."""
        with _told(trainer.names):
            return {"data": trainer.upload(visitor_of(request), files or [])}

    def train_start(
        request: gr.Request,
        data: str,
        task: str,
        model: str = "",
        steps: int = 200,
        batch_size: int = 8,
        learning_rate: float = 0.0,
        lora_rank: int = 8,
        val: float = 0.2,
    ) -> dict[str, Any]:
        """Starts a run on a data set; returns its status, as `/train_status` does."""
        with _told(trainer.names):
            task_class(task)
            visitor = visitor_of(request)
            name = answering.shelf.checked(visitor, model or answering.shelf.names[0])
            plan = Plan(
                task=task,
                data=trainer.address(visitor, data),
                data_name=trainer.data_name(visitor, data),
                model=answering.shelf.place(name),
                model_name=name,
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                lora_rank=lora_rank,
                val=val,
            )
            return trainer.status(visitor, trainer.start(visitor, plan))

    def train_status(request: gr.Request, run: str) -> dict[str, Any]:
        """Returns {"run", "state", "step", "steps", "loss", "metrics", "command", "message"} of a run."""
        with _told(trainer.names):
            return trainer.status(visitor_of(request), run)

    def train_stop(request: gr.Request, run: str) -> dict[str, Any]:
        """Stops a run; returns its status."""
        with _told(trainer.names):
            trainer.stop(visitor_of(request), run)
            return trainer.status(visitor_of(request), run)

    def train_resume(request: gr.Request, run: str) -> dict[str, Any]:
        """Goes on with a run that was stopped; returns its status."""
        with _told(trainer.names):
            visitor = visitor_of(request)
            return trainer.status(visitor, trainer.resume(visitor, run))

    files = gr.File(visible=False, label="files", file_count="multiple")
    name = gr.JSON(visible=False, label="data")
    gr.Button(visible=False).click(train_data, files, name, api_name="train_data")
    for function in (train_start, train_status, train_stop, train_resume):
        api(function, api_name=function.__name__)


@contextmanager
def _told(names: PathNames) -> Iterator[None]:
    """Turns our errors into the framework's, whose sentences reach the caller, without the server's paths."""
    try:
        yield
    except MmtuneError as error:
        raise gr.Error(names.hide(error), print_exception=False) from error


def _described(answering: Answering, name: str) -> dict[str, Any]:
    model = answering.shelf.loaded(name)
    if model is None:
        return {"name": name, "base": None, "task": None, "classes": []}
    setup = model.setup
    return {
        "name": name,
        "base": answering.shelf.name_of(model.base) or answering.names.hide(model.base),
        "task": setup.task if setup else None,
        "classes": list(setup.classes) if setup else [],
    }
