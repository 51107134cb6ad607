"""Object detection: `detect cat ; dog` -> `<loc0000><loc0000><loc1023><loc0512> cat ; <loc...> dog`."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.boxes import (
    NOISE_LABEL,
    SEPARATOR,
    DecodedBox,
    box_spans,
    decode_boxes,
    from_bins,
    label_problem,
)
from mmtune.data.suffixes import asked_classes
from mmtune.errors import RecipeError
from mmtune.records import Box, Output, Prediction, Query, Record, Target
from mmtune.task import Task

if TYPE_CHECKING:
    from PIL import Image

    from mmtune.codecs.grammar import Automaton
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.base import Metric
    from mmtune.models.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

_UNKNOWN = 25  # boxes that an answer has room for where nobody knows how many there are
_LONG_LABEL = 10  # tokens of a box where nobody knows its label


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """The options of detection.

    Attributes:
        prompt: "all": one prompt names all classes; "per_class": one prompt a class.
        noise_boxes: 0: targets hold the real boxes and end. N: targets are filled up to N boxes with made-up ones
            under a noise label, and decoding goes on to the end of the budget (Pix2Seq's recipe: more recall, ranked
            boxes).
        max_boxes: Most real boxes in a target (with noise boxes their number, if it is smaller). Of more, training
            makes a random choice anew each time, otherwise the largest are taken; the metric counts them all.
        order: Order of the boxes in training targets: "random", "raster" (by top, then left edge) or "file". Where
            nothing is random, "random" is the order of the file.
        score: "probability": a box's score is the probability of its label's tokens; "one": all scores are 1.
    """

    prompt: str = "all"
    noise_boxes: int = 0
    max_boxes: int = 100
    order: str = "random"
    score: str = "probability"

    def __post_init__(self) -> None:
        choices = {
            "prompt": ("all", "per_class"),
            "order": ("random", "raster", "file"),
            "score": ("probability", "one"),
        }
        problems = [
            f"options.{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}"
            for name, allowed in choices.items()
            if getattr(self, name) not in allowed
        ]
        if self.noise_boxes < 0:
            problems.append(f"options.noise_boxes: expected 0 or more, got {self.noise_boxes}")
        if self.max_boxes < 1:
            problems.append(f"options.max_boxes: expected 1 or more, got {self.max_boxes}")
        if problems:
            raise RecipeError(problems)

    @property
    def limit(self) -> int:
        """Most real boxes in a target."""
        return min(self.max_boxes, self.noise_boxes or self.max_boxes)


@final
class Detection(Task):
    """Boxes with labels and scores."""

    name: ClassVar[str] = "detection"
    needs_classes: ClassVar[bool] = True
    headline: ClassVar[str] = "AP"
    Options: ClassVar[type] = DetectionOptions
    options: DetectionOptions

    def __init__(self, classes: Sequence[str] = (), options: DetectionOptions | None = None):
        super().__init__(classes, options)
        self._usable = tuple(label for label in self.classes if label_problem(label) is None)
        self._warned = False

    def check(self, record: Record) -> Sequence[str]:
        """Returns why the record's boxes cannot become a target; crowd and difficult boxes never do and may be odd."""
        if record.size is None:
            return ("the size of the picture is not known: give its width and height, or the picture itself",)
        problems: dict[str, None] = {}
        for box in _targets(record):
            if problem := label_problem(box.label):
                problems[problem] = None
            elif self.classes and box.label not in self.classes:
                problems[f"label {box.label!r} is not among the classes ({', '.join(self.classes)})"] = None
            if problem := _edge_problem(box, record.size):
                problems[problem] = None
        return tuple(problems)

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns one query for all classes, or one a class; or that of the record's own prefix.

        Classes whose names `label_problem` refuses are never asked for: `check` names them where they occur.
        """
        if record.prefix is not None:
            asked = tuple(label for label in asked_classes(record.prefix) if label_problem(label) is None)
            return (Query(record.prefix, asked or self._usable),)
        if self.options.prompt == "per_class":
            return tuple(Query(f"detect {label}", (label,)) for label in self._usable)
        return (Query(f"detect {SEPARATOR.join(self._usable)}", self._usable),)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns one target; noise boxes are added only with `rng`."""
        if record.size is None:
            raise ValueError(f"record {record.id} has no size; `check` refuses it")
        boxes = _arranged(_wanted(record, query), self.options, rng)
        if rng is not None:
            boxes += noise_boxes(boxes, record.size, self.options.noise_boxes - len(boxes), rng)
        return (box_spans(boxes, record.size),)

    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Reads the boxes of all answers. A label that was not asked for is invalid, as is every box without a size."""
        boxes: list[Box] = []
        invalid = 0
        for query, output in answers:
            decoded = decode_boxes(output.text)
            invalid += decoded.invalid
            for found in decoded.boxes:
                if found.label == NOISE_LABEL and self.options.noise_boxes:
                    continue
                asked = not query.labels or found.label in query.labels
                if record.size is None or found.label == NOISE_LABEL or not asked:
                    invalid += 1
                    continue
                score = 1.0 if self.options.score == "one" else _score(output, found)
                boxes.append(Box(found.label, *from_bins(found.bins, record.size), score=score))
        return Prediction(
            record.id,
            prompt="\n".join(query.prompt for query, _ in answers),
            text="\n".join(output.text for _, output in answers),
            boxes=tuple(boxes),
            tokens=tuple(pair for _, output in answers for pair in zip(output.tokens, output.logprobs, strict=False)),
            invalid=invalid,
        )

    def metric(self) -> "Metric":
        """Returns an empty COCO metric over the classes."""
        from mmtune.metrics.detection import DetectionMetric

        return DetectionMetric(self.classes)

    def grammar(self, query: Query, tokenizer: "Tokenizer") -> "Automaton | None":
        """Returns the grammar of boxes with the query's labels, None where it names none.

        With noise boxes, lists go on to the end of the budget.
        """
        from mmtune.codecs.grammar import detection_grammar

        if not query.labels:
            return None
        return detection_grammar(tokenizer, query.labels, fill=self.options.noise_boxes > 0)

    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest target, end included, rounded up to 16 so that few shapes are compiled.

        With noise boxes that is their number of boxes under the longest label. For records whose truth is not known
        (no boxes, and read from no file) there is room for 25 boxes.
        """
        limit = self.options.limit
        labels = {NOISE_LABEL} if self.options.noise_boxes else set()
        count, longest = self.options.noise_boxes, 0
        for record in records:
            if not record.boxes and not record.source:
                count = max(count, min(limit, _UNKNOWN))
            for query in self.queries(record):
                labels.update(query.labels)
                lengths = sorted((_length(tokenizer, box.label) for box in _wanted(record, query)), reverse=True)
                self._warn(record, len(lengths))
                longest = max(longest, sum(lengths[:limit]))
        longest = max(longest, count * max((_length(tokenizer, label) for label in labels), default=_LONG_LABEL))
        return 16 * math.ceil((longest + 1) / 16)

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns the most tokens of the query's targets, wherever noise boxes stand for real ones."""
        noise = _length(tokenizer, NOISE_LABEL) if self.options.noise_boxes else 0
        lengths = [max(noise, _length(tokenizer, box.label)) for box in _wanted(record, query)]
        self._warn(record, len(lengths))
        real = sorted(lengths, reverse=True)[: self.options.limit]
        return sum(real) + noise * max(0, self.options.noise_boxes - len(real)) + 1

    def _warn(self, record: Record, count: int) -> None:
        """Says once that a record has more boxes than a target holds."""
        if count > self.options.limit and not self._warned:
            self._warned = True
            _log.warning(
                "record %s has %d boxes, more than the %d of a target: training sees a random choice each time, and an "
                "answer lists no more; raise options.max_boxes or options.noise_boxes if that matters (further such "
                "records are not named)",
                record.id,
                count,
                self.options.limit,
            )

    @classmethod
    def score_files(cls, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores COCO results, and the other public forms, against the truth of any reader."""
        from mmtune.metrics.results import score_detection

        return score_detection(truth, predictions, form, log)

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns the picture with the boxes, a colour for each class."""
        from mmtune.reports.overlay import draw_boxes

        return draw_boxes(image, prediction.boxes, self.classes)

    def as_json(self, prediction: Prediction) -> Mapping[str, Any]:
        """Returns the boxes as [x0, y0, x1, y1] in pixels of the original picture."""
        return {
            "boxes": [
                {"label": box.label, "score": box.score, "box": [box.x0, box.y0, box.x1, box.y1]}
                for box in prediction.boxes
            ]
        }


def noise_boxes(boxes: Sequence[Box], size: tuple[int, int], count: int, rng: np.random.Generator) -> list[Box]:
    """Returns made-up boxes under the noise label, mixed in the manner of Pix2Seq (arXiv 2109.10852).

    A random number of them are near copies of real boxes (each edge moved by up to a tenth of the side), which teaches
    not to list an object twice; of the rest, half are real boxes moved elsewhere, half are random.

    Args:
        boxes: The real boxes; without any, all noise is random.
        size: (width, height) of the picture in pixels.
        count: How many to make; none if not above 0.
        rng: Source of randomness.
    """
    if count <= 0:
        return []
    limits = np.array([*size, *size], float)
    made = rng.uniform(0, 1, (count, 2, 2))
    made.sort(axis=1)
    edges = made.reshape(count, 4) * limits
    if boxes:
        real = np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes])[rng.integers(0, len(boxes), count)]
        sides = np.tile(real[:, 2:] - real[:, :2], 2)
        jittered = real + sides * rng.uniform(-0.1, 0.1, (count, 4))
        centres = (real[:, :2] + real[:, 2:]) / 2
        shifted = real + np.tile(rng.uniform(0, 1, (count, 2)) * limits[:2] - centres, 2)
        copies = np.arange(count) < rng.integers(0, count + 1)
        moved = rng.random(count) < 0.5
        edges = rng.permutation(np.where(copies[:, None], jittered, np.where(moved[:, None], shifted, edges)))
    edges = np.clip(edges, 0, limits)
    return [Box(NOISE_LABEL, x0, y0, x1, y1) for x0, y0, x1, y1 in edges.tolist()]


