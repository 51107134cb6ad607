"""Segmentation: `segment cat ; dog` -> `<loc0000>x4 <seg000>x16 cat ; ...`; referring expressions without a label."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.boxes import UNNAMED, DecodedBox, box_spans, decode_boxes, from_bins, label_problem, to_bins
from mmtune.codecs.mask_boxes import crop_mask, paste_part
from mmtune.codecs.mask_files import PUBLIC, SMALL, load_codec
from mmtune.codecs.mask_network import CODES, SEGMENTS
from mmtune.codecs.mask_runs import mask_pixels, pasted_counts
from mmtune.codecs.masks import MaskCodec
from mmtune.data.masks import mask_area, mask_edges
from mmtune.data.suffixes import asked_classes, decoded_texts, names_all_classes
from mmtune.errors import ModelError, RecipeError, UsageError
from mmtune.looks import upright
from mmtune.object_task import ObjectOptions, ObjectTask, arranged, box_items, read_answers
from mmtune.records import PLAIN, Box, Mask, Output, Prediction, Query, Record, Span, Target
from mmtune.sightings import Found, Sighting, together

if TYPE_CHECKING:
    from PIL import Image

    from mmtune.codecs.grammar import Automaton
    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.base import Metric
    from mmtune.models.tokenizer import Tokenizer

_AUTO = "auto"
# Pretrained PaliGemmas, whose segmentation tokens mean the public codec, have 257,152 pieces; `tiny` has its own few.
_PRETRAINED_VOCABULARY = 256_000
# Masks whose codes are kept from epoch to epoch: the public codec takes milliseconds for one.
_REMEMBERED = 20_000


@final
@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(ObjectOptions):
    """The options of segmentation.

    Attributes:
        prompt: As for all objects, and "referring": every record's own prefix is an expression for one object, whose
            answer has no label.
        mask_weight: Weight in the loss of each of a mask's sixteen codes; all other tokens weigh 1. Below 1 where the
            model knows masks already and is to learn new names for them: the codes would drown these.
        codec: What the segmentation tokens mean: "small", "public", the path of an .npz file, or "auto": public for
            the vocabulary of a pretrained PaliGemma, small for any other.
        codec_id: Name and fingerprint of the codec that a run was taught; filled in by training.
    """

    prompts: ClassVar[tuple[str, ...]] = ("all", "per_class", "referring")

    mask_weight: float = 1.0
    codec: str = _AUTO
    codec_id: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mask_weight < math.inf:
            raise RecipeError([f"options.mask_weight: expected 0 or more, got {self.mask_weight}"])


@final
class Segmentation(ObjectTask):
    """Masks with boxes, labels and scores."""

    name: ClassVar[str] = "segmentation"
    verb: ClassVar[str] = "segment"
    segments: ClassVar[int] = SEGMENTS
    lossy: ClassVar[tuple[str, ...]] = ("mIoU", "AP")
    Options: ClassVar[type] = SegmentationOptions
    options: SegmentationOptions

    def __init__(self, classes: Sequence[str] = (), options: SegmentationOptions | None = None):
        super().__init__(classes, options)
        self._known: dict[Mask, list[int]] = {}

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Segmentation":
        """Returns the task with the codec of a model with this vocabulary.

        Raises:
            ModelError: When the codec cannot be had, or is not the one that the model was taught.
        """
        codec = self.options.codec
        if codec == _AUTO:
            codec = PUBLIC if tokenizer.vocabulary_size >= _PRETRAINED_VOCABULARY else SMALL
        task = Segmentation(self.classes, replace(self.options, codec=codec))
        task.settled()
        return task

    def settled(self) -> Mapping[str, Any]:
        """Returns the codec's name and fingerprint."""
        return {"codec_id": f"{Path(self.codec.name).name} {self.codec.fingerprint}"}

    @cached_property
    def codec(self) -> MaskCodec:
        """The codec; where the options leave it to the model and there is none, the small one.

        Raises:
            ModelError: When it cannot be had, or is not the one that the model was taught.
        """
        name = SMALL if self.options.codec == _AUTO else self.options.codec
        codec, taught = load_codec(name), self.options.codec_id
        if taught and taught.split()[-1] != codec.fingerprint:
            raise ModelError(
                f"this model was taught the codes of the mask codec {taught}, and {name} is another one "
                f"({codec.fingerprint}): masks would come out as nonsense; give the codec that it was taught, or none"
            )
        return codec

    def prepared(self, record: Record) -> Record:
        """Returns the record with masks, where only its texts have some."""
        if record.masks or record.size is None or not record.texts:
            return record
        told = [Sighting(item, 1.0) for item in decoded_texts(record).boxes if item.segs and _has_area(item)]
        _, masks = self._masks(together(told, [PLAIN]), record.size)
        masks = [replace(mask, score=None) for mask in masks]
        return replace(record, masks=tuple(mask for mask in masks if mask_area(mask.size, mask.counts)))

    def found(self, record: Record) -> Sequence[Box]:
        """Returns a box for each object that is no crowd: the one around its mask, or the one of the text."""
        if _told(record):
            return record.boxes
        return [Box(mask.label, *mask_edges(mask.size, mask.counts)) for mask in record.masks if not mask.crowd]

    def check(self, record: Record) -> Sequence[str]:
        """Returns why the record's masks cannot become a target."""
        problems = list(super().check(record))
        if record.size is not None:
            odd = {mask.size for mask in record.masks} - {record.size[::-1]}
            problems += [f"a mask of {width} x {height} pixels on a picture of {record.size}" for height, width in odd]
        boxes = [box for box in record.boxes if not box.crowd]
        if boxes and not record.masks and not _told(record):
            problems.append(f"{len(boxes)} boxes without masks: segmentation needs polygons or run lengths")
        expression = self._expression(record)
        if self.options.prompt == "referring" and expression is None:
            problems.append("no prefix of its own: with options.prompt = 'referring' it must be an expression")
        if expression is not None and len(self.found(record)) > 1:
            problems.append(f"{len(self.found(record))} masks for the expression {expression!r}: expected one")
        return problems

    def unasked(self, record: Record) -> str | None:
        """Returns whether expressions are wanted and the record has none."""
        if self.options.prompt == "referring" and not (record.prefix or "").strip():
            return (
                "expected an expression (prefix) such as 'the left dog', as options.prompt is 'referring', found none"
            )
        return super().unasked(record)

    def lessons(self, record: Record) -> Sequence[Query]:
        """Returns one query for all classes, or one a class; or that of the record's own prefix.

        A prefix that does not say `segment` and classes is a referring expression; its query has no labels.

        Raises:
            UsageError: When expressions are wanted and the record has none.
        """
        if (expression := self._expression(record)) is not None:
            return (Query(expression),)
        if self.options.prompt == "referring":
            raise UsageError(f"record {record.id}: this model answers expressions: give one, such as 'the left dog'")
        return super().lessons(record)

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns one target; noise objects are added only with `rng`."""
        if record.size is None:
            raise ValueError(f"record {record.id} has no size; `check` refuses it")
        found, wanted = self.found(record), self.wanted(record, query)
        chosen = [wanted[place] for place in arranged([found[place] for place in wanted], self.options, rng)]
        boxes, codes = [found[place] for place in chosen], self._codes(record, found, chosen)
        if not query.labels:
            one = [replace(box, label=UNNAMED) for box in boxes[:1]]
            text = "".join(span.text for span in box_spans(one, record.size, codes)).removesuffix(f" {UNNAMED}")
            return ((Span(text),) if text else (),)
        if rng is None:
            return (box_spans(boxes, record.size, codes),)
        noisy = self.with_noise(boxes, record.size, rng)
        # No loss on those of noise; codes of real masks look like what the model itself will have written.
        codes = [
            codes[source] if source >= 0 else rng.integers(0, CODES, SEGMENTS).tolist() for source in noisy.sources
        ]
        shown = noisy.shown(boxes, query.labels, rng)
        return (box_spans(noisy.boxes, record.size, codes, shown, self.options.mask_weight),)

    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Reads the masks of all answers.

        Invalid is an object without exactly sixteen codes, one whose box has no area, one whose label was not asked
        for, and what follows the first object of a referring expression.
        """
        sightings: list[Sighting] = []
        invalid = 0
        for query, output in answers:
            accepted, wrong = self.accepted(query, decode_boxes(output.text, SEGMENTS, named=bool(query.labels)))
            invalid += wrong
            if not query.labels:
                invalid += len(accepted[1:])
                accepted = [replace(item, label=UNNAMED) for item in accepted[:1]]
            sightings += self.sightings(query, output, accepted)
        if record.size is None:
            return read_answers(record, answers, invalid + len(sightings), ())
        whole = [one for one in sightings if _has_area(one.box)]
        invalid += len(sightings) - len(whole)
        boxes, masks = self._masks(self.shown(whole, answers), record.size)
        return read_answers(record, answers, invalid, boxes, masks)

    def metric(self) -> "Metric":
        """Returns an empty metric over the classes."""
        from mmtune.metrics.segmentation import SegmentationMetric

        return SegmentationMetric(self.classes)

    def grammar(self, query: Query, tokenizer: "Tokenizer") -> "Automaton | None":
        """Returns the grammar of objects with the query's labels; of one without a label for an expression."""
        from mmtune.codecs.grammar import unnamed_grammar

        return super().grammar(query, tokenizer) if query.labels else unnamed_grammar(tokenizer, SEGMENTS)

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores COCO mask results, or predictions of mmtune, against the truth of any reader."""
        from mmtune.metrics.mask_results import score_segmentation

        return score_segmentation(truth, predictions, form, log, prepared=self.prepared)

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns the picture with the masks, a colour for each class."""
        from mmtune.reports.mask_overlay import draw_masks

        return draw_masks(image, prediction.boxes, prediction.masks, self.classes)

    def as_json(self, prediction: Prediction) -> Mapping[str, Any]:
        """Returns boxes in pixels of the original picture, and masks with the same boxes as COCO's run lengths."""
        boxes = box_items(prediction.boxes)
        runs = [{"size": list(mask.size), "counts": mask.counts.decode()} for mask in prediction.masks]
        return {"boxes": boxes, "masks": [box | {"rle": rle} for box, rle in zip(boxes, runs, strict=True)]}

    def _expression(self, record: Record) -> str | None:
        """Returns the record's prefix where it is a referring expression."""
        if record.prefix is None:
            return None
        named = any(label_problem(label) is None for label in asked_classes(record.prefix))
        if self.options.prompt != "referring" and (named or names_all_classes(record.prefix)):
            return None
        return record.prefix

    def _codes(self, record: Record, found: Sequence[Box], chosen: Sequence[int]) -> list[list[int]]:
        """Returns the sixteen codes of each of the chosen objects."""
        if told := _told(record):
            return [list(told[place].segs) for place in chosen]
        masks = [mask for mask in record.masks if not mask.crowd]
        known = {place: codes for place in chosen if (codes := self._known.get(masks[place])) is not None}
        new = [place for place in chosen if place not in known]
        if new:
            crops = [crop_mask(mask_pixels(masks[place]), _edges(found[place])) for place in new]
            known.update(zip(new, self.codec.encode(np.stack(crops)).tolist(), strict=True))
            if len(self._known) < _REMEMBERED:
                self._known.update((masks[place], known[place]) for place in new)
        return [known[place] for place in chosen]

    def _masks(self, found: Sequence[Found], size: tuple[int, int]) -> tuple[list[Box], list[Mask]]:
        """Returns boxes and masks of objects; the mask is the mean of what its sightings' codes say."""
        codes = np.array([sighting.box.segs for one in found for sighting in one.sightings], int)
        decoded = iter(self.codec.decode(codes.reshape(-1, SEGMENTS)))
        boxes, masks = [], []
        for one in found:
            views = [upright(next(decoded), sighting.look.view) for sighting in one.sightings]
            box = Box(one.box.label, *from_bins(one.box.bins, size), score=one.score)
            part, corner = paste_part(np.mean(views, axis=0), _edges(box), size)
            boxes.append(box)
            masks.append(Mask(one.box.label, (size[1], size[0]), pasted_counts(part, corner, size), one.score))
        return boxes, masks


def _told(record: Record) -> list[DecodedBox]:
    """Returns the objects of the record's texts, whose codes need no encoding, as long as they are its boxes.

    Where the picture was cut or mirrored, texts are out of date and boxes are not.
    """
    if not record.texts or record.size is None:
        return []
    told = [item for item in decoded_texts(record).boxes if item.segs]
    same = [item.bins for item in told] == [to_bins(box, record.size) for box in record.boxes]
    return told if same else []


def _edges(box: Box) -> tuple[float, float, float, float]:
    return box.x0, box.y0, box.x1, box.y1


def _has_area(box: DecodedBox) -> bool:
    y0, x0, y1, x1 = box.bins
    return y0 < y1 and x0 < x1
