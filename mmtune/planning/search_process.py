"""A search in a process of its own, which is ended when its time is up: what is being compiled cannot be interrupted.

    python -m mmtune.planning.search_process SETTINGS

The process prints what it knows as a line of JSON before each compilation and at the end.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mmtune.errors import MmtuneError, UsageError
from mmtune.planning.search import families_of, schemes_of

_TICK = 1.0  # seconds


def search_within(
    asked: Mapping[str, Any], seconds: float, on_change: Callable[[dict[str, Any], float], None]
) -> dict[str, Any]:
    """Returns the figures of a search, as far as it came in so many seconds.

    Args:
        asked: Arguments of `requested`, and the number of "devices".
        seconds: After which the search is ended, whatever it does.
        on_change: Told about every second what is known, and how many seconds have gone.

    Raises:
        UsageError: For what does not exist.
    """
    began = time.monotonic()
    schemes = schemes_of(asked["settings"].get("quantize"), bool(asked["settings"].get("full")))
    untried = [family._asdict() for family in families_of(asked["devices"], schemes)]
    reason = f"not tried: the time was up (--search-seconds {seconds:g})"
    known: dict[str, Any] = {"compiled": 0, "best": [], "left": [], "untried": untried}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={asked['devices']}"
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, json.dumps(asked)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    try:
        while (gone := time.monotonic() - began) < seconds:
            try:
                line = lines.get(timeout=min(_TICK, seconds - gone))
            except queue.Empty:
                on_change(known, gone)
                continue
            if not line:
                break
            told = json.loads(line)
            if "error" in told:
                raise UsageError(told["error"])
            known = told
            on_change(known, gone)
            if "next" not in known:
                break
        else:
            known["next"] = None  # it is ended in the middle of something
        if "next" not in known or known["next"] is not None:
            code = process.wait()
            reason = f"not tried: the process that searches ended with exit code {code}" if code else reason
    finally:
        process.kill()
        process.wait()
    known.pop("next", None)
    known["left"] = [*known["left"], *({**family, "reason": reason} for family in known["untried"])]
    known["not_tried"] = len(known.pop("untried"))
    return known


def main(text: str) -> None:
    """Searches and prints what is known."""
    from mmtune.planning.request import requested
    from mmtune.planning.search_request import searched

    asked = json.loads(text)
    try:
        request = requested(asked["model"], asked["settings"], asked["length"], asked["chip"], asked["memory"])
        searched(request, asked["devices"], lambda known: print(json.dumps(known), flush=True))
    except MmtuneError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
