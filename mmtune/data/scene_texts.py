"""What can be said about a generated scene: captions, and questions with their answers."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmtune.data.scene_shapes import FEW, Shape
from mmtune.data.scenes import Scene
from mmtune.data.shape_kinds import COLOURS, KINDS, plural

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
# Two things stand clearly apart, or on one side, when at least this share of the picture lies between.
_APART = 0.1
_MOST_COUNTED = 10


@dataclass(frozen=True)
class Question:
    """A question about a scene and its one right answer; `kind` is a key of `QUESTIONS` or `EXTREMES`."""

    kind: str
    text: str
    answer: str


def written(scene: Scene) -> str:
    """Returns the words on the picture, from top to bottom, joined by spaces."""
    return " ".join(word.text for word in scene.words)


def captions(scene: Scene) -> tuple[str, ...]:
    """Returns five ways to describe a scene, the plainest first.

    Up to six shapes are named with their colours, from left to right; of more only the kinds, the most frequent first.
    """
    parts = _few(scene) if len(scene.shapes) <= FEW else _many(scene)
    phrases = [phrase for _, phrase in parts]
    things, turned = _join(phrases), _join(phrases[::-1])
    be = "is" if parts[0][0] == 1 else "are"
    texture, level = scene.background.texture, scene.background.level
    ground = f"a {texture} background" if level == "medium" else f"a {texture} {level} background"
    words = _join([word.text for word in scene.words])
    reading = {0: "", 1: f" with the word {words}", 2: f" with the words {words}"}[len(scene.words)]
    return (
        f"{things}{reading}",
        f"a picture of {things}{reading}",
        f"there {be} {things}{reading}",
        f"{things} on {ground}{reading}",
        f"{turned}{reading}" if len(phrases) > 1 else f"one picture with {things}{reading}",
    )


def inventory(scene: Scene) -> str:
    """Returns a scene as a list of counts, such as "2 x blue star + 1 x red circle", the most frequent first."""
    counts = Counter(shape.name for shape in scene.shapes)
    return " + ".join(f"{count} x {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item)))


def ask(scene: Scene, rng: np.random.Generator, kinds: Iterable[str] | None = None) -> Question | None:
    """Returns a question, its kind and its answer drawn so that answers come out balanced.

    Args:
        scene: What is asked about.
        rng: Source of the choice.
        kinds: Keys of `QUESTIONS` or `EXTREMES` to choose from; None: those of `QUESTIONS`.

    Returns:
        The question; None when the scene allows none of these kinds.
    """
    for name in rng.permutation(list(kinds or QUESTIONS)):
        candidates = _ALL[name](scene)
        if candidates:
            # First the answer, then the question: else "how many" is mostly one and "is there" mostly no.
            answers = sorted({answer for _, answer in candidates})
            answer = answers[rng.integers(len(answers))]
            texts = [text for text, its_answer in candidates if its_answer == answer]
            return Question(str(name), texts[rng.integers(len(texts))], answer)
    return None


def _few(scene: Scene) -> list[tuple[int, str]]:
    """Returns (count, phrase) of each colour and kind, by its leftmost shape."""
    ordered = sorted(scene.shapes, key=lambda shape: shape.centre)
    return [(count, _counted(count, name)) for name, count in Counter(shape.name for shape in ordered).items()]


def _many(scene: Scene) -> list[tuple[int, str]]:
    order = list(KINDS)
    counts = Counter(shape.kind for shape in scene.shapes)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], order.index(item[0])))
    return [(count, _counted(count, kind)) for kind, count in ranked]


def _counted(count: int, name: str) -> str:
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else 'many'} {plural(name)}"


def _join(phrases: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(phrases[:-1]), *phrases[-1:])))


Candidates = list[tuple[str, str]]


def _count(scene: Scene) -> Candidates:
    kinds = Counter(shape.kind for shape in scene.shapes)
    colours = Counter(shape.colour for shape in scene.shapes)
    found = [("how many shapes are there?", len(scene.shapes))]
    found += [(f"how many {plural(kind)} are there?", kinds[kind]) for kind in KINDS]
    found += [(f"how many {colour} shapes are there?", colours[colour]) for colour in COLOURS]
    return [(text, str(count)) for text, count in found if count <= _MOST_COUNTED]


def _colour(scene: Scene) -> Candidates:
    return [
        (text.format(shape.kind), shape.colour)
        for shape in _sole(scene.shapes, lambda s: s.kind)
        for text in ("what colour is the {}?", "what is the colour of the {}?")
    ]


def _shape(scene: Scene) -> Candidates:
    return [
        (text.format(shape.colour), shape.kind)
        for shape in _sole(scene.shapes, lambda s: s.colour)
        for text in ("what shape is {}?", "what is the {} shape?")
    ]


def _presence(scene: Scene) -> Candidates:
    """Asks for what is there, and for what shares its colour or its kind with something that is there."""
    names = {shape.name for shape in scene.shapes}
    kinds = {shape.kind for shape in scene.shapes}
    colours = {shape.colour for shape in scene.shapes}
    asked = [f"{colour} {kind}" for colour in COLOURS for kind in KINDS if colour in colours or kind in kinds]
    pairs = [(name, name in names) for name in asked]
    return [(f"is there {_counted(1, name)}?", "yes" if there else "no") for name, there in pairs]


def _side(scene: Scene) -> Candidates:
    """Asks left or right: of another shape, or of the middle of the picture."""
    halves = _halves(scene, 0, "is the {} on the left or on the right?", ("left", "right"))
    return _relations(scene, 0, "left or right of", ("left", "right")) + halves


def _height(scene: Scene) -> Candidates:
    """Asks above or below: of another shape, or of the middle of the picture."""
    halves = _halves(scene, 1, "is the {} above or below the middle?", ("above", "below"))
    return _relations(scene, 1, "above or below", ("above", "below")) + halves


def _halves(scene: Scene, axis: int, text: str, answers: tuple[str, str]) -> Candidates:
    """Compares the centres of shapes that are the only ones of their kind with the picture's along an axis."""
    aways = [(shape.kind, shape.centre[axis] - scene.size / 2) for shape in _sole(scene.shapes, lambda s: s.kind)]
    return [(text.format(kind), answers[away > 0]) for kind, away in aways if abs(away) > _APART * scene.size]


