"""Rows of segments, and batches of rows as arrays.

A row is a prefix (image and prompt) and one or more suffixes. Each suffix sees the prefix and itself, and its positions
start anew after the prefix: in a prefix language model this is exactly as if each suffix had a row of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtune.data.dense import DenseTargets

PADDING = -1
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
"""The picture of a question about none."""


@dataclass(frozen=True)
class Row:
    """One row before padding.

    Attributes:
        prefix: Prompt ids, bos and closing newline included.
        suffixes: Target ids of each suffix, eos included.
        weights: For each suffix the weights of its tokens in the loss, same lengths.
        image: (size, size, 3) uint8, `NO_PIXELS` for a model that sees and is asked without a picture, or None for text
            models.
        features: (tokens, width) image tokens in place of the picture, or None.
        dense: Targets of dense supervision, or None.
        record: Id of the record, for messages.
        labels: For each suffix what is to be predicted, where that is not what is read, same lengths; None: the suffix.
    """

    prefix: Sequence[int]
    suffixes: Sequence[Sequence[int]]
    weights: Sequence[Sequence[float]]
    image: np.ndarray | None = None
    record: str = ""
    dense: DenseTargets | None = None
    labels: Sequence[Sequence[int]] | None = None
    features: np.ndarray | None = None

    @property
    def text_length(self) -> int:
        """Number of text tokens that enter the model: a suffix's last token is only ever predicted."""
        return len(self.prefix) + sum(len(suffix) - 1 for suffix in self.suffixes)

    @property
    def target_length(self) -> int:
        """Number of predicted tokens."""
        return sum(len(suffix) for suffix in self.suffixes)


Arrays = dict[str, np.ndarray]


def collate(
    rows: Sequence[Row],
    image_tokens: int,
    text_length: int | None = None,
    target_length: int | None = None,
    by_tokens: bool = False,
) -> tuple[Arrays, Arrays]:
    """Pads rows to one shape.

    Args:
        rows: At least one; either all have an image, or image tokens, or none has.
        image_tokens: Number of image tokens before the text, where there is an image.
        text_length, target_length: What to pad to; None: the longest row.
        by_tokens: Whether a suffix counts for as much as its tokens, not as every other.

    Returns:
        inputs: "images" (rows, size, size, 3) uint8 where there are images, "features" (rows, tokens, width) where
        image tokens are known; "token_ids", "positions" and "segments" (rows, text) int32, segments 0 for the prefix,
        1, 2, ... for suffixes, -1 for padding; "targets" (rows, n) int32, indices into image and text tokens of the
        position that predicts each label.
        labels: "labels" (rows, n) int32; "weights" (rows, n) float32, which sum to 1 over each suffix with any weight,
        or are each token's own where tokens count.
    """
    width = text_length or max(row.text_length for row in rows)
    count = target_length or max(row.target_length for row in rows)
    if rows[0].image is not None and rows[0].image.size == 0:
        image_tokens = 0
    shape = (len(rows), width)
    token_ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    segments = np.full(shape, PADDING, np.int32)
    targets, labels = np.zeros((len(rows), count), np.int32), np.zeros((len(rows), count), np.int32)
    weights = np.zeros((len(rows), count), np.float32)
    for r, row in enumerate(rows):
        length = len(row.prefix)
        token_ids[r, :length] = row.prefix
        segments[r, :length] = 0
        positions[r] = image_tokens + np.arange(width)
        at, n = length, 0
        taught = row.suffixes if row.labels is None else row.labels
        parts = zip(row.suffixes, row.weights, taught, strict=True)
        for number, (suffix, token_weights, predicted) in enumerate(parts, start=1):
            inner = len(suffix) - 1
            token_ids[r, at : at + inner] = suffix[:-1]
            segments[r, at : at + inner] = number
            positions[r, at : at + inner] = image_tokens + length + np.arange(inner)
            targets[r, n] = image_tokens + length - 1
            targets[r, n + 1 : n + 1 + inner] = image_tokens + at + np.arange(inner)
            labels[r, n : n + inner + 1] = predicted
            total = sum(token_weights)
            if total > 0:
                weights[r, n : n + inner + 1] = np.asarray(token_weights, np.float64) / (1 if by_tokens else total)
            at, n = at + inner, n + inner + 1
    inputs = {"token_ids": token_ids, "positions": positions, "segments": segments, "targets": targets}
    if rows[0].image is not None:
        inputs["images"] = np.stack([row.image for row in rows if row.image is not None])
    if rows[0].features is not None:
        inputs["features"] = np.stack([row.features for row in rows if row.features is not None])
    return inputs, {"labels": labels, "weights": weights}


def stack_dense(targets: Sequence[DenseTargets | None]) -> Arrays:
    """Returns the members of dense targets as "dense_labels" and so on, with a leading batch axis."""
    known = [target for target in targets if target is not None]
    return {f"dense_{name}": np.stack([getattr(target, name) for target in known]) for name in DenseTargets._fields}


def choose_buckets(lengths: Sequence[int], most: int = 4, multiple: int = 8) -> tuple[int, ...]:
    """Returns at most `most` lengths to pad to, ascending, so that the padding over all rows is least.

    Args:
        lengths: The rows' lengths.
        most: How many shapes may be compiled.
        multiple: Lengths are rounded up to a multiple of this first.

    >>> choose_buckets([3, 5, 30, 31, 100], most=2)
    (32, 104)
    """
    sizes, counts = np.unique([-(-length // multiple) * multiple for length in lengths], return_counts=True)
    n = len(sizes)
    total = np.concatenate([[0], np.cumsum(counts)])
    # cost[k][j]: least padded tokens of the first j sizes in k buckets; each bucket pads to its largest size.
    cost = np.full((most + 1, n + 1), np.inf)
    cost[0, 0] = 0
    start = np.zeros((most + 1, n + 1), int)
    for k in range(1, most + 1):
        for j in range(1, n + 1):
            options = cost[k - 1, :j] + sizes[j - 1] * (total[j] - total[:j])
            start[k, j] = int(np.argmin(options))
            cost[k, j] = options[start[k, j]]
    k, j = int(np.argmin(cost[:, n])), n
    chosen = []
    while j > 0:
        chosen.append(int(sizes[j - 1]))
        k, j = k - 1, start[k, j]
    return tuple(reversed(chosen))
