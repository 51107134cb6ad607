"""`shapes`: generated pictures of coloured shapes with words, for every task and without a download."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.data.dataset import FaultLog
from mmtune.data.generated import GeneratedRecords
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.scene_drawing import draw_scene
from mmtune.data.scene_shapes import MAX_OBJECTS, Shape
from mmtune.data.scene_texts import EXTREMES, QUESTIONS, ask, captions, inventory, written
from mmtune.data.scene_words import Writing
from mmtune.data.scenes import Scene, make_scene, scene_rng, word_count
from mmtune.data.shape_kinds import COLOURS, KINDS
from mmtune.errors import UsageError, unknown_name
from mmtune.records import Box, Question, Record

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ("train", "val", "test")
# VQA v2's custom: ten people answered each question.
ANSWERS = 10

_CLASSES: dict[str, tuple[str, ...]] = {
    "shape": tuple(KINDS),
    "colour": tuple(COLOURS),
    "both": tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS),
}


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """What stands after the question mark of `shapes?...`.

    Attributes:
        n: Number of pictures.
        seed: Another seed gives other pictures.
        size: Side of the square pictures in pixels, 64..2048. 224 is the input of the smallest published PaliGemma.
        max_objects: Most shapes in a picture, 1..25.
        labels: What boxes and masks are called by: shape ("circle"), colour ("red") or both ("red circle").
        captions: What captions are: "sentences", or an "inventory" such as "2 x blue star + 1 x red circle".
        questions: What is asked: the "usual", or for "extremes", such as which shape is at the top.
        writing: What words are: "words", or "plates" such as "KD-407".
    """

    n: int = 1000
    seed: int = 0
    size: int = 224
    max_objects: int = MAX_OBJECTS
    labels: str = "shape"
    captions: str = "sentences"
    questions: str = "usual"
    writing: Writing = "words"


_CHOICES = {
    "labels": tuple(_CLASSES),
    "captions": ("sentences", "inventory"),
    "questions": ("usual", "extremes"),
    "writing": ("words", "plates"),
}
_MOST = 10_000_000
_RANGES = {"n": (1, _MOST), "seed": (0, 2**31 - 1), "size": (64, 2048), "max_objects": (1, MAX_OBJECTS)}


def parse_options(options: dict[str, str]) -> ShapesOptions:
    """Returns the options of an address, checked.

    Raises:
        UsageError: For an unknown name, or a value that is no whole number or lies out of range.
    """
    known = [f.name for f in fields(ShapesOptions)]
    values: dict[str, int | str] = {}
    for name, text in options.items():
        if name not in known:
            raise UsageError(unknown_name("option of shapes", name, known))
        if name in _CHOICES:
            if text not in _CHOICES[name]:
                raise UsageError(unknown_name(f"value of {name}", text, _CHOICES[name]))
            values[name] = text
            continue
        low, high = _RANGES[name]
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise UsageError(f"option {name} of shapes: expected a whole number from {low} to {high}, got '{text}'")
        values[name] = number
    return ShapesOptions(**values)  # pyright: ignore[reportArgumentType]


_Texts = tuple[str | None, tuple[str, ...], Question | None]


@dataclass(frozen=True, slots=True)
class ScenePicture:
    """A picture that is drawn when it is opened; the arguments are those of `make_scene`."""

    seed: int
    index: int
    size: int
    max_objects: int
    writing: Writing = "words"

    @property
    def name(self) -> str:
        """Names the scene, not a file."""
        return f"shapes scene {self.seed}/{self.index}"

    def open(self) -> "Image.Image":
        """Returns the picture, RGB."""
        return draw_scene(make_scene(self.seed, self.index, self.size, self.max_objects, self.writing))


class Shapes(Reader):
    """Generated scenes, chosen by the address `shapes`, `shapes:test?n=200&seed=1` and the like."""

    name = "shapes"
    expects = "the word shapes, then :train, :val or :test, then options such as ?n=2000&seed=0&labels=colour"

    def claims(self, path: Path) -> bool:
        """Never: scenes are no files."""
        del path
        return False

    def splits(self, path: Path) -> tuple[str, ...]:
        """Returns train, val and test: disjoint streams of scenes, each as long as is asked for."""
        del path
        return SPLITS

    def read(self, source: Source, log: FaultLog) -> Content:
        """Returns the scenes, each laid out when it is asked for and drawn when its picture is opened.

        For the tasks ocr and vqa another scene stands in for one without words, or that allows no question.

        Raises:
            UsageError: For an unknown split or option.
        """
        del log
        options = parse_options(source.options)
        split = source.split or SPLITS[0]
        if split not in SPLITS:
            raise UsageError(unknown_name("split of shapes", split, SPLITS))
        name = f"{split}-{options.seed}-{{:06d}}".format
        make = partial(_record, name=name, split=split, options=options, source=source)
        return Content(GeneratedRecords(make, name, range(options.n)), _CLASSES[options.labels])


def _record(place: int, name: Callable[[int], str], split: str, options: ShapesOptions, source: Source) -> Record:
    stream = options.seed * len(SPLITS) + SPLITS.index(split)
    scene, (prefix, texts, question) = _usable_scene(place, stream, options, source.task)
    return Record(
        id=name(place),
        picture=ScenePicture(scene.seed, scene.index, scene.size, options.max_objects, options.writing),
        size=(scene.size, scene.size),
        prefix=prefix,
        texts=texts,
        boxes=tuple(_box(shape, options.labels) for shape in scene.shapes),
        masks=tuple(shape.coco_mask(_label(shape, options.labels)) for shape in scene.shapes)
        if source.need_masks
        else (),
        image_id=scene.index,
        source=f"shapes:{split}?seed={options.seed}",
        question=question,
    )


def _usable_scene(place: int, stream: int, options: ShapesOptions, task: str | None) -> tuple[Scene, _Texts]:
    """Returns the scene of a place with its texts: the first of its own endless row of scenes that the task can use."""
    for index in count(place, _MOST):
        if task == "ocr" and not word_count(stream, index):
            continue
        scene = make_scene(stream, index, options.size, options.max_objects, options.writing)
        texts = _texts(scene, task, options)
        if task != "vqa" or texts[2] is not None:
            return scene, texts
    raise AssertionError("unreachable: scenes are endless")


def _texts(scene: Scene, task: str | None, options: ShapesOptions) -> _Texts:
    """Returns the prompt, the texts and the kind of question that a task wants, empty where it wants none."""
    if task == "captioning":
        return None, (inventory(scene),) if options.captions == "inventory" else captions(scene), None
    if task == "ocr":
        return None, (written(scene),), None
    kinds = EXTREMES if options.questions == "extremes" else QUESTIONS
    if task == "vqa" and (question := ask(scene, scene_rng(scene.seed, scene.index, 2), kinds)):
        return question.text, (question.answer,) * ANSWERS, Question(kind=question.kind)
    return None, (), None


def _label(shape: Shape, labels: str) -> str:
    return {"shape": shape.kind, "colour": shape.colour, "both": shape.name}[labels]


def _box(shape: Shape, labels: str) -> Box:
    x0, y0, x1, y1 = (float(v) for v in shape.box)
    return Box(_label(shape, labels), x0, y0, x1, y1, area=float(shape.mask.sum()))
