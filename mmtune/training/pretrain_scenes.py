"""What the embedded model is trained on: generated scenes, each with long prompts and twice as many short ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mmtune.codecs.boxes import LOCATIONS
from mmtune.data.batch import Row
from mmtune.data.dense import DenseTargets, Objects, dense_targets
from mmtune.data.scene_drawing import draw_scene
from mmtune.data.scene_shapes import MAX_OBJECTS, Shape
from mmtune.data.scene_texts import QUESTIONS, ask, captions, written
from mmtune.data.scene_words import letter_boxes
from mmtune.data.scenes import Scene, make_scene, scene_rng
from mmtune.data.shape_kinds import COLOURS, KINDS
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Box, Query, Record
from mmtune.registry import task_class
from mmtune.task import Task
from mmtune.training.examples import tokenise

# No address reaches this stream of scenes: `shapes` has streams below three times 2^31.
SEED = 2**40
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
COUNTS = (1 + len(KINDS), 1 + len(COLOURS), 1 + len(CHARACTERS))
"""Labels of the dense head's three maps: kinds, colours and characters, each with the ground."""

_KINDS = tuple(KINDS)
_NAMES = {name: number for number, name in enumerate(KINDS, start=1)}
_COLOUR_NUMBERS = {name: number for number, name in enumerate(COLOURS, start=1)}
_CHARACTER_NUMBERS = {char: number for number, char in enumerate(CHARACTERS, start=1)}
# Where and how objects stand to each other is the hardest to learn, so it is asked most.
_QUESTION_SHARES = {"count": 0.16, "colour": 0.1, "shape": 0.1, "presence": 0.18, "side": 0.24, "height": 0.22}
_CAPTION_SHARES = (0.5, 0.125, 0.125, 0.125, 0.125)


class Sample(NamedTuple):
    """One picture with its targets.

    Attributes:
        pixels: (size, size, 3) uint8.
        dense: Targets of the temporary head.
        long: Detection and segmentation; none in the lesson of places.
        short: Rows of words: texts on the picture, questions, captions.
    """

    pixels: np.ndarray
    dense: DenseTargets
    long: tuple[Row, ...]
    short: tuple[Row, ...]


