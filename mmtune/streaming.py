"""Answers of tasks while they are written, many questions at once: what a page or a server asks with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mmtune.decoding.outputs import as_output
from mmtune.decoding.requests import Request, check_sizes
from mmtune.decoding.stream import EVERY, stream
from mmtune.errors import UsageError
from mmtune.evaluation import fitting_task, token_budget
from mmtune.looks import shown
from mmtune.model import Model
from mmtune.opening import opened
from mmtune.predicting import Answer, asked_record, asked_task
from mmtune.records import Output, Query, Record
from mmtune.task import Task


@dataclass(frozen=True)
class Asked:
    """A question that is ready to be decoded: its picture opened, its prompt in tokens.

    Attributes:
        task: The adapter, for the model's vocabulary.
        record: What is asked about, its size known.
        queries: What is asked.
        requests: The same for the decoder.
        max_tokens: Most tokens of each answer.
        ends: Ids behind which an answer is over.
    """

    task: Task
    record: Record
    queries: tuple[Query, ...]
    requests: tuple[Request, ...]
    max_tokens: int
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Partial:
    """An answer as far as it is written.

    Attributes:
        answer: As the task reads it; what is still being written may count as invalid.
        tokens: How many there are, those that ended it included.
    """

    answer: Answer
    tokens: int


def ask(
    model: Model,
    image: Any = None,
    *,
    task: str,
    prompt: str | None = None,
    max_tokens: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Asked:
    """Makes a question ready; it runs no model, so that many threads may call it.

    Args:
        model: The model that will be asked.
        image: A file name, a PIL image, an array or a `Picture`; None for text tasks.
        task, prompt, options: As for `mmtune.predicting.predict`.
        max_tokens: Most tokens of an answer; None: the task's choice.

    Raises:
        DataError: When the picture cannot be opened.
        UsageError: When the task needs a prompt or a picture and has none, the model cannot do it, or the limit is too
            small for the shortest answer that the task allows.
    """
    adapter = fitting_task(model, asked_task(model, [image], task, prompt, options))
    tokenizer = model.tokenizer
    record = asked_record(image, prompt)
    if (problem := adapter.unasked(record)) is not None:
        raise UsageError(problem)
    record, queries, pictures = opened(model, adapter, record)
    grammars = {query.labels: adapter.grammar(query, tokenizer) for query in queries if query.look.plain}
    requests = tuple(
        Request(tokenizer.prompt(query.prompt, query.closed), picture, grammars[query.labels], row=place)
        for place, (query, picture) in enumerate(zip(queries, shown(pictures, queries), strict=True))
    )
    most = token_budget(model, adapter, [record]) if max_tokens is None else max_tokens
    check_sizes(requests, [most] * len(requests), batch_size=1)
    return Asked(adapter, record, queries, requests, most, tuple(adapter.ends(tokenizer)))


def stream_answers(
    model: Model, asked: Sequence[Asked], *, batch_size: int = 16, every: int = EVERY
) -> Iterator[dict[int, Partial]]:
    """Decodes many questions together and yields their answers as they grow.

    What is asked by greedy decoding gets the answer that `predict` gives, whatever else is asked at the same time.

    Args:
        model: The model that the questions were made ready for.
        asked: From `ask`.
        batch_size: Most prompts at once.
        every: Tokens between two yields.

    Yields:
        By place in `asked`, those that grew.
    """
    for ends in dict.fromkeys(one.ends for one in asked):
        places = [place for place, one in enumerate(asked) if one.ends == ends]
        owners = [(place, number) for place in places for number in range(len(asked[place].requests))]
        requests = [asked[place].requests[number] for place, number in owners]
        limits = [asked[place].max_tokens for place, _ in owners]
        weights = replace(model.weights(), stops=ends)
        read = partial(as_output, tokenizer=model.tokenizer, ends=weights.ends)
        outputs = {place: [Output("")] * len(asked[place].requests) for place in places}
        counts = {place: [0] * len(asked[place].requests) for place in places}
        for grown in stream(weights, requests, max_tokens=limits, batch_size=batch_size, every=every):
            for index, decoded in grown.items():
                place, number = owners[index]
                outputs[place][number], counts[place][number] = read(decoded), len(decoded.ids)
            touched = dict.fromkeys(owners[index][0] for index in grown)
            yield {place: _partial(asked[place], outputs[place], sum(counts[place])) for place in touched}


def _partial(asked: Asked, outputs: Sequence[Output], tokens: int) -> Partial:
    answers = list(zip(asked.queries, outputs, strict=True))
    return Partial(Answer(asked.task.parse(asked.record, answers), asked.record, asked.task), tokens)