def _relations(scene: Scene, axis: int, choice: str, answers: tuple[str, str]) -> Candidates:
    """Compares the centres of shapes that are the only ones of their kind along an axis (0: across, 1: down)."""
    found = []
    for a, b in itertools.permutations(_sole(scene.shapes, lambda s: s.kind), 2):
        away = a.centre[axis] - b.centre[axis]
        if abs(away) > _APART * scene.size:
            found.append((f"is the {a.kind} {choice} the {b.kind}?", answers[away > 0]))
    return found


def _extreme(scene: Scene, words: tuple[str, str], measure: Callable[[Shape], float], gap: float) -> Candidates:
    """Asks for the shape with the least and the greatest measure, where it is clearly ahead of the next."""
    ranked = sorted(scene.shapes, key=measure)
    found = []
    for word, order in zip(words, (ranked, ranked[::-1]), strict=True):
        if len(order) > 1 and abs(measure(order[1]) - measure(order[0])) > gap:
            found.append((f"which shape is {word}?", order[0].kind))
    return found


def _across(scene: Scene) -> Candidates:
    words = ("furthest to the left", "furthest to the right")
    return _extreme(scene, words, lambda shape: shape.centre[0], _APART * scene.size)


def _down(scene: Scene) -> Candidates:
    return _extreme(scene, ("at the top", "at the bottom"), lambda shape: shape.centre[1], _APART * scene.size)


def _sole(shapes: Sequence[Shape], key: Callable[[Shape], str]) -> list[Shape]:
    counts = Counter(key(shape) for shape in shapes)
    return [shape for shape in shapes if counts[key(shape)] == 1]


QUESTIONS: dict[str, Callable[[Scene], Candidates]] = {
    "count": _count,
    "colour": _colour,
    "shape": _shape,
    "presence": _presence,
    "side": _side,
    "height": _height,
}

EXTREMES: dict[str, Callable[[Scene], Candidates]] = {"across": _across, "down": _down}
"""Questions that the embedded model was not taught, to show what adapting it does."""

_ALL = QUESTIONS | EXTREMES
