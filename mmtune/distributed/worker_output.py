"""What a worker prints, without the lines that libraries print in every process of a run."""

import asyncio
import re
from collections.abc import Callable
from typing import BinaryIO

_CHATTER = re.compile(rb"\[Gloo\] Rank \d+ is connected to")
# How JAX' coordination service and the absl library print that they end the process, with the stack.
_ABORT = re.compile(rb"[EFW]\d{4} \d\d:\d\d:\d\d\.\d+ .*|    @ +0x[0-9a-f]+ .*|\*\*\* Check failure stack trace.*")
_WARNING = re.compile(rb"W\d{4} .*")


async def relay(source: asyncio.StreamReader, sink: BinaryIO, peer_failed: Callable[[], bool]) -> None:
    """Passes lines on until the source ends.

    Args:
        source: What the worker prints.
        sink: Where it goes.
        peer_failed: Whether another process has ended the run: then what JAX prints of it is left out.
    """
    held: list[bytes] = []
    pending = b""
    while chunk := await source.read(2**16):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if _CHATTER.match(line):
                continue
            if _ABORT.fullmatch(line.rstrip(b"\r")):
                held.append(line)
                continue
            _write(sink, line + b"\n")
        if len(pending) > 2**16 or b"\r" in pending:  # a bar that is drawn over
            _write(sink, pending)
            pending = b""
    if not peer_failed():
        for line in held:
            _write(sink, line + b"\n")
    if pending:
        _write(sink, pending)


def _write(sink: BinaryIO, data: bytes) -> None:
    try:
        sink.write(data)
        sink.flush()
    except (OSError, ValueError):
        return  # nobody reads any more
