"""What is asked of a model, the model as decoding needs it, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtune.codecs.grammar import Automaton
from mmtune.decoding.engine import Written
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