@dataclass(frozen=True)
class SampleMaker:
    """Makes the sample of an index: always the same one.

    Args:
        tokenizer: The vocabulary.
        size: Side of the model's pictures in pixels.
        patch: Side of a patch.
        masks: Most objects of a segmentation; 0: there is none among the long prompts.
        objects: Most objects of a scene.
        places: Whether the lesson is where things stand: questions of that before all, and no long prompts.
        rounds: Long prompts, each with two short ones.
    """

    tokenizer: Tokenizer
    size: int
    patch: int
    masks: int = 0
    objects: int = MAX_OBJECTS
    places: bool = False
    rounds: int = 1

    def __call__(self, index: int) -> Sample:
        """Returns the sample."""
        scene = make_scene(SEED, index, self.size, self.objects)
        rng = scene_rng(SEED, index, 3)
        dense = dense_targets(_objects(scene), self.size // self.patch, rng)
        pixels = np.asarray(draw_scene(scene))
        if self.places:
            return Sample(pixels, dense, (), (*self._places(scene, rng), self._short(scene, rng)[0]))
        rounds = [(self._long(scene, rng), self._short(scene, rng)) for _ in range(self.rounds)]
        return Sample(
            pixels, dense, tuple(long for long, _ in rounds), tuple(row for _, pair in rounds for row in pair)
        )

    def _long(self, scene: Scene, rng: np.random.Generator) -> Row:
        classes = _asked(scene, rng)
        shapes = [shape for shape in scene.shapes if shape.kind in classes]
        if self.masks and len(shapes) <= self.masks and rng.random() < 0.4:
            task, verb = _task("segmentation", noise_boxes=0, order=_order(rng)), "segment"
        else:
            task, verb = _task("detection", **_detection_options(len(shapes), rng)), "detect"
        record = _record(scene, shapes, with_masks=verb == "segment")
        query = Query(f"{verb} {' ; '.join(classes)}", classes)
        tokens = tokenise(task.targets(record, query, rng)[0], self.tokenizer)
        ids, labels = self._between_pixels([tokens.ids, tokens.labels], rng)
        return Row(self.tokenizer.prompt(query.prompt), [ids], [tokens.weights], labels=[labels])

    def _between_pixels(self, ids: Sequence[Sequence[int]], rng: np.random.Generator) -> list[list[int]]:
        """Returns what is read and what is to be predicted with its edges moved by up to half a pixel.

        Edges in whole pixels would only ever show the decoder every ninth location, and it would not know how to go on
        from its own answers, which lie in between.
        """
        first = self.tokenizer.loc
        assert first is not None
        moves = np.rint(rng.uniform(-0.5, 0.5, len(ids[0])) * LOCATIONS / self.size).astype(int)
        given = np.array(ids)
        is_location = (given >= first) & (given < first + LOCATIONS)
        return np.where(is_location, np.clip(given + moves, first, first + LOCATIONS - 1), given).tolist()

    def _short(self, scene: Scene, rng: np.random.Generator) -> tuple[Row, Row]:
        first = self._reading(scene) if scene.words and rng.random() < 0.8 else None
        if first is None:
            first = self._question(scene, rng) if rng.random() < 0.5 else self._caption(scene, rng)
        second = self._question(scene, rng) if rng.random() < 0.6 else self._caption(scene, rng)
        return first, second

    def _places(self, scene: Scene, rng: np.random.Generator) -> tuple[Row, ...]:
        kinds = (("height",), ("height",), ("side",))
        questions = [ask(scene, rng, chosen) for chosen in kinds]
        return tuple(
            self._row(f"answer en {question.text}", question.answer) if question else self._question(scene, rng)
            for question in questions
        )

    def _reading(self, scene: Scene) -> Row:
        return self._row("ocr", written(scene))

    def _question(self, scene: Scene, rng: np.random.Generator) -> Row:
        kinds, shares = tuple(QUESTIONS), np.array([_QUESTION_SHARES[kind] for kind in QUESTIONS])
        for kind in rng.choice(kinds, len(kinds), replace=False, p=shares / shares.sum()):
            if question := ask(scene, rng, (str(kind),)):
                return self._row(f"answer en {question.text}", question.answer)
        return self._caption(scene, rng)

    def _caption(self, scene: Scene, rng: np.random.Generator) -> Row:
        texts = captions(scene)
        style = rng.random()
        if style < 0.15:
            return self._row("cap en", texts[0])
        if style < 0.3:
            return self._row("describe en", texts[3])
        return self._row("caption en", texts[rng.choice(len(texts), p=_CAPTION_SHARES)])

    def _row(self, prompt: str, answer: str) -> Row:
        ids = [*self.tokenizer.encode(answer), self.tokenizer.eos]
        return Row(self.tokenizer.prompt(prompt), [ids], [[1.0] * len(ids)])


def _asked(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """Returns the classes to ask for: mostly all of them, else a few, at least one of which is there mostly."""
    if rng.random() < 0.6:
        return _KINDS
    there = sorted({shape.kind for shape in scene.shapes})
    chosen = {str(name) for name in rng.choice(there, min(len(there), int(rng.integers(1, 4))), replace=False)}
    if rng.random() < 0.1:
        chosen = set()
    chosen |= {str(name) for name in rng.choice(_KINDS, int(rng.integers(0 if chosen else 1, 4)), replace=False)}
    return tuple(str(name) for name in rng.permutation(sorted(chosen)))


def _order(rng: np.random.Generator) -> str:
    return "raster" if rng.random() < 0.75 else "random"


def _detection_options(count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Returns how the boxes are listed: they end, or are filled up with noise to a few or to the most."""
    if rng.random() < 0.7:
        return {"noise_boxes": 0, "order": _order(rng)}
    few = count <= 8 and rng.random() < 0.75
    return {"noise_boxes": 10 if few else 25, "order": _order(rng)}


_TASKS: dict[tuple, Task] = {}


def _task(name: str, **options: Any) -> Task:
    key = (name, *sorted(options.items()))
    if key not in _TASKS:
        task = task_class(name)
        _TASKS[key] = task(_KINDS, task.Options(**options))
    return _TASKS[key]


def _record(scene: Scene, shapes: Sequence[Shape], with_masks: bool) -> Record:
    boxes = tuple(Box(shape.kind, *shape.box) for shape in shapes)
    masks = tuple(shape.coco_mask(shape.kind) for shape in shapes) if with_masks else ()
    return Record(str(scene.index), size=(scene.size, scene.size), boxes=boxes, masks=masks)


def _objects(scene: Scene) -> tuple[Objects, Objects, Objects]:
    """Returns the objects of the three label maps."""
    edges = _edges([shape.box for shape in scene.shapes], scene.size)
    kinds = np.array([_NAMES[shape.kind] for shape in scene.shapes])
    colours = np.array([_COLOUR_NUMBERS[shape.colour] for shape in scene.shapes])
    letters = [(char, box) for word in scene.words for char, box in zip(word.text, letter_boxes(word), strict=True)]
    characters = np.array([_CHARACTER_NUMBERS[char] for char, _ in letters], int)
    return (
        Objects(edges, kinds),
        Objects(edges, colours),
        Objects(_edges([box for _, box in letters], scene.size), characters),
    )


def _edges(boxes: Sequence[Sequence[float]], size: int) -> np.ndarray:
    """Returns boxes of left, top, right, bottom in pixels as (n, 4) y0 x0 y1 x1 in 0..1."""
    return np.array(boxes, float).reshape(-1, 4)[:, [1, 0, 3, 2]] / size
