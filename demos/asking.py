"""From what a visitor gave to answers: checked, batched with others', timed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mmtune.errors import UsageError
from mmtune.registry import task_class
from mmtune.streaming import ask

from .limits import FORMATS, LIMITS, Limits, checked_text, checked_tokens, opened_picture, scaled_size
from .path_names import PathNames
from .results import Shown
from .serving import Batcher
from .shelf import Shelf


@dataclass(frozen=True)
class UploadedPicture:
    """A picture that a visitor sent, decoded anew each time, so that who has asked holds no memory.

    Attributes:
        file: The upload.
        limits: What is decoded.
    """

    file: Path
    limits: Limits

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.file.name

    @property
    def note(self) -> str:
        """A sentence where the picture is scaled down before it is asked about, else ""."""
        with Image.open(self.file, formats=FORMATS) as image:
            width, height = image.size
        scaled = scaled_size(width, height, self.limits)
        if scaled == (width, height):
            return ""
        return (
            f"the picture has {width} x {height} pixels and was scaled down to {scaled[0]} x {scaled[1]}; boxes and "
            "masks are in pixels of that"
        )

    def open(self) -> Image.Image:
        """Returns the upright picture in mode RGB; raises `DataError` when it is none or too large."""
        return opened_picture(self.file, self.limits)


@dataclass(frozen=True)
class Answering:
    """What answers: models and the queue before them.

    Attributes:
        shelf: The models.
        batcher: The queue.
        limits: What is taken.
        names: What folders of the server are called.
    """

    shelf: Shelf
    batcher: Batcher
    limits: Limits = LIMITS
    names: PathNames = field(default_factory=PathNames)

    def stream(
        self, visitor: str, picture: Any, task: Any, prompt: Any, model: Any, max_tokens: Any
    ) -> Iterator[Shown]:
        """Yields a model's answer as it grows; the last one is whole.

        Args:
            visitor: Who asks.
            picture: An uploaded file, as the framework describes it, or None. Tasks about text alone pass it over.
            task: Name of the task.
            prompt: The prompt; "": what the model was taught.
            model: Its name.
            max_tokens: Most tokens, None or 0: the task's choice.

        Raises:
            MmtuneError: With a sentence for the visitor.
        """
        since = time.perf_counter()
        if not isinstance(task, str):
            raise UsageError("choose a task")
        adapter = task_class(task)
        text = checked_text(prompt, "prompt", self.limits)
        most = checked_tokens(max_tokens, self.limits)
        name = checked_text(model, "model's name", self.limits) or self.shelf.names[0]
        given = UploadedPicture(_file(picture), self.limits) if adapter.needs_picture else None
        loaded = self.shelf.get(visitor, name)
        asked = ask(loaded, given, task=task, prompt=text if text.strip() else None, max_tokens=most)
        asked = replace(asked, max_tokens=min(asked.max_tokens, self.limits.tokens))
        last = None
        for partial in self.batcher.stream(loaded, asked):
            last = Shown(name, partial.answer, partial.tokens, time.perf_counter() - since, done=False)
            yield last
        assert last is not None
        yield Shown(name, last.answer, last.tokens, time.perf_counter() - since, done=True)

    def answer(self, visitor: str, picture: Any, task: Any, prompt: Any, model: Any, max_tokens: Any) -> Shown:
        """Returns the whole answer; see `stream`."""
        *_, last = self.stream(visitor, picture, task, prompt, model, max_tokens)
        return last


def _file(picture: Any) -> Path:
    """Returns the path of an uploaded picture; the framework has checked that it is one.

    Raises:
        UsageError: When there is none.
    """
    path = picture.get("path") if isinstance(picture, dict) else None
    if not isinstance(path, str) or not path:
        raise UsageError("give a picture: upload one, paste one, or choose an example")
    return Path(path)
