"""What the processes of one run compare before the first step: the recipe, their devices, files and data."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmtune.distributed.agreement import agree, stated, versions
from mmtune.distributed.processes import is_distributed
from mmtune.distributed.shared_folder import check_shared_folder
from mmtune.distributed.worker import worker
from mmtune.model import Model
from mmtune.models.file_digest import file_digests
from mmtune.recipe import Recipe
from mmtune.records import Record
from mmtune.settings import plain
from mmtune.training.example_stream import Gathered

_MOST_RECORDS = 10_000
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl")


def agree_on_recipe(recipe: Recipe, model: Model | str | None, flags: dict[str, Any]) -> None:
    """Compares what the run is to be, before anything is read; checks that the run's folder is one for all.

    Args:
        recipe: The run.
        model: What is trained in place of what the recipe names.
        flags: How it is begun, such as whether it is resumed.

    Raises:
        UsageError: Where processes differ; in all of them the same.
    """
    if not is_distributed():
        return
    import jax
    import keras

    settings = {f"setting {name}": getattr(jax.config, name) for name in _SETTINGS}
    settings |= {"floatx of Keras": keras.config.floatx(), "dtype policy of Keras": keras.config.dtype_policy().name}
    own = jax.local_devices()
    devices = {"number of devices": len(own), "kind of devices": own[0].device_kind, "platform": own[0].platform}
    agree("joined", versions() | stated(plain(recipe) | flags | settings | devices))
    check_shared_folder(Path(recipe.out))
    if not isinstance(model, Model):
        files = file_digests(model or recipe.model, recipe.base)
        agree("looked at the model's files", {f"model file {name}": digest for name, digest in files.items()})


def agree_on_data(model: Model, examples: Gathered, val: Sequence[Record] | None) -> None:
    """Compares what was read: the examples, the validation records, the vocabulary and the weights.

    Args:
        model: What is trained.
        examples: Of the training data.
        val: The validation records, or None.

    Raises:
        UsageError: Where processes differ; in all of them the same.
    """
    if not is_distributed():
        return
    statement = {
        "training data": f"{len(examples.all):,} examples with the digest "
        f"{_digest([example.record for example in examples.known])}-{examples.fingerprint[:8]}",
        "validation data": f"{len(val):,} records with the digest {_digest(val)}" if val else "none",
        "vocabulary": _hash("\0".join(model.tokenizer.pieces())),
        "architecture": _hash(repr(model.spec)),
    }
    agree("read the data", statement)
    worker().begin("wait", "comparing the weights")
    found = model.fingerprint()
    agree("loaded the model", {"weights": _hash(repr(sorted(found.weights.items())))})


def _digest(records: Sequence[Record]) -> str:
    """Returns a digest of records: their truth in full, their pictures by size where that is known."""
    digest = hashlib.blake2b(digest_size=4)
    for record in records[:_MOST_RECORDS]:
        content = replace(record, picture=None, source="")
        digest.update(repr(content).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()
