"""Makes the embedded model's vocabulary: `python -m mmtune.models.tiny_vocabulary` writes it into the package.

A SentencePiece byte-pair vocabulary of 1,024 text pieces with Gemma's conventions (pad 0, eos 1, bos 2, unk 3, byte
fall-back, no normalisation, no space put before the text, the newline a piece of its own), then PaliGemma's 1,024
location and 128 segmentation tokens. Trained on sentences made from word lists, so the same file comes out each time.
"""

import io
import itertools
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.codecs.boxes import LOCATIONS, SEGMENT_CODES
from mmtune.data.shape_kinds import COLOURS, KINDS, plural
from mmtune.data.word_list import WORDS
from mmtune.files import atomic

TEXT_PIECES = 1024
# Gemma's spare pieces; the first labels noise boxes in detection targets.
UNUSED = tuple(f"<unused{i}>" for i in range(4))
FILE = Path(__file__).parents[1] / "assets" / "tiny_tokenizer.model"

# Class names of COCO and Pascal VOC (where they differ), and of small data sets that are often tried first.
_CLASSES = tuple(
    name.strip()
    for name in """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush, aeroplane, motorbike, sofa, diningtable, pottedplant, tvmonitor, cell, platelet,
    nut, date, fig, hazelnut, face, hand, helmet, license plate, pedestrian, traffic sign, ship, plane, building, tree
    """.replace("\n", " ").split(",")
)

_PROMPTS = ("detect {things}", "segment {things}", "caption en", "cap en", "describe en", "ocr", "question en {word}")
_QUESTIONS = (
    "answer en how many shapes are there?",
    "answer en how many {kinds} are there?",
    "answer en how many {colour} shapes are there?",
    "answer en what colour is the {kind}?",
    "answer en what is the colour of the {kind}?",
    "answer en what color is the {thing}?",
    "answer en what shape is {colour}?",
    "answer en what is the {colour} shape?",
    "answer en is there a {colour} {kind}?",
    "answer en is there an {word}?",
    "answer en is the {kind} left or right of the {kind}?",
    "answer en is the {kind} above or below the {kind}?",
    "answer en is the {kind} on the left or on the right?",
    "answer en where is the {thing}? who, when, why, which, this, that, these, do, does, can you see it?",
)
_CAPTIONS = (
    "a {colour} {kind}, two {colour} {kinds} and an {colour} {kind}",
    "three {colour} {kinds}, four {kinds}, five {kinds}, six {colour} {kinds} and many {kinds}",
    "a picture of a {colour} {kind} with the word",
    "there is a {colour} {kind} and there are two {kinds} with the words",
    "a {colour} {kind} on a {texture} {level} background",
    "one picture with a {thing} and a {thing} in front of the {word}",
    "a man and a woman are standing next to a {thing}, people sitting at it, his, her, their, no one was not there",
)
_ANSWERS = (
    "yes",
    "no",
    "left",
    "right",
    "above",
    "below",
    "none",
    "top",
    "bottom",
    "an",
    "two",
    "three",
    "many",
    "one",
)
_TEXTURES = ("plain", "shaded", "striped", "checked", "cloudy", "spotted")
_LEVELS = ("dark", "light", "medium")


def sentences() -> Iterator[str]:
    """Yields the text that the pieces are learned from, always the same.

    It holds no capitals beyond single ones: words in capitals, as on signs, stay spelled letter by letter, which is
    how a small model learns to read.
    """
    rng = np.random.default_rng(0)
    templates = (_PROMPTS * 4 + _QUESTIONS * 2 + _CAPTIONS * 3) * 24
    for template in templates:
        yield _fill(template, rng)
    # Answers and captions begin without a space, which makes other pieces than the same words within a sentence.
    yield from (*KINDS, *COLOURS, *_ANSWERS) * 60
    yield from (" " + " ".join(_ANSWERS),) * 60
    for word, name in itertools.zip_longest(WORDS * 4, _CLASSES * 4, fillvalue=""):
        yield f"the {word} {name} {word}"


def _fill(template: str, rng: np.random.Generator) -> str:
    """Puts words for the names in braces, another one for each."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if name == "things":
            parts.append(" ; ".join(_pick(_CLASSES + tuple(KINDS) * 3, rng) for _ in range(rng.integers(1, 6))))
        elif name:
            parts.append(_pick(_NAMES[name], rng))
    return "".join(parts)


_NAMES: dict[str, Sequence[str]] = {
    "kind": tuple(KINDS),
    "kinds": tuple(plural(kind) for kind in KINDS),
    "colour": tuple(COLOURS),
    "thing": _CLASSES,
    "word": WORDS,
    "texture": _TEXTURES,
    "level": _LEVELS,
}


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def train_pieces() -> bytes:
    """Returns the serialised SentencePiece model of the 1,024 text pieces."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(),
        model_writer=written,
        model_type="bpe",
        vocab_size=TEXT_PIECES,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        user_defined_symbols=["\n", *UNUSED],
        # Named as in Gemma, which is what KerasHub's tokenizer looks for.
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def add_control_tokens(proto: bytes) -> bytes:
    """Returns a SentencePiece model with `<loc0000>`..`<loc1023>` and `<seg000>`..`<seg127>` appended to its pieces."""
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    model = messages.ModelProto.FromString(proto)
    names = [f"<loc{i:04d}>" for i in range(LOCATIONS)] + [f"<seg{i:03d}>" for i in range(SEGMENT_CODES)]
    for name in names:
        model.pieces.add(piece=name, score=0.0, type=messages.ModelProto.SentencePiece.USER_DEFINED)
    return model.SerializeToString(deterministic=True)


def build_vocabulary() -> bytes:
    """Returns the whole vocabulary of 2,176 pieces as a serialised SentencePiece model."""
    return add_control_tokens(train_pieces())


if __name__ == "__main__":
    with atomic(FILE) as temporary:
        temporary.write_bytes(build_vocabulary())
    print(f"wrote {FILE}")
