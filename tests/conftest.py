"""Shared fixtures."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
# Programs that tests and the commands they start compile are compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "mmtune-tests-compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# Each compiled program maps pieces of memory, of which Linux grants a process 65,530: beyond that it crashes.
_MOST_MAPS = 25_000

# Each command that a test starts would compile some four thousand files of Python anew, for six seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A file is one worker's: the longest begin first, so that no worker is left with one while the others are done.
_LONGEST = ("test_resume.py", "test_docs.py", "test_mesh.py", "test_resume_meshes.py", "test_layouts.py", "test_fit.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Lets go of what a module compiled, where there is much of it."""
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def quick_compiles() -> Iterator[None]:
    """Compiles what a module, and each command that it starts, runs with few optimisations: in half of the time.

    For tests of what runs write, save and say. Those of numbers, speed and memory take programs as users have them.
    """
    import jax

    name = "jax_disable_most_optimizations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "1")
        jax.config.update(name, True)
        yield
        jax.config.update(name, False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets and gold scores beside the checkout, which is no part of the project."""
    folder = Path(os.environ.get("MMTUNE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are absent ({folder}); set MMTUNE_SHARED_DATA to their folder")
    return folder
