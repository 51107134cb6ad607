"""Captions: `caption en` -> `a man riding a wave on top of a surfboard`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.plain_text import is_encodable
from mmtune.errors import RecipeError
from mmtune.records import Query, Record, Span, Target
from mmtune.settings import choice_problems
from mmtune.text_task import TextTask

if TYPE_CHECKING:
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.caption import CaptionMetric

PROMPTS = ("cap", "caption", "describe")
"""PaliGemma's words for captions: as the web writes them, as people write them, and longer ones."""

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class CaptioningOptions:
    """The options of captioning.

    Attributes:
        prompt: "cap", "caption" or "describe", for records that bring no prompt of their own.
        lang: The language of the caption, in the prompt.
        references: How many captions of a picture are taught in one row of a batch, where they share the picture and
            the prompt: "all", or a number. Of more, training makes a random choice anew each time.
        lower_case: Whether captions are taught in lower case, as in TextCaps; exact_match then overlooks case.
        max_length: Most characters of a caption that is taught, longer ones are passed over; 0: no limit.
        java: Whether to compute METEOR and SPICE too, with pycocoevalcap and Java, where they are installed.
    """

    prompt: str = "caption"
    lang: str = "en"
    references: int | str = ALL
    lower_case: bool = False
    max_length: int = 0
    java: bool = False

    def __post_init__(self) -> None:
        problems = choice_problems(self, {"prompt": PROMPTS})
        if not self.lang or len(self.lang.split()) != 1:
            problems.append(f"options.lang: expected the code of a language such as en, got {self.lang!r}")
        if self.references != ALL and (not isinstance(self.references, int) or self.references < 1):
            problems.append(f"options.references: expected all, or a number from 1, got {self.references!r}")
        if self.max_length < 0:
            problems.append(f"options.max_length: expected 0 or more, got {self.max_length}")
        if problems:
            raise RecipeError(problems)


@final
class Captioning(TextTask):
    """What is on a picture, in a sentence."""

    name: ClassVar[str] = "captioning"
    headline: ClassVar[str] = "CIDEr"
    Options: ClassVar[type] = CaptioningOptions
    options: CaptioningOptions

    def check(self, record: Record) -> Sequence[str]:
        """Returns whether there is no caption to teach."""
        if not any(text.strip() for text in record.texts):
            return (f"expected a caption, found {'empty ones' if record.texts else 'none'}",)
        if self.taught(record):
            return ()
        if any(len(_spaced(text)) > self.options.max_length for text in record.texts) and self.options.max_length:
            return (f"every caption has more than {self.options.max_length} characters (options.max_length)",)
        return ("expected text, found half of a surrogate pair in it, which cannot be written as UTF-8",)

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the one query."""
        return (Query((record.prefix or "").strip() or f"{self.options.prompt} {self.options.lang}"),)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns the captions, or as many as `references` says: with `rng` a random choice, otherwise the first."""
        del query
        texts = self.taught(record)
        if not texts:
            raise ValueError(f"record {record.id} has no caption; `check` refuses it")
        count = len(texts) if self.options.references == ALL else min(int(self.options.references), len(texts))
        if rng is not None and count < len(texts):
            texts = tuple(texts[place] for place in rng.permutation(len(texts))[:count])
        return tuple((Span(text),) for text in texts[:count])

    def read(self, text: str) -> str:
        """Takes the text as one line."""
        return _spaced(text)

    def metric(self) -> "CaptionMetric":
        """Returns an empty state."""
        from mmtune.metrics.caption import CaptionMetric

        return CaptionMetric(lower_case=self.options.lower_case, java=self.options.java)

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores COCO's caption results, and other public forms, against the captions of any reader."""
        from mmtune.metrics.caption_results import score_captions

        return score_captions(truth, predictions, form, log, self.metric())

    def taught(self, record: Record) -> tuple[str, ...]:
        """Returns the captions as they are taught, each once, without those that cannot be."""
        spaced = (_spaced(text.lower() if self.options.lower_case else text) for text in record.texts)
        most = self.options.max_length or math.inf
        return tuple(dict.fromkeys(text for text in spaced if text and len(text) <= most and is_encodable(text)))


def _spaced(text: str) -> str:
    return " ".join(text.split())