def _targets(record: Record) -> list[Box]:
    """Returns the boxes that a model should find."""
    return [box for box in record.boxes if not box.crowd and not box.difficult]


def _wanted(record: Record, query: Query) -> list[Box]:
    """Returns those of them that a query asks for."""
    return [box for box in _targets(record) if not query.labels or box.label in query.labels]


@lru_cache(maxsize=4096)
def _length(tokenizer: "Tokenizer", label: str) -> int:
    """Returns how many tokens a box with this label and the separator behind it have."""
    return len(tokenizer.encode(f"<loc0000><loc0000><loc0000><loc0000> {label}{SEPARATOR}<loc0000>")) - 1


def _arranged(boxes: list[Box], options: DetectionOptions, rng: np.random.Generator | None) -> list[Box]:
    """Returns at most `options.limit` of the boxes in the order wanted."""
    places = range(len(boxes))
    if rng is not None:
        chosen = rng.permutation(len(boxes))[: options.limit].tolist()
    else:
        chosen = sorted(places, key=lambda place: -boxes[place].width * boxes[place].height)[: options.limit]
    if options.order == "raster":
        chosen.sort(key=lambda place: (boxes[place].y0, boxes[place].x0, place))
    elif rng is None or options.order == "file":
        chosen.sort()
    return [boxes[place] for place in chosen]


