"""GQA's questions: {question id: {"imageId", "question", "answer", "types", ...}}."""

from collections.abc import Iterator, Mapping
from typing import Any


def is_gqa(content: Any) -> bool:
    """Whether a file's content is a table of questions by their id."""
    first = next(iter(content.values()), None) if isinstance(content, Mapping) else None
    return isinstance(first, Mapping) and "question" in first and "imageId" in first


def gqa_entries(content: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the entries with their ids; the type of a question is its structure (query, verify, choose, ...)."""
    for key, values in content.items():
        if not isinstance(values, Mapping):
            yield values
            continue
        types = values.get("types")
        kind = types.get("structural") if isinstance(types, Mapping) else None
        # Two of its other keys, annotations and semantic, describe the scene graph.
        yield {"question_type": kind} | dict(values) | {"question_id": key}
