"""How likely a model finds the right answers: the pass that training uses, without its gradient."""

from collections.abc import Sequence

import numpy as np

from mmtune.decoding.requests import Request, Weights
from mmtune.decoding.score import score
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Likelihood, Record
from mmtune.task import Task
from mmtune.training.examples import Tokens, tokenise

Seen = tuple[Record, np.ndarray | None]
"""A record with its picture as the model takes it."""


def truth_likelihoods(
    weights: Weights, tokenizer: Tokenizer, task: Task, seen: Sequence[Seen], batch_size: int
) -> list[Likelihood | None]:
    """Returns for each record how likely its right answers are, None for one that has no answer to be taught.

    Args:
        weights: The model.
        tokenizer: Its vocabulary.
        task: The adapter, as `Task.for_tokenizer` gives it.
        seen: The records.
        batch_size: Most answers at once.
    """
    end = task.ends(tokenizer)[0]
    places: list[int] = []
    requests: list[Request] = []
    targets: list[Tokens] = []
    for place, (record, pixels) in enumerate(seen):
        if task.check(record):
            continue
        for query in task.lessons(record):
            for target in task.targets(record, query):
                places.append(place)
                requests.append(Request(tokenizer.prompt(query.prompt, query.closed), pixels))
                targets.append(tokenise(target, tokenizer, end))
    found: list[Likelihood | None] = [None] * len(seen)
    scored = score(weights, requests, [target.ids for target in targets], batch_size)
    for place, logprobs, target in zip(places, scored, targets, strict=True):
        taught = logprobs[np.array(target.weights) > 0]
        before = found[place] or Likelihood(0.0, 0)
        found[place] = Likelihood(before.logprob + float(np.sum(taught, dtype=np.float64)), before.tokens + len(taught))
    return found
