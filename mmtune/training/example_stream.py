"""Examples of data too large to look at as a whole before the first step: looked at when their turn comes."""

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtune.data.dataset import FaultLog
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Record
from mmtune.task import Task
from mmtune.training.examples import Example, examples_of, list_examples

LOOKED_AT = 10_000
"""Records of which every one is looked at before training."""

_SAMPLE = 1_000
_HEADROOM = 1.25  # of the longest target allowed, over the longest of the sample
_KEPT = 8_192


@dataclass(frozen=True)
class Gathered:
    """What a run trains on.

    Attributes:
        all: Every example; of large data each is made, and found to have a fault or not, when its turn comes.
        known: Those that were looked at, all of small data: by them lengths are planned.
    """

    all: Sequence[Example]
    known: Sequence[Example]

    @property
    def longest(self) -> int:
        """The most tokens that a target may have, end of sequence included."""
        if isinstance(self.all, ExampleStream):
            return self.all.max_tokens
        return max(example.longest for example in self.known)

    @property
    def fingerprint(self) -> str:
        """A hash of what is trained on, so that a run is not gone on with over other data."""
        digest = hashlib.blake2b(digest_size=16)
        if self.all is not self.known:
            digest.update(f"{len(self.all)}\n".encode())
        for example in self.known:
            digest.update(
                f"{example.record.id}\0{example.query.prompt}\0{example.text_length}\n".encode(errors="surrogatepass")
            )
        return digest.hexdigest()


def gather(
    records: Sequence[Record],
    task: Task,
    tokenizer: Tokenizer,
    log: FaultLog,
    max_tokens: int | None = None,
    looked_at: int = LOOKED_AT,
) -> Gathered:
    """Returns the examples of some data.

    Every record is looked at, or of more than `looked_at` a sample. What is taught by several examples a record
    (conversations by a template without an end) is always looked at as a whole.

    Args:
        records: The data.
        task: The adapter.
        tokenizer: The vocabulary.
        log: Takes the faults of what was looked at as a whole; the others come up while training.
        max_tokens: Longest target, eos included; None: no limit, or a quarter more than the longest of the sample.
        looked_at: Most records that are looked at as a whole.
    """
    if len(records) > looked_at:
        places = np.sort(np.random.default_rng(0).permutation(len(records))[:_SAMPLE])
        sample = [records[int(place)] for place in places]
        known = list_examples(sample, task, tokenizer, FaultLog(), max_tokens)
        if known and len(known) <= len(sample):
            most = max_tokens or math.ceil(_HEADROOM * max(example.longest for example in known))
            return Gathered(ExampleStream(records, task.for_tokenizer(tokenizer), tokenizer, most), known)
    examples = list_examples(records, task, tokenizer, log, max_tokens)
    return Gathered(examples, examples)


class ExampleStream(Sequence[Example]):
    """One example a record, made when it is asked for; those with a fault are among them.

    Args:
        records: The data.
        task: The adapter, made for the tokenizer.
        tokenizer: The vocabulary.
        max_tokens: Longest target, eos included.
    """

    def __init__(self, records: Sequence[Record], task: Task, tokenizer: Tokenizer, max_tokens: int):
        self.max_tokens = max_tokens
        self._records, self._task, self._tokenizer = records, task, tokenizer
        self._made = functools.lru_cache(maxsize=_KEPT)(self._make)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._made(index)

    def _make(self, index: int) -> Example:
        record = self._records[index]
        found = list(examples_of(record, self._task, self._tokenizer, self.max_tokens))
        return next((example for example in found if example.fault is None), found[0])
