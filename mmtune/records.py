"""What flows between the rooms: plain, typed, frozen records. Nothing here imports more than the standard library."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class Picture(Protocol):
    """Where a record's pixels come from: a file, bytes of a data set, or a generated scene."""

    @property
    def name(self) -> str:
        """A path or a name to show to a user."""
        ...

    def open(self) -> "Image.Image":
        """Returns the upright picture in mode RGB; raises `DataError` when it cannot be decoded."""
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box in pixels of the upright picture.

    Attributes:
        label: The class name, exactly as the data set spells it.
        x0, y0, x1, y1: Left, top, right and bottom edge, float pixels, 0 at the picture's left or top border.
        score: Confidence in 0..1; None for truth and for predictions without one.
        crowd: COCO's `iscrowd`: a region that is ignored by the metrics, not missed.
        difficult: Pascal VOC's `difficult`; ignored by the metrics as well.
        area: Area in square pixels as annotated (COCO's size classes use the mask's area); None: the box's own area.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    score: float | None = None
    crowd: bool = False
    difficult: bool = False
    area: float | None = None

    @property
    def width(self) -> float:
        """Pixels from left to right edge."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Pixels from top to bottom edge."""
        return self.y1 - self.y0


@dataclass(frozen=True, slots=True)
class Mask:
    """A binary mask over the whole upright picture, in COCO's compressed run-length form.

    Attributes:
        label: The class name.
        size: (height, width) in pixels, COCO's order.
        counts: COCO's compressed run lengths, column by column.
        score: Confidence in 0..1, or None.
        crowd: COCO's `iscrowd`.
    """

    label: str
    size: tuple[int, int]
    counts: bytes
    score: float | None = None
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What a data set says about a question besides its text, which is the record's prefix, and its answers.

    Attributes:
        kind: The question's type as the data set names it ("what color is the", "count"), by which scores are split.
        answer_kind: The type of its answer ("yes/no", "number", "other").
        choices: The answers to choose from, in the order of the file; empty for an open question.
        correct: Which of the choices is right, counted from 0; None where that is not known.
        difficult: Whether the data set leaves the question out of its score of direct answers, as A-OKVQA does with
            those for which people agreed too little.
    """

    kind: str | None = None
    answer_kind: str | None = None
    choices: tuple[str, ...] = ()
    correct: int | None = None
    difficult: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says in a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        text: As the data set has it.
        weight: Of its tokens in the loss, where it is the assistant's; 0: it is read but not taught.
    """

    role: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """One example of a data set, whatever file it came from.

    Attributes:
        id: Unique within the data set; what every message about this record names.
        picture: Where its pixels come from; None for text tasks and for truth whose picture is absent.
        size: (width, height) of the upright picture in pixels, None where not known without decoding it.
        prefix: The prompt, where the data set brings its own (a question, a PaliGemma prefix).
        texts: What belongs to the prompt: captions, answers, the words on the picture, a PaliGemma suffix.
        boxes, masks: Objects, in the order of the file.
        image_id: The number or name by which official result files know the picture; None: `id`.
        source: File, and line where there is one, that the record was read from.
        question: What is known of a question besides its text and its answers.
        turns: A conversation. Where its last turn is the user's, `texts` are the right answers to it.
    """

    id: str
    picture: Picture | None = None
    size: tuple[int, int] | None = None
    prefix: str | None = None
    texts: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    image_id: int | str | None = None
    source: str = ""
    question: Question | None = None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something odd in a data set that was set aside, so that the rest could be used.

    Attributes:
        file: The file (and line) at fault.
        record: The id of the record at fault, or None when the whole file is meant.
        kind: A few words by which faults are counted, such as "box without area".
        problem: One sentence: what was expected, what is there, what was done.
    """

    file: str
    record: str | None
    kind: str
    problem: str


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a target text and the weight of its tokens in the loss (0: no loss).

    Borders between spans lie at control tokens (`<locNNNN>`, `<segNNN>`), so that tokenising span by span gives the
    ids of the whole text.

    Attributes:
        text: What is to be written.
        weight: Of its tokens in the loss.
        shown: What the decoder reads in its place while it is taught; None: the text itself. Taught is then the first
            token in which the two differ, and what comes before it.
    """

    text: str
    weight: float = 1.0
    shown: str | None = None


Target = tuple[Span, ...]


Part = tuple[float, float, float, float]
"""Edges y0, x0, y1, x1 of a part of a picture, in fractions of its height and width."""

WHOLE: Part = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is shown when it is asked about.

    Attributes:
        view: Number that says how it is mirrored and turned (`looks.turned`); 0: as it is.
        part: What of it is shown.
    """

    view: int = 0
    part: Part = WHOLE

    @property
    def plain(self) -> bool:
        """Whether it is the whole picture as it is."""
        return self.view == 0 and self.part == WHOLE

    @property
    def area(self) -> float:
        """The fraction of the picture that is shown."""
        y0, x0, y1, x1 = self.part
        return (y1 - y0) * (x1 - x0)


PLAIN = Look()
"""The whole picture as it is."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the model about one record.

    Attributes:
        prompt: The prefix, such as "detect cat ; dog"; a newline that closes it may be left out.
        labels: The classes that the prompt asks for, where the task has classes.
        closed: Whether a newline closes the prompt; else the answer goes on right behind its last character.
        look: How the picture is shown.
    """

    prompt: str
    labels: tuple[str, ...] = ()
    closed: bool = True
    look: Look = PLAIN


@dataclass(frozen=True, slots=True)
class Output:
    """What the model wrote.

    Attributes:
        text: The decoded text without bos, eos and padding.
        tokens: The text of each token; `"".join(tokens) == text` (a character spread over several byte tokens stands
            at the last of them).
        logprobs: The natural log-probability of each token under the unmasked, untempered distribution.
    """

    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely the model finds the right answers to a record.

    Attributes:
        logprob: Natural log-probability of all their tokens that are taught, the token that ends an answer included.
        tokens: How many these are.
    """

    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a task made of the model's output for one record.

    Attributes:
        record: The record's id.
        prompt, text: What was asked and what the model wrote (several queries are joined by newlines).
        boxes, masks: Parsed objects in pixels of the record's picture.
        tokens: (text, log-probability) of each token.
        invalid: How many parts of the text could not be parsed; 0 is a clean output.
        truth: How likely the right answers are; None where the task does not ask or nobody knows them.
    """

    record: str
    prompt: str
    text: str
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    tokens: Sequence[tuple[str, float]] = ()
    invalid: int = 0
    truth: Likelihood | None = None
