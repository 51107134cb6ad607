"""What tasks that list objects have in common: options, prompts, the choice and order of objects, scores, lengths."""

import abc
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmtune.codecs.boxes import LAST_BIN, NOISE_LABEL, SEPARATOR, DecodedBox, DecodedBoxes, label_problem
from mmtune.data.dense import Objects, objects_of
from mmtune.data.suffixes import asked_classes
from mmtune.errors import RecipeError
from mmtune.looks import MOST_TILES, VIEWS, looks, shows, whole_bins
from mmtune.noise_objects import NoisyObjects, with_noise
from mmtune.records import Box, Mask, Output, Prediction, Query, Record
from mmtune.settings import choice_problems
from mmtune.sightings import Found, Sighting, distinct, together
from mmtune.task import Task

if TYPE_CHECKING:
    from mmtune.codecs.grammar import Automaton
    from mmtune.models.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

_UNKNOWN = 25  # objects that an answer has room for where nobody knows how many there are
_UNSURE = 1 / 256  # probability of a location that is one of a quarter of all
_LONG_LABEL = 10  # tokens of an object where nobody knows its label


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """Options that all of these tasks have.

    Attributes:
        prompt: "all": one prompt names all classes; "per_class": one prompt a class.
        noise_boxes: 0: targets hold the real objects and end. N: targets are filled up to N objects with made-up ones
            under a noise label (`noise_objects`), and decoding goes on to the end of the budget (Pix2Seq's recipe: more
            recall, ranked objects).
        max_boxes: Most real objects in a target (with noise boxes their number, if it is smaller). Of more, training
            makes a random choice anew each time, otherwise the largest are taken; the metric counts them all.
        order: Order of the objects in training targets: "random", "raster" (by top, then left edge) or "file". Where
            nothing is random, "random" is the order of the file.
        score: "probability": an object's score is the probability of its label's tokens; "location": that times
            `location_confidence`, which tells objects of one class apart; "one": all scores are 1.
        overlap: Of objects of one class whose boxes overlap by more than this (intersection over union), only the one
            with the highest score is kept; 1: all are kept.
        tolerance: In bins (thousandths of the picture's side). Greedy decoding writes the location around which most
            probability lies within so many bins; 0: the likeliest.
        views: How often a picture is asked about: 1, 2 (mirrored too), 4 (and both upside down), 8 (and all with x and
            y swapped); what was found is put together (`sightings`). Expressions such as "the left dog" are asked
            once. Training is as ever.
        tiles: N: besides the whole picture, N times N overlapping parts of it are asked about, enlarged, in as many
            views; for objects that are small in large pictures. 1: there are none.
        min_score: Objects with a lower score are left out of answers, for showing them; average precision loses by it.
    """

    prompts: ClassVar[tuple[str, ...]] = ("all", "per_class")

    prompt: str = "all"
    noise_boxes: int = 0
    max_boxes: int = 100
    order: str = "random"
    score: str = "probability"
    overlap: float = 1.0
    tolerance: int = 0
    views: int = 1
    tiles: int = 1
    min_score: float = 0.0

    def __post_init__(self) -> None:
        choices = {
            "prompt": self.prompts,
            "order": ("random", "raster", "file"),
            "score": ("probability", "location", "one"),
        }
        problems = choice_problems(self, choices)
        if self.noise_boxes < 0:
            problems.append(f"options.noise_boxes: expected 0 or more, got {self.noise_boxes}")
        if self.max_boxes < 1:
            problems.append(f"options.max_boxes: expected 1 or more, got {self.max_boxes}")
        if not 0 <= self.tolerance <= LAST_BIN:
            problems.append(f"options.tolerance: expected 0 to {LAST_BIN}, got {self.tolerance}")
        if self.views not in VIEWS:
            problems.append(f"options.views: expected {', '.join(map(str, VIEWS))}, got {self.views}")
        if not 1 <= self.tiles <= MOST_TILES:
            problems.append(f"options.tiles: expected 1 to {MOST_TILES}, got {self.tiles}")
        if not 0 <= self.min_score <= 1:
            problems.append(f"options.min_score: expected 0 to 1, got {self.min_score}")
        if not 0 < self.overlap <= 1:
            problems.append(f"options.overlap: expected more than 0, at most 1, got {self.overlap}")
        if problems:
            raise RecipeError(problems)

    @property
    def limit(self) -> int:
        """Most real objects in a target."""
        return min(self.max_boxes, self.noise_boxes or self.max_boxes)


