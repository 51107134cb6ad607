"""Bytes that are uploaded are bounded over time: what was sent lies on the disk until it is removed by its age."""

import time
from collections import deque
from collections.abc import Callable

from .host_check import App, Message, Receive, Send, refuse
from .limits import LIMITS, Limits

_PATH = "/gradio_api/upload"


class UploadQuota:
    """ASGI middleware: once an address, or all together, sent too much, further uploads are refused for a while.

    Args:
        app: What is behind it.
        limits: `sent_bytes` of an address and `all_sent_bytes` of all, within `seconds`.
        seconds: How long uploaded files lie on the disk at most.
        clock: Seconds, growing.
    """

    def __init__(
        self, app: App, limits: Limits = LIMITS, seconds: float = 7200, clock: Callable[[], float] = time.monotonic
    ):
        self._app, self._limits, self._seconds, self._clock = app, limits, seconds, clock
        self._sent: deque[tuple[float, str, int]] = deque()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on and counts its bytes, or answers it with 429."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != _PATH:
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("",))[0]
        while self._sent and self._sent[0][0] <= self._clock() - self._seconds:
            self._sent.popleft()
        own = sum(size for _, whose, size in self._sent if whose == address)
        total = sum(size for _, _, size in self._sent)
        if own >= self._limits.sent_bytes or total >= self._limits.all_sent_bytes:
            await refuse(send, 429, "too much was uploaded: uploaded files are removed after two hours; try again then")
            return

        count = 0

        async def counting() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            return message

        try:
            await self._app(scope, counting, send)
        finally:
            self._sent.append((self._clock(), address, count))
