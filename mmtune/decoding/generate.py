"""From requests of any length to decoded tokens: grouping, bucketed shapes, images shared within a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.codecs.grammar import Automaton
from mmtune.decoding.beam import search
from mmtune.decoding.buckets import bucket, power_of_two
from mmtune.decoding.constraint import Constraint
from mmtune.decoding.engine import Prefix, Written, encode, prefill, write
from mmtune.decoding.joining import Rules
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.errors import UsageError
from mmtune.models.linear import Adapter
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree

NO_PICTURE = "this model answers questions about pictures: give it one"


@dataclass(frozen=True)
class Request:
    """One answer that is wanted.

    Attributes:
        prompt: Token ids, bos and closing newline included.
        image: (size, size, 3) uint8 or float in -1..1, `NO_PIXELS` for a model that sees and is asked without a
            picture, or None for text models. Requests of a batch that share the very same array share its encoding.
        grammar: What may be written, or None.
        row: Number of the request in its data set: it picks the sampler's random numbers.
    """

    prompt: Sequence[int]
    image: np.ndarray | None = None
    grammar: Automaton | None = None
    row: int = 0


@dataclass(frozen=True)
class Decoded:
    """What was written for a request: ids (the one that ended it included) and the log-probability of each."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Weights:
    """A model as decoding needs it.

    Attributes:
        tree: `model_variables` as arrays.
        spec: The model's description.
        adapter: Low-rank weights.
        dtype: Dtype of the computation.
        eos: Id of the token that ends a sequence.
        pad: Id of the token that fills rows.
        stops: Ids of further tokens that end an answer, such as the end of a turn.
    """

    tree: Tree
    spec: ModelSpec
    adapter: Adapter
    dtype: Any
    eos: int
    pad: int
    stops: tuple[int, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids of all tokens that end an answer."""
        return (self.eos, *(stop for stop in self.stops if stop != self.eos))


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
    answers: list[Decoded | None] = [None] * len(requests)
    done = 0
    for batch in batches(requests, batch_size):
        written = _batch(weights, [requests[i] for i in batch], rules, max_tokens, sampler)
        for index, answer in zip(batch, decoded(written), strict=False):
            answers[index] = answer
        done += len(batch)
        on_done(done)
    return [answer for answer in answers if answer is not None]


def check_sizes(requests: Sequence[Request], max_tokens: Sequence[int], batch_size: int) -> None:
    """Refuses sizes with which nothing can be decoded.

    Args:
        requests: What is wanted.
        max_tokens: For each of them the most tokens of its answer, eos included.
        batch_size: Most requests at once.

    Raises:
        UsageError: Below 1, or where a grammar allows no answer so short.
    """
    for name, value in (("max_tokens", min(max_tokens, default=1)), ("batch_size", batch_size)):
        if value < 1:
            raise UsageError(f"{name}: expected 1 or more, got {value}")
    for request, most in zip(requests, max_tokens, strict=True):
        shortest = 1 if request.grammar is None else int(request.grammar.distance[request.grammar.start])
        if most < shortest:
            raise UsageError(f"max_tokens: the shortest allowed answer has {shortest} tokens, got {most}")


def decoded(written: Written) -> list[Decoded]:
    """Returns what was written, row by row."""
    tokens, logprobs, lengths = (np.asarray(a) for a in written)
    return [
        Decoded(tuple(ids[:n].tolist()), tuple(each[:n].tolist()))
        for ids, each, n in zip(tokens, logprobs, lengths, strict=True)
    ]


def batches(requests: Sequence[Request], batch_size: int) -> list[list[int]]:
    """Indices of requests that share a batch: with or without grammars and pictures, and one bucket of prompts."""
    groups: dict[tuple[bool | None, bool, int], list[int]] = {}
    for index, request in enumerate(requests):
        fill = None if request.grammar is None else request.grammar.fill
        sees = request.image is not None and request.image.size > 0
        groups.setdefault((fill, sees, bucket(len(request.prompt))), []).append(index)
    return [
        group[start : start + batch_size] for group in groups.values() for start in range(0, len(group), batch_size)
    ]


class Opened(NamedTuple):
    """A batch that is ready to be written; its rows are a power of two, the last request filling those left over.

    Attributes:
        prefix: Image and prompt.
        constraint: What may be written, or None.
        keys: (rows,) random keys.
        new: Size of the output.
    """

    prefix: Prefix
    constraint: Constraint | None
    keys: Any
    new: int


def opened(weights: Weights, requests: list[Request], rules: Rules, max_tokens: int, sampler: Sampler) -> Opened:
    """Runs images and prompts of a batch through the model.

    Args:
        weights: The model.
        requests: One of `batches`.
        rules: Grammars that are on the device.
        max_tokens: Most tokens of an answer.
        sampler: How tokens are chosen.
    """
    rows = power_of_two(len(requests))
    requests = [*requests, *[requests[-1]] * (rows - len(requests))]
    grammars = [request.grammar for request in requests if request.grammar is not None]
    constraint = rules.constraint(grammars, weights.spec.text.vocabulary_size, weights.eos) if grammars else None
    width = bucket(max(len(request.prompt) for request in requests))
    token_ids = np.full((rows, width), weights.pad, np.int32)
    for row, request in enumerate(requests):
        token_ids[row, : len(request.prompt)] = request.prompt
    lengths = np.array([len(request.prompt) for request in requests], np.int32)
    new = bucket(max_tokens)
    prefix = prefill(
        weights.tree,
        weights.spec,
        _features(weights, requests),
        jnp.asarray(token_ids),
        jnp.asarray(lengths),
        weights.adapter,
        new=new,
        dtype=weights.dtype,
    )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(sampler.seed), jnp.asarray([request.row for request in requests])
    )
    return Opened(prefix, constraint, keys, new)


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


def _features(weights: Weights, requests: list[Request]) -> Any:
    """Encodes each image once and lays the features out a row a request."""
    if weights.spec.vision is None:
        return None
    places: dict[int, int] = {}
    images: list[np.ndarray] = []
    index = []
    for request in requests:
        if request.image is None:
            raise UsageError(NO_PICTURE)
        if id(request.image) not in places:
            places[id(request.image)] = len(images)
            images.append(request.image)
        index.append(places[id(request.image)])
    images += [images[-1]] * (power_of_two(len(images)) - len(images))
    features = encode(
        weights.tree,
        weights.spec,
        jnp.asarray(np.stack(images)),
        weights.adapter,
        dtype=weights.dtype,
    )
    return features[jnp.asarray(index)]
