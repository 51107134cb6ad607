"""Task names and where their adapters live. Adapters are strings here, imported when first asked for.

A third-party package adds a task by the entry point group `mmtune.tasks`:

    [project.entry-points."mmtune.tasks"]
    counting = "my_package.counting:Counting"
"""

import importlib
from importlib.metadata import entry_points

from mmtune.errors import UsageError, unknown_name
from mmtune.task import Task

GROUP = "mmtune.tasks"

_BUILT_IN = {
    "captioning": "mmtune.tasks.captioning:Captioning",
    "detection": "mmtune.tasks.detection:Detection",
    "instruct": "mmtune.tasks.instruct:Instruct",
    "segmentation": "mmtune.tasks.segmentation:Segmentation",
    "ocr": "mmtune.tasks.ocr:OCR",
    "vqa": "mmtune.tasks.vqa:VQA",
}


def task_names() -> tuple[str, ...]:
    """Returns the names of all tasks, ours and those of installed packages, sorted."""
    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def task_class(name: str) -> type[Task]:
    """Returns the adapter class of a task.

    Raises:
        UsageError: When no task has that name, or the package that adds it does not deliver a `Task`.
    """
    target = _BUILT_IN.get(name) or next((p.value for p in entry_points(group=GROUP) if p.name == name), None)
    if target is None:
        raise UsageError(unknown_name("task", name, task_names()))
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"task '{name}' is registered as {target}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UsageError(f"task '{name}' is registered as {target}, which is no subclass of mmtune.task.Task")
    return found