class ObjectTask(Task):
    """A task whose answers are lists of objects with a box each, such as `<loc...>x4 cat ; <loc...>x4 dog`.

    Class attributes:
        verb: The word that begins its prompts.
        segments: How many segmentation tokens stand between the box and the label of each object.
    """

    verb: ClassVar[str]
    segments: ClassVar[int] = 0
    needs_classes: ClassVar[bool] = True
    headline: ClassVar[str] = "AP"
    options: ObjectOptions

    def __init__(self, classes: Sequence[str] = (), options: ObjectOptions | None = None):
        super().__init__(classes, options)
        self._usable = tuple(label for label in self.classes if label_problem(label) is None)
        self._warned = False

    @abc.abstractmethod
    def found(self, record: Record) -> Sequence[Box]:
        """Returns the boxes of the objects that a model should find."""

    def right_texts(self, record: Record) -> Sequence[str]:
        """Returns none: what is right is not a matter of the text."""
        del record
        return ()

    def wanted(self, record: Record, query: Query) -> list[int]:
        """Returns which of `found` a query asks for."""
        boxes = self.found(record)
        return [place for place, box in enumerate(boxes) if not query.labels or box.label in query.labels]

    def check(self, record: Record) -> Sequence[str]:
        """Returns why the record's boxes cannot become a target; those that never do may be odd."""
        if record.size is None:
            return ("the size of the picture is not known: give its width and height, or the picture itself",)
        problems: dict[str, None] = {}
        for box in self.found(record):
            if problem := label_problem(box.label):
                problems[problem] = None
            elif self.classes and box.label not in self.classes:
                problems[f"label {box.label!r} is not among the classes ({', '.join(self.classes)})"] = None
            if problem := _edge_problem(box, record.size):
                problems[problem] = None
        return tuple(problems)

    def queries(self, record: Record) -> Sequence[Query]:
        """Returns the lessons' queries for every look at the picture; those that name no classes for one alone."""
        lessons = self.lessons(record)
        taken = looks(self.options.views, self.options.tiles)
        return tuple(replace(query, look=look) for look in taken for query in lessons if query.labels or look.plain)

    def lessons(self, record: Record) -> Sequence[Query]:
        """Returns one query for all classes, or one a class; or that of the record's own prefix.

        Classes whose names `label_problem` refuses are never asked for: `check` names them where they occur.
        """
        if record.prefix is not None:
            asked = tuple(label for label in asked_classes(record.prefix) if label_problem(label) is None)
            return (Query(record.prefix, asked or self._usable),)
        if self.options.prompt == "per_class":
            return tuple(Query(f"{self.verb} {label}", (label,)) for label in self._usable)
        return (Query(f"{self.verb} {SEPARATOR.join(self._usable)}", self._usable),)

    def accepted(self, query: Query, decoded: DecodedBoxes) -> tuple[list[DecodedBox], int]:
        """Returns the objects that answer a query, and how many parts of the text do not.

        A label that was not asked for is invalid; the noise label is passed over where it was taught.
        """
        accepted, invalid = [], decoded.invalid
        for box in decoded.boxes:
            if box.label == NOISE_LABEL and self.options.noise_boxes:
                continue
            if box.label == NOISE_LABEL or (query.labels and box.label not in query.labels):
                invalid += 1
            else:
                accepted.append(box)
        return accepted, invalid

    def score(self, output: Output, box: DecodedBox) -> float:
        """Returns the score of an object of the output, as the options say."""
        if self.options.score == "one":
            return 1.0
        score = label_probability(output, box)
        return score * location_confidence(output, box) if self.options.score == "location" else score

    def sightings(self, query: Query, output: Output, accepted: Sequence[DecodedBox]) -> list[Sighting]:
        """Returns the objects of an answer that its look shows whole, their boxes in the whole picture as it is."""
        moved = [(box, whole_bins(box.bins, query.look)) for box in accepted]
        return [
            Sighting(replace(box, bins=bins), self.score(output, box), query.look)
            for box, bins in moved
            if shows(query.look, bins)
        ]

    def shown(self, sightings: Sequence[Sighting], answers: Sequence[tuple[Query, Output]]) -> list[Found]:
        """Returns the objects of all looks, in their order, that `overlap` and `min_score` do not leave out."""
        found = together(sightings, list(dict.fromkeys(query.look for query, _ in answers)))
        found = [one for one in found if one.score >= self.options.min_score]
        return found if self.options.overlap == 1 else distinct(found, self.options.overlap)

    def grammar(self, query: Query, tokenizer: "Tokenizer") -> "Automaton | None":
        """Returns the grammar of objects with the query's labels, None where it names none.

        With noise boxes, lists go on to the end of the budget.
        """
        from mmtune.codecs.grammar import object_grammar

        if not query.labels:
            return None
        options = self.options
        return object_grammar(
            tokenizer, query.labels, self.segments, fill=options.noise_boxes > 0, tolerance=options.tolerance
        )

    def max_tokens(self, records: Sequence[Record], tokenizer: "Tokenizer") -> int:
        """Returns the length of the longest target, end included, rounded up to 16 so that few shapes are compiled.

        With noise boxes that is their number of objects under the longest label. For records whose truth is not known
        (no boxes, and read from no file) there is room for 25 objects.
        """
        limit = self.options.limit
        labels = {NOISE_LABEL} if self.options.noise_boxes else set()
        count, longest = self.options.noise_boxes, 0
        for record in records:
            if not record.boxes and not record.source:
                count = max(count, min(limit, _UNKNOWN))
            for query in self.lessons(record):
                labels.update(query.labels)
                lengths = sorted(self._lengths(record, query, tokenizer), reverse=True)
                longest = max(longest, sum(lengths[:limit]))
        each = [_length(tokenizer, label, self.segments) for label in labels]
        longest = max(longest, count * max(each, default=_LONG_LABEL + self.segments))
        return 16 * math.ceil((longest + 1) / 16)

    def target_bound(self, record: Record, query: Query, tokenizer: "Tokenizer") -> int:
        """Returns the most tokens of the query's targets, whatever labels are read behind noise boxes."""
        read = {*query.labels, *(self.found(record)[place].label for place in self.wanted(record, query)), NOISE_LABEL}
        noise = max(_length(tokenizer, label, self.segments) for label in read) if self.options.noise_boxes else 0
        lengths = [max(noise, length) for length in self._lengths(record, query, tokenizer)]
        real = sorted(lengths, reverse=True)[: self.options.limit]
        return sum(real) + noise * max(0, self.options.noise_boxes - len(real)) + 1

    def with_noise(self, boxes: Sequence[Box], size: tuple[int, int], rng: np.random.Generator) -> NoisyObjects:
        """Returns a target's boxes with the noise that the options ask for."""
        return with_noise(boxes, size, self.options.noise_boxes, rng, raster=self.options.order == "raster")

    def seen_objects(self, record: Record) -> Objects | None:
        """Returns the boxes that a model should find."""
        assert record.size is not None
        return objects_of(self.found(record), record.size, self.classes)

    def _lengths(self, record: Record, query: Query, tokenizer: "Tokenizer") -> list[int]:
        boxes = self.found(record)
        wanted = self.wanted(record, query)
        self._warn(record, len(wanted))
        return [_length(tokenizer, boxes[place].label, self.segments) for place in wanted]

    def _warn(self, record: Record, count: int) -> None:
        """Says once that a record has more objects than a target holds."""
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


