"""Answers while they are written: the loop of `generate`, left every few tokens."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp

from mmtune.decoding.engine import begin, go_on
from mmtune.decoding.joining import Rules
from mmtune.decoding.opening import batches, opened
from mmtune.decoding.requests import Decoded, Request, Weights, check_sizes, decoded
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import UsageError

EVERY = 8
"""Tokens between two looks at what there is: often enough for a reader, seldom enough to cost little."""


def stream(
    weights: Weights,
    requests: Sequence[Request],
    *,
    max_tokens: Sequence[int],
    sampler: Sampler = GREEDY,
    batch_size: int = 16,
    rules: Rules | None = None,
    every: int = EVERY,
) -> Iterator[dict[int, Decoded]]:
    """Yields answers as they grow; the last of each request is the one that `generate` gives.

    Args:
        weights: The model.
        requests: What is wanted.
        max_tokens: For each of them the most tokens of its answer, eos included.
        sampler: How tokens are chosen; beams cannot be watched.
        batch_size: Most requests at once.
        rules: Grammars that earlier calls have brought to the device; None: none.
        every: Tokens between two yields.

    Yields:
        By place in `requests`, those of one batch at a time.

    Raises:
        UsageError: As `generate` does, and for beams.
    """
    if sampler.beams > 1:
        raise UsageError("beam search knows its answer only at the end: set beams to 1 to watch it")
    if every < 1:
        raise UsageError(f"every: expected 1 or more, got {every}")
    check_sizes(requests, max_tokens, batch_size)
    rules = Rules() if rules is None else rules
    for batch in batches(requests, batch_size):
        limits = [max_tokens[place] for place in batch]
        longest = max(limits)
        prefix, constraint, keys, new = opened(weights, [requests[i] for i in batch], rules, longest, sampler)
        limit = jnp.asarray(limits + limits[-1:] * (len(prefix.lengths) - len(limits)), jnp.int32)
        writing = begin(prefix, constraint, new=new, pad=weights.pad)
        for until in range(every, longest + every, every):
            writing = go_on(
                weights.tree,
                weights.spec,
                writing,
                prefix.lengths,
                weights.adapter,
                keys,
                limit,
                jnp.int32(min(until, longest)),
                jnp.int32(len(prefix.lengths)),
                constraint,
                sampler=sampler,
                ends=weights.ends,
                pad=weights.pad,
            )
            yield dict(zip(batch, decoded(writing.written), strict=False))
            if bool(writing.done.all()):
                break
