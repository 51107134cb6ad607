"""From requests of any length to decoded tokens."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from mmtune.decoding.beam import search
from mmtune.decoding.buckets import power_of_two
from mmtune.decoding.continuous import Pool
from mmtune.decoding.engine import Written, write
from mmtune.decoding.joining import Rules
from mmtune.decoding.opening import groups, opened
from mmtune.decoding.requests import Decoded, Request, Weights, check_sizes, decoded
from mmtune.decoding.sampling import GREEDY, Sampler

# More grammars than this are not joined into one table: each batch has a table of its own.
_MOST_GRAMMARS = 16


def generate(
    weights: Weights,
    requests: Sequence[Request],
    *,
    max_tokens: int,
    sampler: Sampler = GREEDY,
    batch_size: int = 16,
    rules: Rules | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Decoded]:
    """Answers all requests, in their order.

    Args:
        weights: The model.
        requests: What is wanted.
        max_tokens: Most tokens an answer may have, eos included.
        sampler: How tokens are chosen.
        batch_size: Most requests at once.
        rules: Grammars that earlier calls have brought to the device; None: none.
        on_done: Called with the number of requests answered so far, for a progress bar.

    Raises:
        UsageError: When `max_tokens` is too small for anything a request's grammar allows.
    """
    check_sizes(requests, [max_tokens] * len(requests), batch_size)
    rules = Rules() if rules is None else rules
    answers: dict[int, Decoded] = {}

    def take(place: int, answer: Decoded) -> None:
        answers[place] = answer
        on_done(len(answers))

    for group in groups(requests):
        members = [requests[place] for place in group]
        if _flows(members, batch_size, sampler):
            size = power_of_two(batch_size)
            pool = Pool(weights, members, max_tokens=max_tokens, sampler=sampler, rows=size, rules=rules)
            for place, answer in pool.answers():
                take(group[place], answer)
            continue
        for start in range(0, len(group), batch_size):
            written = _batch(weights, members[start : start + batch_size], rules, max_tokens, sampler)
            for place, answer in zip(group[start : start + batch_size], decoded(written), strict=False):
                take(place, answer)
    return [answers[place] for place in range(len(requests))]


def _flows(requests: Sequence[Request], batch_size: int, sampler: Sampler) -> bool:
    """Whether rows that have ended are given to further requests."""
    if sampler.beams > 1 or len(requests) <= power_of_two(batch_size):
        return False
    return len({request.grammar for request in requests}) <= _MOST_GRAMMARS


def _batch(weights: Weights, requests: list[Request], rules: Rules, max_tokens: int, sampler: Sampler) -> Written:
    prefix, constraint, keys, new = opened(weights, requests, rules, max_tokens, sampler)
    limit = jnp.int32(max_tokens)
    best = None
    if sampler.beams > 1:
        best = search(
            weights.tree,
            weights.spec,
            prefix,
            weights.adapter,
            limit,
            constraint,
            beams=sampler.beams,
            new=new,
            ends=weights.ends,
            pad=weights.pad,
        )
    written = write(
        weights.tree,
        weights.spec,
        prefix,
        weights.adapter,
        keys,
        limit,
        constraint,
        sampler=sampler,
        new=new,
        ends=weights.ends,
        pad=weights.pad,
    )
    return written if best is None else _better(best, written)


def _better(beam: Written, greedy: Written) -> Written:
    """Returns row by row the likelier of the two: a beam can lose the greedy sequence and end below it."""
    wins = jnp.sum(beam.logprobs, axis=1) >= jnp.sum(greedy.logprobs, axis=1)
    return Written(
        jnp.where(wins[:, None], beam.tokens, greedy.tokens),
        jnp.where(wins[:, None], beam.logprobs, greedy.logprobs),
        jnp.where(wins, beam.lengths, greedy.lengths),
    )
