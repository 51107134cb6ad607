"""The token automaton of a question of multiple choice: one of a few texts, word for word, and then the end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmtune.codecs.grammar import Automaton
from mmtune.errors import DataError, UsageError

if TYPE_CHECKING:
    from mmtune.models.tokenizer import Tokenizer

_FINAL = 0  # the state after the end, where padding follows


def choice_grammar(tokenizer: "Tokenizer", choices: Sequence[str]) -> Automaton:
    """Returns the grammar whose sentences are the choices, tokenised as a target is.

    Args:
        tokenizer: The vocabulary.
        choices: At least one text; choices that begin like others are fine.

    Raises:
        UsageError: There is no choice.
        DataError: A choice is empty, or cannot be written with this vocabulary.
    """
    if not choices:
        raise UsageError("a question of multiple choice needs at least one choice")
    sequences = [[*_ids(tokenizer, choice), tokenizer.eos] for choice in choices]
    tokens = sorted({tokenizer.pad}.union(*sequences))
    token_class = np.zeros(tokenizer.vocabulary_size, np.int32)
    token_class[tokens] = np.arange(1, len(tokens) + 1)
    rows, distances = [{tokenizer.pad: _FINAL}], [0]

    def add(endings: Sequence[Sequence[int]]) -> int:
        """Adds the state from which the token sequences are read, after those it leads to; returns its number."""
        if not endings[0]:  # nothing stands behind the end, so all of them are read
            return _FINAL
        branches: dict[int, list[Sequence[int]]] = {}
        for ending in endings:
            branches.setdefault(ending[0], []).append(ending[1:])
        following = {token: add(rest) for token, rest in branches.items()}
        rows.append(following)
        distances.append(1 + min(distances[state] for state in following.values()))
        return len(rows) - 1

    start = add(sequences)
    next_state = np.full((len(rows), len(tokens) + 1), -1, np.int32)
    for state, row in enumerate(rows):
        for token, following in row.items():
            next_state[state, token_class[token]] = following
    return Automaton(token_class, next_state, start, np.array(distances, np.int32))


def _ids(tokenizer: "Tokenizer", choice: str) -> list[int]:
    ids = tokenizer.encode(choice)
    back = tokenizer.decode(ids)
    if not ids or back != choice or tokenizer.eos in ids or tokenizer.pad in ids:
        raise DataError(
            f"choice {choice!r} cannot be written with the model's vocabulary, it reads back as {back!r}: reword it"
        )
    return ids
