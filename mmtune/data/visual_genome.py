"""Visual Genome's questions: [{"id": image, "qas": [{"qa_id", "question", "answer"}]}]."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def is_visual_genome(content: Any) -> bool:
    """Whether a file's content is a list of pictures with their questions."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, Mapping) and isinstance(first.get("qas"), list)


def visual_genome_entries(content: Sequence[Any]) -> Iterator[Any]:
    """Yields the questions with their picture's number; the full stop that ends every answer is dropped."""
    for image in content:
        if not isinstance(image, Mapping) or not isinstance(image.get("qas"), list):
            yield image
            continue
        for values in image["qas"]:
            if not isinstance(values, Mapping):
                yield values
                continue
            answer = values.get("answer")
            plain = answer.strip().removesuffix(".") if isinstance(answer, str) else answer
            yield {"image_id": image.get("id", image.get("image_id"))} | dict(values) | {"answer": plain}
