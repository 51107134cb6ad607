"""Images and prompts through the model, in shapes of which few exist, before the first token is written."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.decoding.buckets import bucket, power_of_two
from mmtune.decoding.constraint import Constraint
from mmtune.decoding.engine import Prefix, encode, prefill
from mmtune.decoding.joining import Rules
from mmtune.decoding.requests import NO_PICTURE, Request, Weights
from mmtune.decoding.sampling import Sampler
from mmtune.errors import UsageError

T = TypeVar("T")


def groups(requests: Sequence[Request]) -> list[list[int]]:
    """Indices of requests that can share a batch: with or without grammars and pictures, and one bucket of prompts."""
    found: dict[tuple[bool | None, bool, int], list[int]] = {}
    for index, request in enumerate(requests):
        fill = None if request.grammar is None else request.grammar.fill
        sees = request.image is not None and request.image.size > 0
        found.setdefault((fill, sees, bucket(len(request.prompt))), []).append(index)
    return list(found.values())


def batches(requests: Sequence[Request], batch_size: int) -> list[list[int]]:
    """Indices of requests that share a batch, as `groups` says, at most so many."""
    return [
        group[start : start + batch_size] for group in groups(requests) for start in range(0, len(group), batch_size)
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


def opened(weights: Weights, requests: Sequence[Request], rules: Rules, max_tokens: int, sampler: Sampler) -> Opened:
    """Runs images and prompts of a batch through the model.

    Args:
        weights: The model.
        requests: One of `batches`.
        rules: Grammars that are on the device.
        max_tokens: Most tokens of an answer.
        sampler: How tokens are chosen.
    """
    requests = filled(requests)
    new = bucket(max_tokens)
    prefix = read(weights, requests, features(weights, requests), new)
    return Opened(prefix, constraint_of(weights, requests, rules), keys_of(requests, sampler), new)


def filled(items: Sequence[T]) -> list[T]:
    """Returns items as many as a power of two, the last of them repeated."""
    return [*items, *[items[-1]] * (power_of_two(len(items)) - len(items))]


def read(weights: Weights, requests: Sequence[Request], features: Any, new: int) -> Prefix:
    """Runs prompts behind their image features through the model, those that several requests share once.

    Args:
        weights: The model.
        requests: One of `groups`.
        features: (rows, tokens, hidden), a row a request, or None.
        new: How many tokens may follow.
    """
    questions = [(id(request.image), tuple(request.prompt)) for request in requests]
    asked = {question: row for row, question in enumerate(questions)}
    once = filled(list(asked.values()))
    if len(once) >= len(requests):
        return _read(weights, requests, features, new)
    some = None if features is None else features[jnp.asarray(once)]
    prefix = _read(weights, [requests[row] for row in once], some, new)
    order = {question: place for place, question in enumerate(asked)}
    places = jnp.asarray([order[question] for question in questions])
    return jax.tree.map(lambda array: array[places], prefix)


def _read(weights: Weights, requests: Sequence[Request], features: Any, new: int) -> Prefix:
    width = bucket(max(len(request.prompt) for request in requests))
    token_ids = np.full((len(requests), width), weights.pad, np.int32)
    for row, request in enumerate(requests):
        token_ids[row, : len(request.prompt)] = request.prompt
    lengths = np.array([len(request.prompt) for request in requests], np.int32)
    return prefill(
        weights.tree,
        weights.spec,
        features,
        jnp.asarray(token_ids),
        jnp.asarray(lengths),
        weights.adapter,
        new=new,
        dtype=weights.dtype,
    )


def constraint_of(weights: Weights, requests: Sequence[Request], rules: Rules) -> Constraint | None:
    """Returns what the rows may write, None where they are free."""
    grammars = [request.grammar for request in requests if request.grammar is not None]
    return rules.constraint(grammars, weights.spec.text.vocabulary_size, weights.eos) if grammars else None


def keys_of(requests: Sequence[Request], sampler: Sampler) -> Any:
    """Returns a random key a request, which its number in its data set picks."""
    rows = jnp.asarray([request.row for request in requests])
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(sampler.seed), rows)


def features(weights: Weights, requests: Sequence[Request]) -> Any:
    """Encodes each image once and lays its features out a row a request; None for text models."""
    if weights.spec.vision is None:
        return None
    images = pictures(requests)
    places = {picture: place for place, picture in enumerate(images)}
    return encoded(weights, list(images.values()))[jnp.asarray([places[id(request.image)] for request in requests])]


def pictures(requests: Iterable[Request]) -> dict[int, np.ndarray]:
    """Returns each image that is asked about, by its identity.

    Raises:
        UsageError: For a request without one.
    """
    found: dict[int, np.ndarray] = {}
    for request in requests:
        if request.image is None:
            raise UsageError(NO_PICTURE)
        found[id(request.image)] = request.image
    return found


def encoded(weights: Weights, images: Sequence[np.ndarray]) -> Any:
    """Returns the features (rows, tokens, hidden) of images; rows are a power of two, those left over mean nothing."""
    stacked = jnp.asarray(np.stack(filled(images)))
    return encode(weights.tree, weights.spec, stacked, weights.adapter, dtype=weights.dtype)
