"""A page served from this process, for tests that are its clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def served(runs: Path, **settings: Any) -> Iterator[Any]:
    """Yields a server on a free port of this machine."""
    from mmtune.demos.app import Settings, serve

    server = serve(Settings(port=0, runs=runs, **settings))
    try:
        server.ready()
        yield server
    finally:
        server.close()
