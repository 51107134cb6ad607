"""By what kept image tokens are found again: all that they depend on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backbones import make
from PIL import Image

from mmtune.data.images import BytesPicture, FilePicture
from mmtune.model import Model
from mmtune.models.spec import read_spec
from mmtune.models.tiny import tiny_tokenizer
from mmtune.training.feature_store import DiskStore, MemoryStore
from mmtune.training.features import _digest


@pytest.fixture(scope="module")
def backbone():
    return make("paligemma", vocabulary_size=2176, num_layers=1, vit_num_layers=1)


def digest(backbone, precision="float32", **vision):
    spec = read_spec(backbone)
    spec = replace(spec, vision=replace(spec.vision, **vision))
    return _digest(Model(backbone, tiny_tokenizer(), name="small", precision=precision, spec=spec))


def test_every_choice_of_the_preparation_counts(backbone):
    changes = [
        {},
        {"precision": "bfloat16"},
        {"resample": "bicubic"},
        {"mean": (0.4, 0.5, 0.5)},
        {"std": (0.4, 0.5, 0.5)},
        {"draft": True},
        {"norm_epsilon": 1e-5},
    ]
    found = [digest(backbone, **change) for change in changes]
    assert len(set(found)) == len(changes)
    assert found[0] == digest(backbone)


def test_a_picture_as_stored_is_not_the_picture_upright(tmp_path):
    file = Path(tmp_path) / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(file, exif=exif)
    upright, stored, bare = FilePicture(file), FilePicture(file, upright=False), BytesPicture(file.read_bytes(), "b")
    assert upright.open().size != stored.open().size
    disk = DiskStore(tmp_path / "kept", "tower", (2, 3), np.dtype(np.float32), limit=1e6)
    memory = MemoryStore((2, 3), np.dtype(np.float32))
    for store in (disk, memory):
        assert store.key(upright) != store.key(stored)
    assert disk.key(upright) == disk.key(bare)
    assert disk.key(upright) != DiskStore(tmp_path, "other", (2, 3), np.dtype(np.float32), limit=1e6).key(upright)
