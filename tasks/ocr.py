"""Reading text: `ocr` -> what stands on the picture, line by line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.plain_text import WHITE_SPACE, is_encodable, plain_text
from mmtune.errors import RecipeError
from mmtune.metrics.ocr import SEVERAL, right_texts
from mmtune.records import Query, Record, Span, Target
from mmtune.settings import choice_problems
from mmtune.text_task import TextTask

if TYPE_CHECKING:
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.ocr import OCRMetric


@dataclass(frozen=True, kw_only=True)
class OCROptions:
    """The options of reading text.

    Attributes:
        prompt: The prompt, for records that bring none of their own.
        white_space: "keep": lines are separated by newlines, spaces stand as they are in the data; "collapse": text is
            taught and scored as one line, words separated by one space.
        lower_case: Whether text is taught in lower case, and scored so.
        case_sensitive: Whether upper and lower case differ when text is scored.
        several: What several texts of one picture are: "versions" of the whole, each of them right; or "lines" that
            stand one below the other.
        max_length: Most characters of a text that is taught; longer ones are not used for training. 0: no limit.
    """

    prompt: str = "ocr"
    white_space: str = "keep"
    lower_case: bool = False
    case_sensitive: bool = True
    several: str = "versions"
    max_length: int = 0

    def __post_init__(self) -> None:
        choices = {"white_space": WHITE_SPACE, "several": SEVERAL}
        problems = choice_problems(self, choices)
        if not self.prompt.strip():
            problems.append(f"options.prompt: expected a text such as ocr, got {self.prompt!r}")
        if self.max_length < 0:
            problems.append(f"options.max_length: expected 0 or more, got {self.max_length}")
        if problems:
            raise RecipeError(problems)


@final
class OCR(TextTask):
    """The words on a picture: single words, lines, whole pages.

    CER compares checkpoints, the lower the better: of long texts hardly one is read without any error, so that
    exact_match says nothing about them.
    """

    name: ClassVar[str] = "ocr"
    headline: ClassVar[str] = "CER"
    falling: ClassVar[tuple[str, ...]] = ("CER", "WER")
    Options: ClassVar[type] = OCROptions
    options: OCROptions

    def check(self, record: Record) -> Sequence[str]:
        """Returns what is wrong with the text; an empty one is right: there is nothing to read on the picture."""
        texts = self.taught(record)
        if not texts:
            return ("expected the text on the picture, found none",)
        problems = []
        if not all(map(is_encodable, texts)):
            problems.append("expected text, found half of a surrogate pair in it, which cannot be written as UTF-8")
        longest, most = max(map(len, texts)), self.options.max_length
        if most and longest > most:
            problems.append(f"the text has {longest} characters, options.max_length is {most}")
        return problems

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the one query."""
        return (Query((record.prefix or "").strip() or self.options.prompt),)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns the text, or each of its versions; an empty text is an answer that ends at once."""
        del query, rng
        return tuple((Span(text),) if text else () for text in dict.fromkeys(self.taught(record)))

    def read(self, text: str) -> str:
        """Takes the text composed (NFC) and without white space at its ends."""
        return plain_text(text)

    def metric(self) -> "OCRMetric":
        """Returns an empty state."""
        from mmtune.metrics.ocr import OCRMetric

        options = self.options
        return OCRMetric(options.white_space, options.lower_case or not options.case_sensitive, options.several)

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores folders of text files, lines `id<TAB>text`, JSON and SROIE's key files against any reader's truth."""
        from mmtune.metrics.ocr_results import score_ocr

        return score_ocr(truth, predictions, form, log, self.metric())

    def taught(self, record: Record) -> tuple[str, ...]:
        """Returns the right transcriptions as they are taught."""
        options = self.options
        return tuple(
            plain_text(text, white_space=options.white_space, lower_case=options.lower_case)
            for text in right_texts(record, options.several)
        )
