"""The log-probability of given answers, by the pass that training uses."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.data.batch import Row, collate
from mmtune.decoding.buckets import bucket
from mmtune.decoding.opening import filled
from mmtune.decoding.requests import NO_PICTURE, Request, Weights
from mmtune.errors import UsageError
from mmtune.models.linear import Adapter, Array
from mmtune.models.scorer import target_logits, token_log_likelihood
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree

# Numbers in the logits of a batch, 2 GiB: answers may be whole conversations, and vocabularies have 256,000 tokens.
_MOST_LOGITS = 1 << 29
# Tokens of the answers that share a row.
_MOST_TARGETS = 256


def score(
    weights: Weights, requests: Sequence[Request], targets: Sequence[Sequence[int]], batch_size: int = 16
) -> list[np.ndarray]:
    """Returns for each answer the log-probability of each of its tokens.

    Args:
        weights: The model.
        requests: Prompts and images.
        targets: Ids of each answer, eos included.
        batch_size: Most rows at once; of long answers fewer, as memory has room for. Answers that stand next to each
            other with one picture and prompt share a row.
    """
    if weights.spec.vision is not None and any(request.image is None for request in requests):
        raise UsageError(NO_PICTURE)
    scores: list[np.ndarray] = []
    packed = _packed(requests, targets)
    longest = bucket(max((row.target_length for row in packed), default=1))
    batch_size = min(batch_size, max(1, _MOST_LOGITS // (longest * weights.spec.text.vocabulary_size)))
    for start in range(0, len(packed), batch_size):
        chunk = packed[start : start + batch_size]
        rows = filled(chunk)
        width = bucket(max(row.text_length for row in rows))
        inputs, labels = collate(rows, weights.spec.image_tokens, width, bucket(max(r.target_length for r in rows)))
        likelihood = _likelihood(
            weights.tree,
            weights.spec,
            {name: jnp.asarray(array) for name, array in inputs.items()},
            jnp.asarray(labels["labels"]),
            weights.adapter,
            dtype=weights.dtype,
        )
        for row, found in zip(chunk, np.asarray(likelihood), strict=False):
            ends = np.cumsum([len(suffix) for suffix in row.suffixes])
            scores += np.split(found[: ends[-1]], ends[:-1])
    return scores


def _packed(requests: Sequence[Request], targets: Sequence[Sequence[int]]) -> list[Row]:
    """Returns rows, in order, in which neighbours with the same picture and prompt share them."""
    shared: list[tuple[Request, list[Sequence[int]]]] = []
    for request, target in zip(requests, targets, strict=True):
        if shared:
            before, answers = shared[-1]
            alike = request.image is before.image and request.prompt == before.prompt
            if alike and sum(map(len, answers)) + len(target) <= _MOST_TARGETS:
                answers.append(target)
                continue
        shared.append((request, [target]))
    return [
        Row(request.prompt, answers, [[1.0] * len(answer) for answer in answers], request.image)
        for request, answers in shared
    ]


@partial(jax.jit, static_argnames=("spec", "dtype"))
def _likelihood(
    weights: Tree, spec: ModelSpec, inputs: dict[str, Array], labels: Array, adapter: Adapter, dtype: Any
) -> Array:
    return token_log_likelihood(target_logits(weights, spec, inputs, adapter, dtype=dtype), labels)
