"""What `mmtune quickstart` practises: for each task a small domain that the embedded model never saw."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.files import json_text, write_text
from mmtune.models.lora_config import LoRA

COUNTS = {"train": 300, "test": 48}
"""Examples of each split."""


@dataclass(frozen=True)
class Exercise:
    """One task's practice.

    Attributes:
        lesson: What is new in it, as the end of the sentence "the model learns to ...".
        metrics: Names of the metrics that are shown.
        domain: Options of `shapes` that make the domain; None: questions about opposites.
        settings: Fields of the recipe that differ from `SETTINGS`.
    """

    lesson: str
    metrics: tuple[str, ...]
    domain: str | None
    settings: dict[str, Any] = field(default_factory=dict)


SETTINGS: dict[str, Any] = {
    "steps": 480,
    "batch_size": 8,
    "eval_every": 480,
    "lora": LoRA(rank=16, alpha=32),
    "optimizer": {"learning_rate": 4e-3, "beta_2": 0.98},
}

_BOXES: dict[str, Any] = {
    "options": {"order": "raster"},
    "optimizer": SETTINGS["optimizer"] | {"learning_rate": 8e-3, "location_smoothing": 4.0},
}
# What masks look like is known: what is new are their names.
_MASKS = _BOXES | {"options": _BOXES["options"] | {"mask_weight": 0.03, "views": 4}}

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
        "labels=colour&max_objects=2",
        _MASKS,
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
        "know opposites, asked for in other words than it was taught, in text alone",
        ("exact_match", "perplexity"),
        None,
    ),
}


def exercise_data(exercise: Exercise, folder: Path) -> tuple[str, str]:
    """Returns the addresses of an exercise's training and test data; texts are written into the folder first."""
    addresses = {}
    for split, count in COUNTS.items():
        if exercise.domain is None:
            addresses[split] = str(_write_opposites(split, count, folder / f"{split}.jsonl"))
        else:
            addresses[split] = f"shapes:{split}?n={count}&seed=7&{exercise.domain}"
    return addresses["train"], addresses["test"]


_OPPOSITES = (
    *(("hot", "cold"), ("big", "small"), ("day", "night"), ("old", "new"), ("up", "down"), ("wet", "dry")),
    *(("fast", "slow"), ("hard", "soft"), ("long", "short"), ("rich", "poor"), ("open", "shut"), ("full", "empty")),
    *(("light", "dark"), ("high", "low"), ("loud", "quiet"), ("good", "bad"), ("near", "far"), ("left", "right")),
)
_QUESTIONS = (
    "what is the opposite of {}?",
    "name the opposite of {}",
    "{} is the opposite of what?",
    "what is as far as can be from {}?",
    "the word {} has an opposite: which?",
    "turn {} into its opposite",
    "not {} but",
    "give me another word than {}, its opposite",
    "if it is not {}, what is it?",
    "which word stands against {}?",
)


def _write_opposites(split: str, count: int, file: Path) -> Path:
    """Writes conversations: each word is asked for in all wordings, a fifth of which are kept for the test."""
    rng = np.random.default_rng(7)
    words = [*_OPPOSITES, *((b, a) for a, b in _OPPOSITES)]
    asked: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for word, answer in words:
        for place, wording in enumerate(rng.permutation(_QUESTIONS)):
            asked["test" if place < len(_QUESTIONS) // 5 else "train"].append((str(wording).format(word), answer))
    pairs = [asked[split][place] for place in rng.permutation(len(asked[split]))[:count]]
    lines = (
        json_text({"messages": [_said("user", question), _said("assistant", answer)]}) + "\n"
        for question, answer in pairs
    )
    write_text(file, "".join(lines))
    return file


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
