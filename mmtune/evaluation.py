"""Asking a model about every record of a data set, and scoring the answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.data.dataset import FaultLog
from mmtune.decoding.generate import generate
from mmtune.decoding.joining import Rules
from mmtune.decoding.outputs import as_output
from mmtune.decoding.requests import Request
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import UsageError
from mmtune.likelihood import truth_likelihoods
from mmtune.looks import shown
from mmtune.model import Model
from mmtune.opening import Opened, opened_ahead
from mmtune.prediction_files import write_predictions
from mmtune.records import WHOLE, Fault, Likelihood, Prediction, Query, Record
from mmtune.task import Task

# Sampling numbers its answers by record and query, so that a picture that fails does not move those after it.
QUERIES = 1000
# A grammar holds a number for each token of the vocabulary; questions of multiple choice have one each.
MOST_GRAMMARS = 256


@dataclass(frozen=True)
class Evaluation:
    """Scores and what they were computed from.

    Attributes:
        task: Name of the task.
        metrics: By their contract names.
        records: What was asked about.
        predictions: One a record.
        faults: Records that could not be asked about.
        adapter: The task as the model was asked.
    """

    task: str
    metrics: dict[str, Any]
    records: tuple[Record, ...]
    predictions: tuple[Prediction, ...]
    faults: tuple[Fault, ...]
    adapter: Task

    @property
    def pairs(self) -> tuple[tuple[Record, Prediction], ...]:
        """Each record with its prediction."""
        return tuple(zip(self.records, self.predictions, strict=True))

    @property
    def invalid(self) -> int:
        """How many answers had a part that could not be parsed."""
        return sum(prediction.invalid > 0 for prediction in self.predictions)

    def as_json(self) -> dict[str, Any]:
        """Returns {"task", "n", "metrics", "invalid"}."""
        return {"task": self.task, "n": len(self.records), "metrics": self.metrics, "invalid": self.invalid}

    def write_predictions(self, file: str | Path) -> None:
        """Writes one JSON line a record."""
        write_predictions(self.adapter, self.pairs, Path(file))

    def write_report(self, file: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        """Writes a page with intervals and every fault; `settings` are what it says about model and data."""
        from mmtune.reporting import write_report

        write_report(Path(file), self.adapter, self.pairs, self.metrics, settings=settings or {})


def evaluate_records(
    model: Model,
    task: Task,
    records: Sequence[Record],
    *,
    sampler: Sampler = GREEDY,
    max_tokens: int | None = None,
    batch_size: int = 16,
    on_done: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Predicts and scores.

    Args:
        model: The model.
        task: The adapter.
        records: The truth.
        sampler: How tokens are chosen.
        max_tokens: Most tokens of an answer; None: the task's choice, see `Task.budget`.
        batch_size: Most prompts decoded at once.
        on_done: Called with the number of records done so far.

    Returns:
        Metrics over the records that could be asked about, and faults for the others: "unreadable picture", and "no
        prompt" where the task says so (`Task.unasked`).

    Raises:
        UsageError: When the model cannot do the task.
    """
    task = fitting_task(model, task)
    log = FaultLog()
    metric = task.metric()
    used: list[Record] = []
    predictions: list[Prediction] = []
    askable = [record for record in records if task.unasked(record) is None]
    budget = token_budget(model, task, askable) if max_tokens is None else max_tokens
    grammars: dict[tuple[str, ...], Any] = {}
    rules = Rules()
    with closing(opened_ahead(model, task, records, log)) as chunks:
        for start, chunk in chunks:
            ready = [(number, one) for number, one in enumerate(chunk, start) if one is not None]
            on_share = partial(_share_done, on_done, start, len(chunk))
            answers = _answer(model, task, ready, budget, sampler, batch_size, grammars, rules, on_share)
            for record, prediction in answers:
                metric.update(record, prediction)
                used.append(record)
                predictions.append(prediction)
            on_done(start + len(chunk))
    return Evaluation(task.name, metric.compute(), tuple(used), tuple(predictions), tuple(log.faults), task)


def _share_done(on_done: Callable[[int], None], start: int, count: int, share: float) -> None:
    on_done(start + int(share * count))


def fitting_task(model: Model, task: Task) -> Task:
    """Returns a task for a model's vocabulary.

    Raises:
        UsageError: When the task needs pictures and the model sees none.
    """
    if task.needs_picture and model.image_size is None:
        raise UsageError(f"the task {task.name} needs pictures, and {model.name} is a text model")
    return task.for_tokenizer(model.tokenizer)


def token_budget(model: Model, task: Task, records: Sequence[Record]) -> int:
    """Returns the most tokens of an answer to any of the records, as the task and what the model was taught say."""
    taught = model.setup.max_tokens if model.setup is not None and model.setup.task == task.name else 0
    return task.budget(records, model.tokenizer, taught)


def _answer(
    model: Model,
    task: Task,
    ready: Sequence[tuple[int, Opened]],
    budget: int,
    sampler: Sampler,
    batch_size: int,
    grammars: dict[tuple[str, ...], Any],
    rules: Rules,
    on_share: Callable[[float], None],
) -> Iterable[tuple[Record, Prediction]]:
    asked: list[tuple[int, Query]] = []
    pictures: list[np.ndarray | None] = []
    rows: list[int] = []
    for i, (number, one) in enumerate(ready):
        asked += [(i, query) for query in one.queries]
        pictures += shown(one.pictures, one.queries)
        rows += [number * QUERIES + place for place in range(len(one.queries))]
    if len(grammars) > MOST_GRAMMARS:
        grammars.clear()
    for _, query in asked:
        if query.labels not in grammars:
            grammars[query.labels] = task.grammar(query, model.tokenizer)
    tokenizer = model.tokenizer
    weights = replace(model.weights(), stops=task.ends(tokenizer))
    requests = [
        Request(tokenizer.prompt(query.prompt, query.closed), picture, grammars[query.labels], row)
        for (_, query), picture, row in zip(asked, pictures, rows, strict=True)
    ]
    decoded = generate(
        weights,
        requests,
        max_tokens=budget,
        sampler=sampler,
        batch_size=batch_size,
        rules=rules,
        on_done=lambda done: on_share(done / len(requests)),
    )
    answers: list[list] = [[] for _ in ready]
    for (i, query), one in zip(asked, decoded, strict=True):
        answers[i].append((query, as_output(one, tokenizer, weights.ends)))
    truths: Sequence[Likelihood | None] = [None] * len(ready)
    if task.scores_truth:
        seen = [(one.record, one.pictures[WHOLE]) for _, one in ready]
        truths = truth_likelihoods(weights, tokenizer, task, seen, batch_size)
    for (_, one), given, truth in zip(ready, answers, truths, strict=True):
        yield one.record, replace(task.parse(one.record, given), truth=truth)
