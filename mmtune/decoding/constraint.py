"""An automaton on the device: which tokens may follow, row by row."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.codecs.boxes import LOCATIONS
from mmtune.codecs.grammar import Automaton
from mmtune.decoding.buckets import table_size
from mmtune.decoding.sampling import FORBIDDEN

Array = jax.Array

_NEARLY = 1e-3


class Constraint(NamedTuple):
    """An automaton as arrays; padded to sizes of which few exist, so that grammars share compiled programs.

    Attributes:
        token_class: (vocabulary,) int32.
        kindred: (vocabulary,) bool: the token's class has others.
        next_state: (states, classes) int32, -1 forbidden.
        distance: (states,) int32, fewest tokens to the end.
        start: (batch,) int32, the state of each row before its first token.
        fill: () bool: the end is forbidden while anything else is allowed.
        eos: () int32, the token that ends.
        locations: () int32, the first of the location tokens; -1: there are none.
        tolerance: () int32, see `mmtune.codecs.grammar.Automaton`.
    """

    token_class: Array
    kindred: Array
    next_state: Array
    distance: Array
    start: Array
    fill: Array
    eos: Array
    locations: Array
    tolerance: Array


def on_device(automaton: Automaton, vocabulary_size: int, eos: int) -> Constraint:
    """Returns the automaton as device arrays, for a batch of one; tokens beyond its vocabulary are forbidden."""
    states, classes = automaton.next_state.shape
    table = np.full((table_size(states), table_size(classes)), -1, np.int32)
    table[:states, :classes] = automaton.next_state
    distance = np.zeros(table.shape[0], np.int32)
    distance[:states] = automaton.distance
    token_class = np.zeros(vocabulary_size, np.int32)
    token_class[: len(automaton.token_class)] = automaton.token_class
    return Constraint(
        jnp.asarray(token_class),
        jnp.asarray(np.bincount(token_class)[token_class] > 1),
        jnp.asarray(table),
        jnp.asarray(distance),
        jnp.asarray([automaton.start], jnp.int32),
        jnp.asarray(automaton.fill),
        jnp.int32(eos),
        jnp.int32(automaton.locations),
        jnp.int32(automaton.tolerance),
    )


def allowed(constraint: Constraint, state: Array, remaining: Array) -> Array:
    """Returns (batch, vocabulary) bool: tokens after which an end can still be reached in time.

    Args:
        constraint: The automaton.
        state: (batch,) int32.
        remaining: () or (batch,) int32, how many tokens may still be written, this one included.
    """
    following = constraint.next_state[state]
    budget = jnp.broadcast_to(remaining, state.shape)[:, None] - 1
    open_ = (following >= 0) & (constraint.distance[following] <= budget)
    eos_class = constraint.token_class[constraint.eos]
    is_eos = jnp.arange(open_.shape[1]) == eos_class
    more = jnp.any(open_ & ~is_eos, axis=1, keepdims=True)
    open_ = jnp.where(constraint.fill & more, open_ & ~is_eos, open_)
    return jnp.take(open_, constraint.token_class, axis=1) & (constraint.token_class > 0)


def likeliest_kind(constraint: Constraint, logits: Array) -> Array:
    """Returns the logits with those tokens forbidden that are not of the likeliest kind.

    Where a list of boxes may end or go on, the end is one token, and going on is spread over a thousand locations. The
    likeliest single token would end lists that go on with a probability of nine in ten. So tokens of one class, which
    lead to the same state, count together.

    Args:
        constraint: The automaton; of its classes with several tokens, no state allows more than one.
        logits: (batch, vocabulary) float32; forbidden tokens at `FORBIDDEN`.
    """
    together = jax.nn.logsumexp(jnp.where(constraint.kindred, logits, FORBIDDEN), axis=1)
    alone = jnp.max(jnp.where(constraint.kindred, FORBIDDEN, logits), axis=1)
    chosen = (together > alone)[:, None] == constraint.kindred
    return jnp.where(chosen, logits, FORBIDDEN)


def likeliest_stretch(constraint: Constraint, logits: Array) -> Array:
    """Returns the logits with all locations forbidden but the middle of the likeliest stretch of them.

    A model that is unsure of an edge spreads it over many bins, and the likeliest one may be a lone peak elsewhere. Of
    stretches that are nearly as likely the one with the likelier middle is taken.

    Args:
        constraint: The automaton, which says how long a stretch is.
        logits: (batch, vocabulary) float32; forbidden tokens at `FORBIDDEN`.
    """
    if logits.shape[1] < LOCATIONS:
        return logits
    first, reach = jnp.maximum(constraint.locations, 0), constraint.tolerance
    part = jax.lax.dynamic_slice_in_dim(logits, first, LOCATIONS, axis=1)
    bins = jnp.arange(LOCATIONS)
    share = jax.nn.softmax(part)
    below = jnp.pad(jnp.cumsum(share, axis=1), ((0, 0), (1, 0)))
    mass = below[:, jnp.minimum(bins + reach + 1, LOCATIONS)] - below[:, jnp.maximum(bins - reach, 0)]
    mass *= 1 + _NEARLY * share / jnp.max(share, axis=1, keepdims=True)
    middle = bins == jnp.argmax(mass, axis=1)[:, None]
    chosen = jax.lax.dynamic_update_slice_in_dim(logits, jnp.where(middle, part, FORBIDDEN), first, axis=1)
    asked = (constraint.locations >= 0) & (reach > 0) & (jnp.max(part, axis=1) > FORBIDDEN / 2)
    return jnp.where(asked[:, None], chosen, logits)


def advance(constraint: Constraint, state: Array, token: Array) -> Array:
    """Returns (batch,) int32: the state after each row's token."""
    return constraint.next_state[state, constraint.token_class[token]]
