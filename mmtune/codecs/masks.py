"""The mask codec: sixteen codes for the mask of an object inside its box, and back.

A codec is a file of arrays. A pretrained PaliGemma writes codes of the public one, the embedded `tiny` those of the
small one that is shipped; codes of one mean nothing to the other, so every codec has a fingerprint to compare.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from mmtune.codecs import mask_network as network
from mmtune.codecs.mask_network import CODES, GRID, SEGMENTS, SIDE

# Masks that go through the network at once: larger batches are no faster and take memory.
_BATCH = 64


class MaskCodec:
    """Codes of masks with the arrays of one file; plain numpy, so that it runs in any process beside any model.

    Args:
        arrays: As `mask_network.shapes` names and shapes them; `mask_files` checks a file's.
        name: "small", "public" or a path: how to ask for this codec again.
        fingerprint: Tells the file's content from any other's.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str, fingerprint: str):
        self.name = name
        self.fingerprint = fingerprint
        self._weights = network.matrices({key: np.asarray(value, np.float32) for key, value in arrays.items()})

    def encode(self, masks: np.ndarray) -> np.ndarray:
        """Returns the codes of masks.

        Args:
            masks: (n, 64, 64), 0 outside to 1 inside, each filling its own box (see `crop_mask`).

        Returns:
            (n, 16) int64, each 0..127, row by row.
        """
        masks = np.asarray(masks, np.float32)
        if masks.ndim != 3 or masks.shape[1:] != (SIDE, SIDE):
            raise ValueError(f"expected masks of shape (n, {SIDE}, {SIDE}). Received: {masks.shape}")
        codes = np.empty((len(masks), SEGMENTS), np.int64)
        for start in range(0, len(masks), _BATCH):
            vectors = network.encode(self._weights, masks[start : start + _BATCH])
            codes[start : start + _BATCH] = network.nearest(self._codebook, vectors).reshape(-1, SEGMENTS)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the masks of codes.

        Args:
            codes: (n, 16) int, each 0..127, row by row.

        Returns:
            (n, 64, 64) float32 in -1..1, inside where above 0 (see `paste_mask`).
        """
        codes = np.asarray(codes)
        sound = codes.ndim == 2 and codes.shape[1] == SEGMENTS
        if not sound or not ((codes >= 0) & (codes < CODES)).all():
            raise ValueError(f"expected codes 0..{CODES - 1} of shape (n, {SEGMENTS}). Received: {codes}")
        masks = np.empty((len(codes), SIDE, SIDE), np.float32)
        for start in range(0, len(codes), _BATCH):
            vectors = self._codebook[codes[start : start + _BATCH].reshape(-1, GRID, GRID)]
            masks[start : start + _BATCH] = network.decode(self._weights, vectors)
        return np.clip(masks, -1.0, 1.0)

    @cached_property
    def _codebook(self) -> np.ndarray:
        return self._weights[network.CODEBOOK]