def read_answers(
    record: Record,
    answers: Sequence[tuple[Query, Output]],
    invalid: int,
    boxes: Sequence[Box],
    masks: Sequence[Mask] = (),
) -> Prediction:
    """Returns the prediction that a record's answers amount to, its text that about the picture as it is."""
    plain = [(query.prompt, output) for query, output in answers if query.look.plain]
    return Prediction(
        record.id,
        prompt="\n".join(prompt for prompt, _ in plain),
        text="\n".join(output.text for _, output in plain),
        boxes=tuple(boxes),
        masks=tuple(masks),
        tokens=tuple(pair for _, output in plain for pair in zip(output.tokens, output.logprobs, strict=False)),
        invalid=invalid,
    )


def box_items(boxes: Sequence[Box]) -> list[dict[str, Any]]:
    """Returns the items of `mmtune predict --json`: boxes as [x0, y0, x1, y1] in pixels of the original picture."""
    return [{"label": box.label, "score": box.score, "box": [box.x0, box.y0, box.x1, box.y1]} for box in boxes]


def arranged(boxes: Sequence[Box], options: ObjectOptions, rng: np.random.Generator | None) -> list[int]:
    """Returns the places of at most `options.limit` of the boxes in the order wanted."""
    places = range(len(boxes))
    if rng is not None:
        chosen = rng.permutation(len(boxes))[: options.limit].tolist()
    else:
        chosen = sorted(places, key=lambda place: -boxes[place].width * boxes[place].height)[: options.limit]
    if options.order == "raster":
        chosen.sort(key=lambda place: (boxes[place].y0, boxes[place].x0, place))
    elif rng is None or options.order == "file":
        chosen.sort()
    return chosen


