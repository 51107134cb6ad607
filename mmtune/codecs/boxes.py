"""Boxes to PaliGemma's location text and back: `<loc0010><loc0020><loc0500><loc0600> cat ; <loc...> dog`.

In segmentation, sixteen tokens `<segNNN>` stand between a box and its label; what they mean is `masks`' business.

Order, rounding and the divisor 1023 follow PaliGemma's training code (big_vision); four location tokens give y first.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.records import Box, Span, Target

LOCATIONS = 1024
LAST_BIN = LOCATIONS - 1
NOISE_LABEL = "<unused0>"
"""The label of noise boxes in the detection recipe: a piece of Gemma's own vocabulary that no text uses."""

SEPARATOR = " ; "

Bins = tuple[int, int, int, int]
"""Edges y0, x0, y1, x1 of a box, each 0..1023, in fractions of the picture's height or width times 1023."""

SEGMENT_CODES = 128
"""How many different `<segNNN>` tokens there are."""

LOCATION_TOKENS = tuple(f"<loc{number:04d}>" for number in range(LOCATIONS))
SEGMENT_TOKENS = tuple(f"<seg{number:03d}>" for number in range(SEGMENT_CODES))
OBJECT_TOKENS = (*LOCATION_TOKENS, *SEGMENT_TOKENS, NOISE_LABEL)
"""What boxes and masks are written with: one token each wherever a vocabulary has them."""

UNNAMED = "object"
"""The label of objects that a text does not name: masks of referring expressions."""

_GROUP = re.compile(r"((?:<loc[0-9]{4}>)+)((?:<seg[0-9]{3}>)*)")
_NUMBER = re.compile(r"[0-9]+")
_CONTROL = re.compile(
    r"<(?:loc[0-9]{4}|seg[0-9]{3}|bos|eos|pad|unk|mask|unused[0-9]+|start_of_turn|end_of_turn|start_of_image|"
    r"end_of_image|image)>"
)


@dataclass(frozen=True, slots=True)
class RawObject:
    """One group of location (and segmentation) tokens with the text up to the next group, not yet judged.

    Attributes:
        locs: The numbers of the location tokens, as many as there are.
        segs: The numbers of the segmentation tokens that follow them directly.
        label: The text behind them, without one leading space and the separator.
        span: Start and end of the label in the text, in characters.
    """

    locs: tuple[int, ...]
    segs: tuple[int, ...]
    label: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DecodedBox:
    """A box read from text.

    Attributes:
        bins: Edges with y0 <= y1 and x0 <= x1.
        label: The label, `NOISE_LABEL` included; `UNNAMED` where there is none.
        span: Start and end of the label in the text, in characters.
        segs: The numbers of its segmentation tokens, each 0..127.
    """

    bins: Bins
    label: str
    span: tuple[int, int]
    segs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodedBoxes:
    """What a text says.

    Attributes:
        boxes: In the order of the text.
        invalid: How many parts of the text could not be read.
    """

    boxes: tuple[DecodedBox, ...]
    invalid: int


def label_problem(label: str) -> str | None:
    """Returns one sentence that says why a label cannot be written and read back, or None when it can.

    >>> label_problem("red blood cell (young); 2nd")
    """
    quoted = repr(label if len(label) <= 80 else label[:77] + "...")
    if not label.strip():
        return f"label {quoted} is empty: give the class a name"
    for char in label:
        if unicodedata.category(char) in ("Cc", "Cs"):
            return f"label {quoted} contains the control character {char!r}: use letters, digits, spaces, punctuation"
    if label != label.strip():
        return f"label {quoted} begins or ends with white space: remove it, it would not survive the way to text"
    if found := _CONTROL.search(label):
        return f"label {quoted} contains {found[0]}, a token with a meaning of its own: rename the class"
    if "▁" in label:
        return f"label {quoted} contains U+2581, which stands for a space in the vocabulary: rename the class"
    if label.endswith(SEPARATOR.rstrip()):
        return f"label {quoted} ends with ' ;', which separates objects: rename the class"
    return None


def to_bins(box: Box, size: tuple[int, int]) -> Bins:
    """Returns the location numbers of a box; edges beyond the picture are moved to its border.

    Args:
        box: Finite edges in pixels.
        size: (width, height) of the picture in pixels.
    """
    width, height = size
    edges = (box.y0 / height, box.x0 / width, box.y1 / height, box.x1 / width)
    y0, x0, y1, x1 = (min(max(round(edge * LAST_BIN), 0), LAST_BIN) for edge in edges)
    return y0, x0, y1, x1


