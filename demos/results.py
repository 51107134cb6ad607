"""What is shown of an answer: the drawn picture, its text with the confidence of each token, and forms to copy."""

import hashlib
import html
import io
import json
import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mmtune.files import atomic
from mmtune.predicting import Answer
from mmtune.records import Prediction

from . import FILES

if TYPE_CHECKING:
    from PIL import Image

FORMS = ("JSON", "COCO", "Text")
"""Forms that an answer can be copied in."""

_LEVELS = (0.3, 0.6, 0.8, 0.95)
"""Probabilities at which the shade of a token changes."""

_MOST_SHADED = 600


@dataclass(frozen=True)
class Shown:
    """One model's answer on the page.

    Attributes:
        model: Its name.
        answer: The whole or a part of it.
        tokens: Tokens written so far.
        seconds: Since the question was asked.
        done: Whether it is whole.
    """

    model: str
    answer: Answer
    tokens: int
    seconds: float
    done: bool

    @property
    def sees(self) -> bool:
        """Whether there is a picture to draw on."""
        return self.answer.record.picture is not None

    def above(self, threshold: float) -> Answer:
        """Returns the answer without boxes and masks of a lower score."""
        prediction = self.answer.prediction
        boxes = tuple(box for box in prediction.boxes if (1.0 if box.score is None else box.score) >= threshold)
        masks = tuple(mask for mask in prediction.masks if (1.0 if mask.score is None else mask.score) >= threshold)
        return replace(self.answer, prediction=replace(prediction, boxes=boxes, masks=masks))

    def drawn(self, threshold: float = 0.0) -> "Image.Image | None":
        """Returns the picture with what scores at least the threshold, None for a task without pictures."""
        return self.above(threshold).draw() if self.sees else None

    def saved(self, threshold: float = 0.0) -> str | None:
        """Returns the PNG file of `drawn`, which the framework serves as it is.

        It is named by its content and written once: a file that is being served is never written again, as the
        framework does with pictures that it is given in memory.
        """
        image = self.drawn(threshold)
        if image is None:
            return None
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=1)
        file = FILES / hashlib.sha256(out.getbuffer()).hexdigest() / "answer.png"
        if file.is_file():
            os.utime(file)  # files are removed by their age
        else:
            with atomic(file) as temporary:
                temporary.write_bytes(out.getbuffer())
        return str(file)

    def copied(self, form: str, threshold: float = 0.0) -> Any:
        """Returns the answer in one of `FORMS`: a text, or values to be written as JSON."""
        answer = self.above(threshold)
        if form == "JSON":
            return {"model": self.model, **answer.as_json()}
        return as_coco(answer) if form == "COCO" else as_text(answer)


def copied_text(shown: tuple[Shown, ...], form: str, threshold: float = 0.0) -> str:
    """Returns all answers in one of `FORMS`, ready to be copied; those of several models by their names."""
    each = [one.copied(form, threshold) for one in shown]
    if form == "Text":
        return each[0] if len(each) == 1 else "\n\n".join(f"{s.model}:\n{t}" for s, t in zip(shown, each, strict=True))
    if form == "COCO":
        value = each[0] if len(each) == 1 else {s.model: v for s, v in zip(shown, each, strict=True)}
    else:
        value = each
    return json.dumps(value, indent=1, ensure_ascii=False) if each else ""


def as_text(answer: Answer) -> str:
    """Returns one line an object, or the text."""
    if not answer.boxes:
        return answer.text
    return "\n".join(
        f"{box.label} {1.0 if box.score is None else box.score:.3f} "
        f"({box.x0:.1f}, {box.y0:.1f}) to ({box.x1:.1f}, {box.y1:.1f})"
        for box in answer.boxes
    )


def as_coco(answer: Answer) -> dict[str, Any]:
    """Returns a COCO data set of one picture: annotations with [x, y, width, height], scores and run lengths."""
    prediction, size = answer.prediction, answer.record.size or (0, 0)
    labels = list(dict.fromkeys(box.label for box in prediction.boxes))
    annotations: list[dict[str, Any]] = []
    for place, box in enumerate(prediction.boxes):
        item: dict[str, Any] = {
            "id": place + 1,
            "image_id": 1,
            "category_id": labels.index(box.label) + 1,
            "bbox": [box.x0, box.y0, box.width, box.height],
            "area": box.width * box.height,
            "iscrowd": 0,
            "score": box.score,
        }
        if place < len(prediction.masks):
            mask = prediction.masks[place]
            item["segmentation"] = {"size": list(mask.size), "counts": mask.counts.decode()}
        annotations.append(item)
    if not labels:
        annotations = [{"id": 1, "image_id": 1, "caption": answer.text}]
    return {
        "images": [{"id": 1, "width": size[0], "height": size[1]}],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, start=1)],
    }


def tokens_html(prediction: Prediction) -> str:
    """Returns the text token by token, shaded by confidence; every character of the model's is escaped.

    Locations are not shaded: beside each stand others that are as good, so that none of them is likely by itself.
    """
    pieces = []
    for text, logprob in list(prediction.tokens)[:_MOST_SHADED]:
        probability = math.exp(min(logprob, 0.0))
        level = len(_LEVELS) if text.startswith("<loc") else sum(probability >= edge for edge in _LEVELS)
        told = escaped(f"{text!r}: {probability:.0%}")
        pieces.append(f'<span class="said level-{level}" title="{told}">{escaped(text)}</span>')
    if not pieces:
        return '<p class="written empty">nothing was written</p>'
    more = "" if len(prediction.tokens) <= _MOST_SHADED else " …"
    return f'<p class="written">{"".join(pieces)}{more}</p>'


def heading_html(shown: Shown) -> str:
    """Returns a panel's head: the model, how long it took, how fast it writes, what could not be read."""
    rate = shown.tokens / shown.seconds if shown.seconds > 0 else 0.0
    invalid = shown.answer.prediction.invalid if shown.done else 0
    odd = f" · {invalid} part{'s' * (invalid > 1)} of it could not be read" if invalid else ""
    state = "" if shown.done else " …"
    return (
        f'<h3 class="model">{escaped(shown.model)}</h3><p class="pace">{shown.seconds:.2f} s · {shown.tokens} tokens · '
        f"{rate:.0f} tokens/s{odd}{state}</p>"
    )


def message_html(text: str, kind: str = "error") -> str:
    """Returns a sentence for the page, escaped; "" takes it away.

    Args:
        text: The sentence.
        kind: "error", "busy", "working" or "note".
    """
    role = "alert" if kind == "error" else "status"
    return f'<p class="message {kind}" role="{role}">{escaped(text)}</p>' if text else ""


def escaped(text: str) -> str:
    """Returns a text as HTML shows it; `$` and braces are written as numbers, since templates look for them."""
    safe = html.escape(text, quote=True)
    for sign in "${}`":
        safe = safe.replace(sign, f"&#{ord(sign)};")
    return safe
