"""Image tokens of a frozen tower, computed once: steps then begin behind it, on the very same numbers."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.data.augment import Augment
from mmtune.data.pixels import to_square
from mmtune.decoding.engine import encode
from mmtune.distributed.processes import is_distributed
from mmtune.errors import DataError
from mmtune.files import cache_folder
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.recipe import Recipe
from mmtune.records import Record
from mmtune.training.example_stream import Gathered
from mmtune.training.examples import Example
from mmtune.training.feature_store import GIB, DiskStore, MemoryStore, identity
from mmtune.training.model import tower_is_frozen
from mmtune.training.plan import Batch

_ENCODED = 16  # pictures at once
_LEAST_USES = 1.5  # of a picture in a run, on average


class Features:
    """Image tokens by picture.

    Args:
        model: The model, whose tower is frozen.
        store: Where they are kept.
    """

    def __init__(self, model: Model, store: MemoryStore | DiskStore):
        assert model.spec.vision is not None
        assert model.image_size is not None
        self._model, self._store = model, store
        self._vision = model.spec.vision
        self._keys: dict[Hashable, Hashable] = {}

    @property
    def blank(self) -> np.ndarray:
        """Those of no picture, (tokens, width) of zeros."""
        return np.zeros(self._store.shape, self._store.dtype)

    def of(self, record: Record) -> np.ndarray:
        """Returns (tokens, width) of a record's picture.

        Raises:
            DataError: When it cannot be decoded.
        """
        key = self._key(record)
        found = self._store.get(key)
        if found is None:  # it has gone from the disk
            found = self._encoded([self._pixels(record)])[0]
        return found

    def fill(self, records: Sequence[Record], on_done: Callable[[int], None] = lambda _: None) -> None:
        """Encodes the pictures of records that are not kept yet; those that cannot be decoded are passed over.

        On a disk that is full it ends early: the rest is encoded when it is asked for.

        Args:
            records: Any, of the same picture too.
            on_done: Called with the number of records that are done.
        """
        waiting: dict[Hashable, np.ndarray] = {}
        with ThreadPoolExecutor(2) as pool:
            self._store.make_room({key for key in pool.map(self._known, records) if key is not None})
            for start in range(0, len(records), 4 * _ENCODED):
                chunk = records[start : start + 4 * _ENCODED]
                for key, pixels in pool.map(self._missing, chunk):
                    if key is not None and pixels is not None and key not in waiting:
                        waiting[key] = pixels
                    if len(waiting) == _ENCODED and not self._keep(waiting):
                        return
                on_done(start + len(chunk))
        self._keep(waiting)

    def _missing(self, record: Record) -> tuple[Hashable | None, np.ndarray | None]:
        """Returns the key of a picture and its pixels, None where they are not needed or not to be had."""
        try:
            key = self._key(record)
            return (key, None) if self._store.get(key) is not None else (key, self._pixels(record))
        except DataError:
            return None, None

    def _known(self, record: Record) -> Hashable | None:
        """Returns the key of a picture, None where it cannot be read."""
        try:
            return self._key(record)
        except DataError:
            return None

    def _key(self, record: Record) -> Hashable:
        if record.picture is None:
            raise DataError(f"{record.source}: record {record.id} has no picture")
        own = identity(record.picture)
        if own not in self._keys:
            try:
                self._keys[own] = self._store.key(record.picture)
            except OSError as error:
                raise DataError(f"{record.picture.name}: cannot be read: {error.strerror}") from error
        return self._keys[own]

    def _pixels(self, record: Record) -> np.ndarray:
        assert record.picture is not None
        return to_square(record.picture, self._vision.image_size, self._vision.resample, self._vision.draft)

    def _keep(self, waiting: dict[Hashable, np.ndarray]) -> bool:
        """Encodes and keeps what waits; returns whether there was room."""
        if waiting:
            encoded = self._encoded(list(waiting.values()))
            try:
                for key, features in zip(waiting, encoded, strict=False):
                    self._store.put(key, features)
            except OSError:
                return False
            waiting.clear()
        return True

    def _encoded(self, pixels: list[np.ndarray]) -> np.ndarray:
        """Returns (at least as many, tokens, width); batches are filled up so that one shape is compiled."""
        pixels = [*pixels, *[pixels[-1]] * (_ENCODED - len(pixels))]
        weights = self._model.weights()
        encoded = encode(
            weights.tree, weights.spec, jnp.asarray(np.stack(pixels)), NO_ADAPTER, dtype=jnp.dtype(weights.dtype)
        )
        return np.asarray(encoded)


def choose_features(
    recipe: Recipe, model: Model, examples: Gathered, plan: Sequence[Batch], step: int, needs_picture: bool
) -> tuple[Features | None, list[Record], str]:
    """Decides whether image tokens are kept, and where.

    Args:
        recipe: The run.
        model: The model, with its adapter.
        examples: What the run trains on.
        plan: The whole run: one that is gone on with decides as it did when it was begun, and so repeats its numbers.
        step: Batches that are done.
        needs_picture: Whether the task has pictures.

    Returns:
        The image tokens, none yet, or None; a record for each picture that is left to encode; a sentence on the choice,
        or "".
    """
    wanted = recipe.cache.features
    if wanted == "off":
        return None, [], ""
    reason = _why_not(recipe, model, needs_picture, examples)
    if reason:
        told = f"image tokens are not kept (cache.features = {wanted}): {reason}"
        return None, [], "" if wanted == "auto" else told
    assert model.spec.vision is not None
    members = [index for batch in plan for index, _ in batch.members]
    records = _pictures(examples.known, members)
    wanted_now = list(_pictures(examples.known, members[step * recipe.batch_size :]).values())
    shape, dtype = (model.spec.image_tokens, model.spec.text.hidden_dim), jnp.dtype(recipe.precision)
    gib = len(records) * int(np.prod(shape)) * dtype.itemsize / GIB
    if wanted == "disk":
        if gib > recipe.cache.disk_gib:
            told = f"image tokens are not kept: they take {gib:.1f} GiB, cache.disk_gib is {recipe.cache.disk_gib:g}"
            return None, [], told
        folder, limit = Path(recipe.cache.folder or cache_folder("features")), recipe.cache.disk_gib * GIB
        store = DiskStore(folder, _digest(model), shape, dtype, limit)
        told = f"image tokens of {len(records):,} pictures are kept in {store.folder} ({gib:.2f} GiB)"
        return Features(model, store), wanted_now, told
    if wanted == "auto" and len(members) < _LEAST_USES * len(records):
        return None, [], ""  # a picture that is seen once is encoded once either way
    if gib > recipe.cache.memory_gib:
        told = f"image tokens take {gib:.1f} GiB, cache.memory_gib is {recipe.cache.memory_gib:g}: they are not kept"
        return None, [], f"{told}; cache.features=disk keeps them in files"
    return Features(model, MemoryStore(shape, dtype)), wanted_now, ""


def _pictures(examples: Sequence[Example], members: Sequence[int]) -> dict[Hashable, Record]:
    """Returns a record for each picture of some examples."""
    records = (examples[index].record for index in members)
    return {identity(record.picture): record for record in records if record.picture is not None}


def _why_not(recipe: Recipe, model: Model, needs_picture: bool, examples: Gathered) -> str:
    """Returns why image tokens would be wrong or are not there, "" where they can be kept."""
    if model.spec.vision is None or not needs_picture:
        return "there are no pictures"
    if not tower_is_frozen(recipe, model.lora):
        return "the vision tower is tuned"
    if recipe.augment != Augment():
        return "pictures are augmented"
    if is_distributed():
        return "several hosts train"
    if examples.all is not examples.known:
        return f"{len(examples.all):,} records are too many"
    return ""


def _digest(model: Model) -> str:
    """Returns a digest of all that image tokens depend on besides the picture."""
    digest = hashlib.blake2b(digest_size=16)
    weights = model.weights()
    digest.update(f"1 {weights.spec.vision} {model.image_size} {jnp.dtype(weights.dtype)}".encode())
    for array in jax.tree.leaves(weights.tree["vision"]):
        digest.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return digest.hexdigest()
