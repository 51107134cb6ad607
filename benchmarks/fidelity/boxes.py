"""Pictures and boxes: where things are in the picture that the model sees, and in the text that it writes."""

from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.fidelity.finding import Finding, versioned

_ROW, _BOXES = 64, 12


def cropped_picture() -> Finding:
    """KerasHub's image converter cuts a picture to a square; boxes are fractions of the whole picture."""
    import keras_hub

    from mmtune.data.pixels import to_square

    side, left = 224, 0.3
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[:, round(left * 400) : round(0.6 * 400)] = 255

    def edge(seen: Any) -> float:
        row = np.asarray(seen, np.float64)[side // 2, :, 0]
        return float(np.argmax(row > row.max() / 2)) / side

    convert: Any = keras_hub.layers.PaliGemmaImageConverter(image_size=(side, side))
    return Finding(
        "A bar begins at three tenths of the width of a picture of 400 x 200: where does it begin in the square that "
        "the model sees?",
        "KerasHub",
        version("keras-hub"),
        edge(convert(picture[None])[0]),
        "the bar as it was drawn",
        left,
        edge(to_square(picture, side)),
        tolerance=1 / side,
        places=2,
    )


def cut_boxes() -> Finding:
    """KerasHub's preprocessor shortens prompt and answer in turns until they fit, and says nothing."""
    from mmtune.codecs.boxes import decode_boxes, encode_boxes
    from mmtune.data.dataset import FaultLog
    from mmtune.models.tiny import tiny_tokenizer
    from mmtune.records import Box, Record
    from mmtune.tasks.detection import Detection
    from mmtune.training.examples import list_examples, tokenise

    tokenizer, size = tiny_tokenizer(), (400, 400)
    boxes = tuple(Box("cat", 30.0 * i, 10.0, 30.0 * i + 20, 200.0) for i in range(_BOXES))
    text = encode_boxes(boxes, size)

    def lost(ids: list[int]) -> int:
        return _BOXES - len(decode_boxes(tokenizer.decode(ids)).boxes)

    task, log = Detection(classes=("cat",)), FaultLog()
    examples = list_examples([Record("r", size=size, boxes=boxes)], task, tokenizer, log, max_tokens=_ROW)
    taught = [tokenise(task.targets(e.record, e.query)[0], tokenizer).ids for e in examples]
    return Finding(
        f"An answer of {_BOXES} boxes does not fit into a row of {_ROW} tokens: how many are lost without a word?",
        "KerasHub",
        version("keras-hub"),
        lost(_kerashub_answer(text, _ROW)),
        f"{versioned('keras-hub', 'KerasHub')}, a row that is long enough",
        lost(_kerashub_answer(text, 4 * _ROW)),
        0 if log.faults else lost(taught[0]),
    )


def box_edges() -> Finding:
    """Location numbers are divided by 1024; the last of the 1024 numbers, 1023, stands for the whole width."""
    from mmtune.codecs.boxes import decode_boxes, encode_boxes, from_bins
    from mmtune.records import Box

    size = (1000, 800)
    text = encode_boxes([Box("cat", 100, 100, 1000, 800)], size)
    return Finding(
        "A box ends at the right border of a picture of 1000 pixels: where does it end after the way to text and back?",
        "supervision",
        version("supervision"),
        float(_supervision(text, size).xyxy[0, 2]),
        "the box as it was drawn",
        float(size[0]),
        from_bins(decode_boxes(text).boxes[0].bins, size)[2],
        tolerance=1e-6,
        places=2,
    )


def box_labels() -> Finding:
    """A label is read up to the first character that is no letter, digit, space, underscore or hyphen."""
    from mmtune.codecs.boxes import decode_boxes, encode_boxes
    from mmtune.records import Box

    labels = ["dog", "t-shirt", "traffic light (red)", "driver's seat", "No. 5", "AC/DC sign"]
    size = (1000, 1000)
    text = encode_boxes([Box(label, 10.0, 10.0 * i, 500.0, 600.0) for i, label in enumerate(labels)], size)

    def right(found: list[str]) -> int:
        return sum(label == wanted for label, wanted in zip(found, labels, strict=True))

    return Finding(
        f"Of {len(labels)} labels, some of them with punctuation, how many come back from text as they were?",
        "supervision",
        version("supervision"),
        right(_supervision(text, size).data["class_name"].tolist()),
        "the labels as they were written",
        len(labels),
        right([box.label for box in decode_boxes(text).boxes]),
    )


def _kerashub_answer(text: str, length: int) -> list[int]:
    """Returns the tokens of an answer that KerasHub's preprocessor puts into a row."""
    import keras_hub

    from mmtune.models.tiny import tiny_tokenizer

    cutter: Any = keras_hub.models.PaliGemmaTokenizer(proto=tiny_tokenizer().proto)
    preprocess: Any = keras_hub.models.PaliGemmaCausalLMPreprocessor(tokenizer=cutter, sequence_length=length)
    asked = {"images": np.zeros((1, 120, 120, 3)), "prompts": ["detect cat\n"], "responses": [text]}
    _, labels, weights = preprocess(asked)
    return np.asarray(labels)[0][np.asarray(weights)[0].astype(bool)].tolist()


def _supervision(text: str, size: tuple[int, int]) -> Any:
    import supervision

    return supervision.Detections.from_vlm(supervision.VLM.PALIGEMMA, text, resolution_wh=size)
