"""Token automata that constrain decoding to well-formed lists of objects with known labels.

A list is what the regular expression `(object (" ; " object)*)? eos pad*` says, where an object is four location
tokens, for masks sixteen segmentation tokens, and a label. Tokens that behave alike share a class, and states with the
same future are one state, so that the tables stay small beside a vocabulary of 257,152.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmtune.codecs.boxes import LOCATIONS, SEGMENT_CODES, SEPARATOR, label_problem
from mmtune.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from mmtune.models.tokenizer import Tokenizer

_NEVER, _LOC, _SEG, _EOS, _PAD = range(5)
_FAR = np.iinfo(np.int32).max // 2


@dataclass(frozen=True, eq=False)
class Automaton:
    """Which token may follow which, in tables that an accelerator can gather from.

    Attributes:
        token_class: (V,) int32, the class 0..C-1 of each token of the vocabulary; 0: never allowed.
        next_state: (S, C) int32, the state after a token of the class; -1: forbidden.
        start: The state before the first token.
        distance: (S,) int32, fewest tokens to the end, end-of-sequence included; 0 in the final state, where only
            padding follows.
        fill: Whether the end is forbidden as long as anything else still fits what remains (the noise-box recipe).
        locations: Id of the first of 1,024 location tokens; -1: there are none.
        tolerance: Greedy decoding writes the location around which most probability lies within so many bins; 0: the
            likeliest.
    """

    token_class: np.ndarray
    next_state: np.ndarray
    start: int
    distance: np.ndarray
    fill: bool = False
    locations: int = -1
    tolerance: int = 0

    def allowed(self, state: int, remaining: int) -> np.ndarray:
        """Returns which tokens may come next: those from which the end is still within reach.

        Args:
            state: The current state.
            remaining: How many tokens may still be written, the next one and end-of-sequence included. With fewer than
                `distance[state]` nothing is allowed.

        Returns:
            (V,) bool.
        """
        following = self.next_state[state]
        fits = (following >= 0) & (self.distance[following] <= remaining - 1)
        goes_on = fits & (self.distance[following] > 0)
        if self.fill and goes_on.any():
            fits = goes_on
        return fits[self.token_class]

    def advance(self, state: int, token: int) -> int:
        """Returns the state after a token, or -1 when the token is forbidden there."""
        return int(self.next_state[state, self.token_class[token]])

    def accepts(self, ids: Sequence[int]) -> bool:
        """Whether the ids are a whole sequence, end-of-sequence included and padding allowed, whatever the budget."""
        state = self.start
        for token in ids:
            state = self.advance(state, token)
            if state < 0:
                return False
        return bool(self.distance[state] == 0)


def object_grammar(
    tokenizer: "Tokenizer",
    labels: Sequence[str],
    segments: int = 0,
    fill: bool = False,
    allow_empty: bool = True,
    tolerance: int = 0,
) -> Automaton:
    """Returns the grammar of a list of objects with one of the given labels each.

    Args:
        tokenizer: A vocabulary with location (and segmentation) tokens.
        labels: The labels that may be written; labels that begin like others are fine.
        segments: How many segmentation tokens stand between box and label: 0 for boxes, 16 for masks.
        fill: Forbid the end as long as anything else fits.
        allow_empty: Whether the list may be empty.
        tolerance: See `Automaton`.

    Raises:
        ModelError: The vocabulary lacks location or segmentation tokens.
        DataError: A label cannot be written with this vocabulary.
        UsageError: Neither a label nor the empty list is allowed.
    """
    _check_tokens(tokenizer, segments)
    if not labels and not allow_empty:
        raise UsageError("a list of objects needs at least one label, or must be allowed to be empty")
    build = _Builder(tokenizer)
    final = build.reserve()
    build.states[final] = {build.class_of(tokenizer.pad): final}
    start = {_EOS: final} if allow_empty else {}
    if labels:
        # The state after an object's first location token: labels lead back to it, and it leads on to them.
        begun = build.reserve()
        state = _add_labels(build, tokenizer, labels, {_EOS: final, _LOC: begun})
        for cls, count in ((_SEG, segments), (_LOC, 2)):
            for _ in range(count):
                state = build.add({cls: state})
        build.states[begun] = {_LOC: state}
        start[_LOC] = begun
    return build.automaton(build.add(start), fill, tolerance)


def unnamed_grammar(tokenizer: "Tokenizer", segments: int) -> Automaton:
    """Returns the grammar of one object without a label, the answer to a referring expression.

    Args:
        tokenizer: A vocabulary with location and segmentation tokens.
        segments: How many segmentation tokens follow the four of the box.

    Raises:
        ModelError: The vocabulary lacks location or segmentation tokens.
    """
    _check_tokens(tokenizer, segments)
    build = _Builder(tokenizer)
    final = build.reserve()
    build.states[final] = {build.class_of(tokenizer.pad): final}
    state = build.add({_EOS: final})
    for cls, count in ((_SEG, segments), (_LOC, 4)):
        for _ in range(count):
            state = build.add({cls: state})
    return build.automaton(state)


def _check_tokens(tokenizer: "Tokenizer", segments: int) -> None:
    if tokenizer.loc is None or (segments and tokenizer.seg is None):
        raise ModelError(
            "the model's vocabulary has no location or segmentation tokens, so it cannot write boxes or masks: use a "
            "PaliGemma checkpoint"
        )


def _add_labels(build: "_Builder", tokenizer: "Tokenizer", labels: Sequence[str], after: dict[int, int]) -> int:
    """Adds the states that read a label and what follows it, up to the classes in `after`; returns the first."""
    root: dict[int, dict] = {}
    for label in labels:
        if problem := label_problem(label):
            raise DataError(problem)
        for separator, cls in (("", _EOS), (SEPARATOR, _LOC)):
            node = root
            for token in _in_context(tokenizer, label, separator):
                node = node.setdefault(build.class_of(token), {})
            node[cls] = {}

    def fold(node: dict[int, dict]) -> int:
        # From the leaves on, so that equal endings become one state.
        return build.add({cls: after[cls] if cls in after else fold(below) for cls, below in node.items()})

    return fold(root)


def _in_context(tokenizer: "Tokenizer", label: str, separator: str) -> list[int]:
    """Returns the ids of a label and a separator as they stand in a target, between location tokens or at its end.

    The two are tokenised together because pieces may merge across the border.
    """
    text = f" {label}{separator}"
    ids = tokenizer.encode(f"<loc0000>{text}<loc0000>")[1:-1] if separator else tokenizer.encode(f"<loc0000>{text}")[1:]
    if tokenizer.eos in ids:
        raise DataError(f"label {label!r} holds the token that ends answers: rename the class")
    if (back := tokenizer.decode(ids)) != text:
        raise DataError(
            f"label {label!r} cannot be written with the model's vocabulary, it reads back as {back.strip()!r}: "
            "rename the class"
        )
    return ids


class _Builder:
    """Collects states and token classes."""

    def __init__(self, tokenizer: "Tokenizer"):
        self.states: list[dict[int, int]] = []
        self._known: dict[frozenset[tuple[int, int]], int] = {}
        self._classes = _PAD + 1
        self._token_class = np.zeros(tokenizer.vocabulary_size, np.int32)
        self._locations = -1 if tokenizer.loc is None else tokenizer.loc
        # What fills rows may be another token as well, the end for one: its class is then that token's.
        self._token_class[tokenizer.pad] = _PAD
        for first, count, cls in ((tokenizer.loc, LOCATIONS, _LOC), (tokenizer.seg, SEGMENT_CODES, _SEG)):
            if first is not None:
                self._token_class[first : first + count] = cls
        self._token_class[tokenizer.eos] = _EOS

    def class_of(self, token: int) -> int:
        """Returns the class of a label's token, a new one for a new token."""
        if self._token_class[token] == _NEVER:
            self._token_class[token] = self._classes
            self._classes += 1
        return int(self._token_class[token])

    def reserve(self) -> int:
        """Returns the number of a state whose transitions (class -> state) are set later."""
        self.states.append({})
        return len(self.states) - 1

    def add(self, transitions: dict[int, int]) -> int:
        """Returns the number of a state with these transitions, that of an earlier one where there is an equal one."""
        key = frozenset(transitions.items())
        if key not in self._known:
            self._known[key] = self.reserve()
            self.states[-1] = transitions
        return self._known[key]

    def automaton(self, start: int, fill: bool = False, tolerance: int = 0) -> Automaton:
        """Returns the tables."""
        table = np.full((len(self.states), self._classes), -1, np.int32)
        for state, transitions in enumerate(self.states):
            for cls, following in transitions.items():
                table[state, cls] = following
        return Automaton(self._token_class, table, start, _distances(table), fill, self._locations, tolerance)


def _distances(next_state: np.ndarray) -> np.ndarray:
    """Returns (S,) int32, fewest tokens from each state to state 0, the final one."""
    distance = np.full(len(next_state), _FAR, np.int32)
    distance[0] = 0
    while True:
        onwards = np.where(next_state >= 0, distance[next_state], _FAR).min(axis=1) + 1
        shorter = np.minimum(distance, onwards.astype(np.int32))
        if np.array_equal(shorter, distance):
            return distance
        distance = shorter
