"""Object detection: `detect cat ; dog` -> `<loc0000><loc0000><loc1023><loc0512> cat ; <loc...> dog`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mmtune.codecs.boxes import box_spans, decode_boxes, from_bins
from mmtune.object_task import ObjectOptions, ObjectTask, arranged, box_items, read_answers
from mmtune.records import Box, Output, Prediction, Query, Record, Target
from mmtune.sightings import Sighting

if TYPE_CHECKING:
    from PIL import Image

    from mmtune.data.dataset import FaultLog
    from mmtune.metrics.base import Metric


@final
@dataclass(frozen=True, kw_only=True)
class DetectionOptions(ObjectOptions):
    """The options of detection: those of all tasks that list objects."""


@final
class Detection(ObjectTask):
    """Boxes with labels and scores."""

    name: ClassVar[str] = "detection"
    verb: ClassVar[str] = "detect"
    Options: ClassVar[type] = DetectionOptions
    options: DetectionOptions

    def found(self, record: Record) -> Sequence[Box]:
        """Returns the boxes that are neither crowd nor difficult."""
        return [box for box in record.boxes if not box.crowd and not box.difficult]

    def targets(self, record: Record, query: Query, rng: np.random.Generator | None = None) -> Sequence[Target]:
        """Returns one target; noise boxes are added only with `rng`."""
        if record.size is None:
            raise ValueError(f"record {record.id} has no size; `check` refuses it")
        found = self.found(record)
        wanted = [found[place] for place in self.wanted(record, query)]
        boxes = [wanted[place] for place in arranged(wanted, self.options, rng)]
        if rng is None:
            return (box_spans(boxes, record.size),)
        noisy = self.with_noise(boxes, record.size, rng)
        return (box_spans(noisy.boxes, record.size, shown=noisy.shown(boxes, query.labels, rng)),)

    def parse(self, record: Record, answers: Sequence[tuple[Query, Output]]) -> Prediction:
        """Reads the boxes of all answers. A label that was not asked for is invalid, as is every box without a size."""
        sightings: list[Sighting] = []
        invalid = 0
        for query, output in answers:
            accepted, wrong = self.accepted(query, decode_boxes(output.text))
            invalid += wrong + (len(accepted) if record.size is None else 0)
            sightings += self.sightings(query, output, accepted)
        boxes = [
            Box(found.box.label, *from_bins(found.box.bins, record.size), score=found.score)
            for found in self.shown(sightings, answers)
            if record.size is not None
        ]
        return read_answers(record, answers, invalid, boxes)

    def metric(self) -> "Metric":
        """Returns an empty COCO metric over the classes."""
        from mmtune.metrics.detection import DetectionMetric

        return DetectionMetric(self.classes)

    def score_files(self, truth: str, predictions: Path, form: str | None, log: "FaultLog") -> dict[str, Any]:
        """Scores COCO results, and the other public forms, against the truth of any reader."""
        from mmtune.metrics.results import score_detection

        return score_detection(truth, predictions, form, log)

    def draw(self, image: "Image.Image", prediction: Prediction) -> "Image.Image":
        """Returns the picture with the boxes, a colour for each class."""
        from mmtune.reports.overlay import draw_boxes

        return draw_boxes(image, prediction.boxes, self.classes)

    def as_json(self, prediction: Prediction) -> Mapping[str, Any]:
        """Returns the boxes as [x0, y0, x1, y1] in pixels of the original picture."""
        return {"boxes": box_items(prediction.boxes)}