def label_probability(output: Output, box: DecodedBox) -> float:
    """Returns the product of the probabilities of a label's tokens, the space before it included.

    Tokens without text of their own (the first bytes of a character) count where they stand. Without log-probabilities
    the score is 1.
    """
    return math.exp(min(sum(_logprobs(output, _label_start(output, box), box.span[1])), 0.0))


def location_confidence(output: Output, box: DecodedBox) -> float:
    """Returns how sure a model is of a box's place: p / (p + 1/256), 0..1; 1 without log-probabilities.

    p is the geometric mean of the probabilities of its four location tokens. A model that spreads each edge over a
    quarter of the picture has one half.
    """
    end = _label_start(output, box) - len("<seg000>") * len(box.segs)
    found = _logprobs(output, end - len("<loc0000>") * len(box.bins), end)
    if not found:
        return 1.0
    probability = math.exp(min(sum(found) / len(found), 0.0))
    return probability / (probability + _UNSURE)


def _label_start(output: Output, box: DecodedBox) -> int:
    # Where a vocabulary writes the space apart, the choice between labels can begin with it.
    start = box.span[0]
    return start - output.text.startswith(" ", start - 1)


def _logprobs(output: Output, start: int, end: int) -> list[float]:
    """Returns the log-probabilities of the tokens that stand in a part of the text."""
    found, place = [], 0
    for token, logprob in zip(output.tokens, output.logprobs, strict=False):
        behind = place + len(token)
        if place < end and (behind > start or (not token and place >= start)):
            found.append(logprob)
        place = behind
    return found


@lru_cache(maxsize=4096)
def _length(tokenizer: "Tokenizer", label: str, segments: int) -> int:
    """Returns how many tokens an object with this label and the separator behind it have."""
    codes = "<seg000>" * segments
    return len(tokenizer.encode(f"<loc0000><loc0000><loc0000><loc0000>{codes} {label}{SEPARATOR}<loc0000>")) - 1


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
