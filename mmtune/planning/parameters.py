"""How many numbers a model has and how many of them train, before and after an adapter is put on it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from mmtune.model import Model
from mmtune.models.spec import ModelSpec
from mmtune.sharding.table import itemsize


@dataclass(frozen=True)
class Count:
    """Numbers and the bytes that they take, on all devices together, each counted once."""

    numbers: int = 0
    bytes: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.numbers + other.numbers, self.bytes + other.bytes)


@dataclass(frozen=True)
class Parameters:
    """The numbers of a model that train and those that do not."""

    trainable: Count
    frozen: Count

    @property
    def total(self) -> Count:
        """Both together."""
        return self.trainable + self.frozen


def counted(variables: Iterable[Any]) -> Count:
    """Returns the count of variables, with or without values; those of random generators are left out."""
    sizes = [
        (math.prod(one.shape), itemsize(str(one.dtype)))
        for one in variables
        if not one.path.endswith("seed_generator_state")
    ]
    return Count(sum(size for size, _ in sizes), sum(size * width for size, width in sizes))


def before_and_after(model: Model, trained: Sequence[Any]) -> tuple[Parameters, Parameters]:
    """Returns the numbers of a model as it is, all trainable, and those of a run on it.

    Quantised weights count as many numbers as they stand for, and the bytes that they take.

    Args:
        model: With the run's adapter, if it has one.
        trained: The variables that train.
    """
    before = Parameters(counted(model.backbone.variables), Count())
    train = counted(trained)
    kept = [*jax.tree.leaves(model.variables), *(model.lora.variables if model.lora else ())]
    adapter = counted(model.lora.variables).numbers if model.lora else 0
    numbers = before.total.numbers + adapter
    return before, Parameters(train, Count(numbers - train.numbers, counted(kept).bytes - train.bytes))


def keras_hub_lora(spec: ModelSpec, rank: int) -> int:
    """Returns how many numbers train after KerasHub's `enable_lora(rank)` on a decoder's queries and values.

    There A has the shape of the kernel with the rank in place of its last axis, so it is one matrix for each head.
    """
    return _on_attention(spec, lambda heads, width, head: heads * width * rank + rank * head)


def peft_lora(spec: ModelSpec, rank: int) -> int:
    """Returns how many numbers train in PEFT's shapes on the same: A is (width, rank) for all heads together."""
    return _on_attention(spec, lambda heads, width, head: width * rank + rank * heads * head)


def _on_attention(spec: ModelSpec, numbers: Callable[[int, int, int], int]) -> int:
    text = spec.text
    return text.num_layers * sum(
        numbers(heads, text.hidden_dim, text.head_dim) for heads in (text.num_heads, text.num_kv_heads)
    )