def from_bins(bins: Bins, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Returns the edges x0, y0, x1, y1 in pixels; at most half a bin off what `to_bins` was given.

    Args:
        bins: y0, x0, y1, x1.
        size: (width, height) of the picture in pixels.
    """
    width, height = size
    y0, x0, y1, x1 = bins
    return x0 * width / LAST_BIN, y0 * height / LAST_BIN, x1 * width / LAST_BIN, y1 * height / LAST_BIN


def box_spans(
    boxes: Sequence[Box],
    size: tuple[int, int],
    segments: Sequence[Sequence[int]] | None = None,
    shown: Sequence[str | None] | None = None,
    segment_weight: float = 1.0,
) -> Target:
    """Returns the text of the boxes as weighted spans: coordinates of noise boxes weigh 0, everything else 1.

    Args:
        boxes: With labels that `label_problem` accepts, or `NOISE_LABEL`.
        size: (width, height) of the picture in pixels.
        segments: For each box the numbers of the segmentation tokens behind its location tokens; None: none.
        shown: For each box the label that the decoder reads in place of its own, or None; None: their own.
        segment_weight: Weight of segmentation tokens, of noise boxes always 0.

    Returns:
        As few spans as possible, none for no boxes; every border lies at a location or segmentation token.
    """
    spans: list[Span] = []
    for index, box in enumerate(boxes):
        locations = "".join(f"<loc{number:04d}>" for number in to_bins(box, size))
        codes = "" if segments is None else "".join(f"<seg{number:03d}>" for number in segments[index])
        separator = SEPARATOR if index + 1 < len(boxes) else ""
        read = None if shown is None or shown[index] is None else f" {shown[index]}{separator}"
        label = Span(f" {box.label}{separator}", shown=read)
        real = 0.0 if box.label == NOISE_LABEL else 1.0
        for span in (Span(locations, real), *([Span(codes, real * segment_weight)] if codes else []), label):
            if spans and spans[-1].weight == span.weight and spans[-1].shown is span.shown is None:
                spans[-1] = Span(spans[-1].text + span.text, span.weight)
            else:
                spans.append(span)
    return tuple(spans)


def encode_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> str:
    """Returns the text of the boxes, in the given order; see `box_spans` for the arguments.

    >>> encode_boxes([Box("cat", 0, 0, 50, 100)], (100, 100))
    '<loc0000><loc0000><loc1023><loc0512> cat'
    """
    return "".join(span.text for span in box_spans(boxes, size))


def split_objects(text: str) -> tuple[list[RawObject], int]:
    """Cuts a text into its objects, whatever they look like, for detection and segmentation alike.

    Returns:
        The objects, and how many pieces of text belong to none: text before the first, a separator after the last.
    """
    groups = list(_GROUP.finditer(text))
    strays = int(bool(text[: groups[0].start() if groups else len(text)].strip()))
    objects = []
    for index, group in enumerate(groups):
        is_last = index + 1 == len(groups)
        start, end = group.end(), len(text) if is_last else groups[index + 1].start()
        start += text.startswith(" ", start, end)
        if text.endswith(SEPARATOR, start, end):
            end -= len(SEPARATOR)
            strays += is_last
        elif is_last and text.endswith(SEPARATOR.rstrip(), start, end):
            end -= len(SEPARATOR.rstrip())
            strays += 1
        locs, segs = (tuple(int(number) for number in _NUMBER.findall(part)) for part in group.groups())
        objects.append(RawObject(locs, segs, text[start:end], (start, end)))
    return objects, strays


def decode_boxes(text: str, segments: int = 0, named: bool = True) -> DecodedBoxes:
    """Reads the boxes of a text. Never raises.

    Counted as invalid: a group of other than four location tokens, numbers above 1023, another count of segmentation
    tokens or numbers above 127, a label that is empty or that `label_problem` refuses (but for the noise label), text
    before the first group, a separator after the last label. Corners in the wrong order are put in order.

    Args:
        text: What a model wrote, or a target.
        segments: How many segmentation tokens each box has.
        named: Whether every box needs a label; if not, those without one are `UNNAMED`.
    """
    objects, invalid = split_objects(text)
    boxes = []
    for item in objects:
        bins = ordered_bins(item.locs)
        label = item.label if item.label or named else UNNAMED
        readable = len(item.segs) == segments and all(number < SEGMENT_CODES for number in item.segs)
        if bins is None or not readable or not readable_label(label):
            invalid += 1
        else:
            boxes.append(DecodedBox(bins, label, item.span, item.segs))
    return DecodedBoxes(tuple(boxes), invalid)


def ordered_bins(locs: Sequence[int]) -> Bins | None:
    """Returns four location numbers with the corners in order, or None when they are no box."""
    if len(locs) != 4 or max(locs) > LAST_BIN:
        return None
    y0, x0, y1, x1 = locs
    return min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1)


def readable_label(label: str) -> bool:
    """Whether a label that the model wrote can stand: a label that could have been written, or the noise label."""
    return label == NOISE_LABEL or label_problem(label) is None
