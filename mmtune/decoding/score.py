"""The log-probability of given answers, by the pass that training uses."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.data.batch import Row, collate
from mmtune.decoding.buckets import bucket, power_of_two
from mmtune.decoding.requests import NO_PICTURE, Request, Weights
from mmtune.errors import UsageError
from mmtune.models.linear import Adapter, Array
from mmtune.models.scorer import target_logits, token_log_likelihood
from mmtune.models.spec import ModelSpec
from mmtune.models.weights import Tree

# Numbers in the logits of a batch, 2 GiB: answers may be whole conversations, and vocabularies have 256,000 tokens.
_MOST_LOGITS = 1 << 29


def score(
    weights: Weights, requests: Sequence[Request], targets: Sequence[Sequence[int]], batch_size: int = 16
) -> list[np.ndarray]:
    """Returns for each answer the log-probability of each of its tokens.

    Args:
        weights: The model.
        requests: Prompts and images.
        targets: Ids of each answer, eos included.
        batch_size: Most answers at once; of long ones fewer, as memory has room for.
    """
    scores: list[np.ndarray] = []
    longest = bucket(max((len(target) for target in targets), default=1))
    batch_size = min(batch_size, max(1, _MOST_LOGITS // (longest * weights.spec.text.vocabulary_size)))
    for start in range(0, len(requests), batch_size):
        chunk = slice(start, start + batch_size)
        if weights.spec.vision is not None and any(request.image is None for request in requests[chunk]):
            raise UsageError(NO_PICTURE)
        rows = [
            Row(request.prompt, [target], [[1.0] * len(target)], request.image)
            for request, target in zip(requests[chunk], targets[chunk], strict=True)
        ]
        rows += [rows[-1]] * (power_of_two(len(rows)) - len(rows))
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
        found = np.asarray(likelihood)
        scores += [found[row, : len(target)] for row, target in enumerate(targets[chunk])]
    return scores


@partial(jax.jit, static_argnames=("spec", "dtype"))
def _likelihood(
    weights: Tree, spec: ModelSpec, inputs: dict[str, Array], labels: Array, adapter: Adapter, dtype: Any
) -> Array:
    return token_log_likelihood(target_logits(weights, spec, inputs, adapter, dtype=dtype), labels)
