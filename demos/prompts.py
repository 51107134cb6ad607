"""The prompt that a task asks with, made of what a user picks: classes, a question, a language."""

from collections.abc import Sequence

from mmtune.codecs.boxes import label_problem
from mmtune.errors import UsageError
from mmtune.model import Model
from mmtune.records import Record
from mmtune.registry import task_class

TASKS = {
    "detection": "Detection",
    "segmentation": "Segmentation",
    "captioning": "Captioning",
    "vqa": "Questions",
    "ocr": "Reading",
    "instruct": "Text",
}
"""The tasks of the page and their names on it."""

LANGUAGES = {"English": "en", "German": "de", "Spanish": "es", "French": "fr", "Italian": "it", "Portuguese": "pt"}
"""Languages that PaliGemma's prompts are asked in, by their codes."""

WITH_CLASSES = ("detection", "segmentation")
WITH_QUESTION = ("vqa", "instruct")
WITH_LANGUAGE = ("captioning", "vqa")


def build_prompt(
    task: str, *, classes: Sequence[str] = (), question: str = "", language: str = "en", model: Model | None = None
) -> str:
    """Returns the prefix that the task's adapter asks with.

    Args:
        task: Name of the task.
        classes: What to look for, for tasks with classes.
        question: The question, for tasks that need one.
        language: Its code, for tasks that have one.
        model: Asked as it was taught, where it was taught this task.

    Returns:
        "" where nothing can be asked yet: no class, no question.

    Raises:
        UsageError: When a class name cannot stand in a prompt, or the task is unknown.
    """
    adapter = task_class(task)
    taught = model.setup if model is not None and model.setup is not None and model.setup.task == task else None
    options = dict(taught.options) if taught is not None else {}
    if task in WITH_LANGUAGE:
        options["lang"] = language
    if task in WITH_CLASSES:
        options.pop("prompt", None)  # one prompt is shown, and it names all classes
        for label in classes:
            if (problem := label_problem(label)) is not None:
                raise UsageError(problem)
        if not classes:
            return ""
    if task in WITH_QUESTION and not question.strip():
        return ""
    if task == "instruct":
        return question
    built = adapter(tuple(dict.fromkeys(classes)), adapter.Options(**options))
    return built.queries(Record("page", prefix=question if task in WITH_QUESTION else None))[0].prompt
