"""Shared fixtures."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
# Programs that tests and the commands they start compile are compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "mmtune-tests-compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets and gold scores beside the checkout, which is no part of the project."""
    folder = Path(os.environ.get("MMTUNE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are absent ({folder}); set MMTUNE_SHARED_DATA to their folder")
    return folder
