"""What `mmtune quickstart` practises: for each task a small domain that the embedded model never saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.data.word_list import WORDS
from mmtune.files import atomic, json_text
from mmtune.models.lora_config import LoRA

COUNTS = {"train": 300, "test": 48}
"""Examples of each split."""


@dataclass(frozen=True)
class Exercise:
    """One task's practice.

    Attributes:
        lesson: What is new in it, as the end of the sentence "the model learns to ...".
        metrics: Names of the metrics that are shown.
        domain: Options of `shapes` that make the domain; None: pairs of words to be turned around.
        settings: Fields of the recipe that differ from `SETTINGS`.
    """

    lesson: str
    metrics: tuple[str, ...]
    domain: str | None
    settings: dict[str, Any] = field(default_factory=dict)


SETTINGS: dict[str, Any] = {
    "steps": 240,
    "batch_size": 8,
    "eval_every": 240,
    "lora": LoRA(rank=16, alpha=32),
    "optimizer": {"learning_rate": 4e-3, "beta_2": 0.98},
}

_BOXES = {"options": {"order": "raster"}, "optimizer": SETTINGS["optimizer"] | {"location_smoothing": 4.0}}

EXERCISES: dict[str, Exercise] = {
    "detection": Exercise(
        "call boxes by their colour instead of their shape",
        ("AP50", "AP"),
        "labels=colour&max_objects=6",
        _BOXES,
    ),
    "segmentation": Exercise(
        "call masks by their colour instead of their shape",
        ("mIoU", "AP50"),
        "labels=colour&max_objects=4",
        _BOXES,
    ),
    "captioning": Exercise(
        "take stock (2 x blue star + 1 x red circle) instead of describing",
        ("CIDEr", "exact_match"),
        "captions=inventory&max_objects=6",
    ),
    "vqa": Exercise(
        "find the outermost shape, which it was never asked for",
        ("accuracy",),
        "questions=extremes&max_objects=6",
    ),
    "ocr": Exercise(
        "read registrations such as KD-407 instead of words",
        ("exact_match", "CER"),
        "writing=plates&max_objects=3",
    ),
    "instruct": Exercise(
        "turn two words around, in text alone",
        ("exact_match", "perplexity"),
        None,
    ),
}


def exercise_data(exercise: Exercise, folder: Path) -> tuple[str, str]:
    """Returns the addresses of an exercise's training and test data; texts are written into the folder first."""
    rng = np.random.default_rng(7)
    addresses = {}
    for split, count in COUNTS.items():
        addresses[split] = f"shapes:{split}?n={count}&seed=7&{exercise.domain}"
        if exercise.domain is None:
            file = folder / f"{split}.jsonl"
            _write_turned([(str(a), str(b)) for a, b in rng.choice(WORDS, (count, 2))], file)
            addresses[split] = str(file)
    return addresses["train"], addresses["test"]


def _write_turned(pairs: Sequence[tuple[str, str]], file: Path) -> None:
    """Writes conversations in which two words are turned around."""
    lines = (
        json_text({"messages": [_said("user", f"turn around: {a} {b}"), _said("assistant", f"{b} {a}")]}) + "\n"
        for a, b in pairs
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