def _edge_problem(box: Box, size: tuple[int, int]) -> str | None:
    """Returns what keeps a box's edges from being written as location tokens."""
    edges = (box.x0, box.y0, box.x1, box.y1)
    shown = f"box of {box.label!r} from ({box.x0:g}, {box.y0:g}) to ({box.x1:g}, {box.y1:g})"
    if not all(math.isfinite(edge) for edge in edges):
        return f"{shown}: expected numbers"
    if box.width <= 0 or box.height <= 0:
        return f"{shown} has no area"
    if box.x1 <= 0 or box.y1 <= 0 or box.x0 >= size[0] or box.y0 >= size[1]:
        return f"{shown} lies outside the picture of {size[0]} x {size[1]} pixels"
    return None


def _score(output: Output, box: DecodedBox) -> float:
    """Returns the probability of the label: the product over the tokens that touch it or the space before it.

    Tokens without text of their own (the first bytes of a character) count where they stand. Without log-probabilities
    the score is 1.
    """
    start, end = box.span
    # Where a vocabulary writes the space apart, the choice between labels can begin with it.
    start -= output.text.startswith(" ", start - 1)
    total, place = 0.0, 0
    for token, logprob in zip(output.tokens, output.logprobs, strict=False):
        behind = place + len(token)
        if place < end and (behind > start or (not token and place >= start)):
            total += logprob
        place = behind
    return math.exp(min(total, 0.0))
